"""A lean HTTP/1.1 load client: prebuilt requests over kept-alive connections, so that it is not what is measured."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """Rate in requests/s, latencies in milliseconds, bytes received, answers that were not 2xx."""

    rate: float
    p50: float
    p99: float
    received: int
    failed: int


class _Connection(asyncio.BufferedProtocol):
    """Reads an answer's head once, then only counts its body: long answers are neither kept nor searched."""

    def __init__(self) -> None:
        self.space = memoryview(bytearray(512 * 1024))
        self.head = b""
        self.missing = 0  # bytes of the body that are still to come
        self.status = 0
        self.waiting: asyncio.Future[int] | None = None
        self.transport: asyncio.WriteTransport | None = None
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's are none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(exc or ConnectionResetError("closed by the server"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.space

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if self.missing:
            self.missing -= nbytes
        else:
            self.head += bytes(self.space[:nbytes])
            head, end, rest = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            # Every answer that is measured names its length.
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.missing = int(length) - len(rest)
            self.status = int(head[9:12])
            self.head = b""
        if self.missing == 0 and self.waiting is not None:
            self.waiting.set_result(self.status)

    async def ask(self, request: bytes) -> int:
        """Send one request; returns the status once the whole answer is there."""
        assert self.transport is not None
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.waiting


def request(
    method: str,
    path: str,
    host: str,
    body: bytes = b"",
    content_type: str = "application/json",
    accept: str = "application/json",
) -> bytes:
    """An HTTP/1.1 request as bytes."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n"
    if body:
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Pool:
    """Open connections that many tasks share, a request at a time on each."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext) -> None:
        self._address, self._tls = address, tls
        self._all: list[_Connection] = []
        self._free: asyncio.Queue[_Connection] = asyncio.Queue()

    async def open(self, connections: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, made = await loop.create_connection(_Connection, *self._address, ssl=self._tls, server_hostname="")
            self._all.append(made)
            self._free.put_nowait(made)

    async def ask(self, request: bytes) -> int:
        """Send a request as soon as a connection is free; returns the status."""
        connection = await self._free.get()
        status = await connection.ask(request)
        self._free.put_nowait(connection)
        return status

    def close(self) -> None:
        for connection in self._all:
            assert connection.transport is not None
            connection.transport.close()


class Load:
    """Open connections that requests are sent over as fast as they are answered."""

    def __init__(self, connections: list[_Connection]) -> None:
        self._connections = connections

    @classmethod
    async def open(cls, address: tuple[str, int], tls: ssl.SSLContext, connections: int) -> Load:
        loop = asyncio.get_running_loop()
        return cls(
            [
                (await loop.create_connection(_Connection, *address, ssl=tls, server_hostname=""))[1]
                for _ in range(connections)
            ]
        )

    def close(self) -> None:
        for connection in self._connections:
            assert connection.transport is not None
            connection.transport.close()

    async def run(self, make: Callable[[int], bytes], requests: int) -> Figures:
        """Send ``make(0) … make(requests-1)``."""
        numbers = iter(range(requests))
        latencies: list[float] = []
        failed = 0

        async def work(connection: _Connection) -> None:
            nonlocal failed
            for number in numbers:
                began = time.perf_counter()
                status = await connection.ask(make(number))
                latencies.append(time.perf_counter() - began)
                failed += not 200 <= status < 300

        before = sum(connection.received for connection in self._connections)
        began = time.perf_counter()
        await asyncio.gather(*(work(connection) for connection in self._connections))
        took = time.perf_counter() - began
        latencies.sort()
        return Figures(
            rate=requests / took,
            p50=1000 * latencies[len(latencies) // 2],
            p99=1000 * latencies[int(len(latencies) * 0.99)],
            received=sum(connection.received for connection in self._connections) - before,
            failed=failed,
        )


async def run(
    address: tuple[str, int],
    tls: ssl.SSLContext,
    make: Callable[[int], bytes],
    *,
    requests: int,
    connections: int,
) -> Figures:
    """Send ``make(0) … make(requests-1)`` over that many new connections as fast as they are answered."""
    load = await Load.open(address, tls, connections)
    try:
        return await load.run(make, requests)
    finally:
        load.close()
