"""A client that behaves badly, as a process of its own: ``python -m tests.support.noise URL TOKEN CONNECTIONS PATH``.

Every connection asks again as soon as it has its answer. Prints a line once as many as there are connections were
answered 200, and when it is ended one with counts by status and the median of the seconds that these took.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from urllib.parse import urlsplit


@dataclass
class _Heard:
    """What was answered to all connections."""

    connections: int
    counts: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)

    def take(self, status: str, seconds: float) -> None:
        self.counts[status] += 1
        if status == "200":
            self.took.append(seconds)
            if len(self.took) == self.connections:
                print("begun", flush=True)


class _Client:
    """One connection after the other."""

    def __init__(self, url: str, token: str, path: str, heard: _Heard) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        self._heard = heard
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    async def run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=1 << 22)
            except OSError:
                await asyncio.sleep(0.5)
                continue
            try:
                while True:
                    await self._ask(reader, writer)
            except (OSError, ValueError, asyncio.IncompleteReadError):  # ValueError: half a line at the end
                self._heard.counts["closed"] += 1
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = time.perf_counter()
        writer.write(self._head)
        answer = await reader.readuntil(b"\r\n\r\n")
        self._heard.take(answer.split(b" ", 2)[1].decode(), time.perf_counter() - began)
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:] if b": " in line)
        if b"content-length" in fields:
            await self._skip(reader, int(fields[b"content-length"]))
            return
        while size := int(await reader.readline(), 16):
            await self._skip(reader, size + 2)
        await reader.readline()

    @staticmethod
    async def _skip(reader: asyncio.StreamReader, left: int) -> None:
        while left:
            data = await reader.read(min(left, 1 << 20))
            if not data:
                raise OSError("closed")
            left -= len(data)


async def _main(url: str, token: str, connections: int, path: str) -> None:
    heard = _Heard(connections)
    tasks = [asyncio.create_task(_Client(url, token, path, heard).run()) for _ in range(connections)]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    print(json.dumps({"counts": heard.counts, "seconds": median(heard.took or [0.0])}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
