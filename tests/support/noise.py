"""A client that behaves badly, as a process of its own: ``python -m tests.support.noise URL TOKEN CONNECTIONS PATH``.

Every connection asks again as soon as it has its answer. Prints a line once there were as many answers as connections,
and when it is ended one with counts by status and the median of the seconds that answers took.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import time
from collections import Counter
from statistics import median
from urllib.parse import urlsplit


class _Heard:
    """What was answered to all connections."""

    def __init__(self, connections: int) -> None:
        self.counts: Counter[str] = Counter()
        self.took: list[float] = []
        self._connections = connections

    def take(self, status: str, seconds: float) -> None:
        self.counts[status] += 1
        if status == "200":
            self.took.append(seconds)
            if len(self.took) == self._connections:
                print("begun", flush=True)


async def _ask(host: str, port: int, token: str, path: str, heard: _Heard) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=trusting)
        except OSError:
            await asyncio.sleep(0.5)
            continue
        try:
            while True:
                began = time.perf_counter()
                writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                heard.take(head.split(b" ", 2)[1].decode(), time.perf_counter() - began)
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                left = int(fields.get(b"content-length", b"0"))
                while left:
                    data = await reader.read(min(left, 1 << 20))
                    if not data:
                        raise OSError("closed")
                    left -= len(data)
        except (OSError, asyncio.IncompleteReadError):
            heard.counts["closed"] += 1
        finally:
            writer.close()


async def _main(url: str, token: str, connections: int, path: str) -> None:
    parts = urlsplit(url)
    heard = _Heard(connections)
    tasks = [
        asyncio.create_task(_ask(parts.hostname or "", parts.port or 443, token, path, heard))
        for _ in range(connections)
    ]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    print(json.dumps({"counts": heard.counts, "seconds": median(heard.took)}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
