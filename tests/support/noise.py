"""A client that behaves badly, as a process of its own: ``python -m tests.support.noise URL TOKEN CONNECTIONS PATH``.

Every connection asks again as soon as it has its answer. Prints a line once there were as many answers as connections,
and when it is ended one with counts by status and the median of the seconds that answers took. Options say what else
is asked; ``{n}`` in the path and in the body is another number each time, ``{c}`` the connection's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit


@dataclass
class _Heard:
    """What was answered to all connections."""

    connections: int
    counts: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    answers: int = 0

    def take(self, status: str, seconds: float) -> None:
        self.counts[status] += 1
        self.answers += 1
        if status.startswith("2"):
            self.took.append(seconds)
        if self.answers == self.connections:
            print("begun", flush=True)


class _Client:
    """One connection after the other."""

    def __init__(self, asked: argparse.Namespace, heard: _Heard, number: int, numbers: count[int]) -> None:
        parts = urlsplit(asked.url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._asked = asked
        self._heard = heard
        self._number = number
        self._numbers = numbers
        self._body = asked.body.read_bytes() if asked.body else b""
        self._headers = "".join(f"{header}\r\n" for header in (f"Authorization: Bearer {asked.token}", *asked.header))
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
                await self._ask(reader, writer)
                while not self._asked.anew:
                    await self._ask(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                self._heard.counts["closed"] += 1
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = time.perf_counter()
        number = str(next(self._numbers))
        path = self._asked.path.replace("{n}", number).replace("{c}", str(self._number))
        body = self._body.replace(b"{n}", number.encode()).replace(b"{c}", str(self._number).encode())
        head = f"{self._asked.method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{self._headers}\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = answer.split(b" ", 2)[1].decode()
        if not self._asked.until:
            self._heard.take(status, time.perf_counter() - began)
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:] if b": " in line)
        if b"content-length" in fields:
            await self._read(reader, int(fields[b"content-length"]))
            return
        tail = b""
        while size := int(await reader.readline(), 16):
            data = await self._read(reader, size + 2, keep=bool(self._asked.until))
            if self._asked.until and self._asked.until.encode() in (tail := tail[-200:] + data):
                self._heard.take(status, time.perf_counter() - began)
                raise OSError("heard enough")
        await reader.readline()

    @staticmethod
    async def _read(reader: asyncio.StreamReader, left: int, *, keep: bool = False) -> bytes:
        kept = b""
        while left:
            data = await reader.read(min(left, 1 << 20))
            if not data:
                raise OSError("closed")
            left -= len(data)
            if keep:
                kept += data
        return kept


async def _main(asked: argparse.Namespace) -> None:
    heard, numbers = _Heard(asked.connections), count()
    clients = [_Client(asked, heard, number, numbers) for number in range(asked.connections)]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    print(json.dumps({"counts": heard.counts, "seconds": median(heard.took or [0.0])}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("connections", type=int)
    parser.add_argument("path")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--body", type=Path, help="a file")
    parser.add_argument("--anew", action="store_true", help="a connection for each request")
    parser.add_argument("--until", default="", help="text of a stream after which it is closed")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_main(_arguments()))
