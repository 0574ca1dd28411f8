"""Bytes in both directions, whatever carries them: a connection taken over from the HTTP server, or a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import WSMsgType, web

READ_BYTES = 1 << 16


class ByteStream(Protocol):
    """A connection as the protocols above it see it."""

    async def read(self) -> bytes:
        """What has arrived, b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Waits while the peer does not read. Raises ConnectionError when it is gone."""

    async def close(self) -> None:
        """Ends the connection after what was written."""


class Signal:
    """Wakes everybody who waits, each time it fires."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def fire(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)


class _TakenOver(asyncio.StreamReaderProtocol):
    """Receives for the stream, and tells the HTTP server when its former connection ends."""

    def __init__(self, reader: asyncio.StreamReader, former: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._former = former

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc if isinstance(exc, Exception) else None)
        self._former.connection_lost(exc if isinstance(exc, Exception) else None)


class TakenOverConnection:
    """A ByteStream over the connection of an HTTP request that was upgraded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def __repr__(self) -> str:
        return f"<TakenOverConnection {self._writer.get_extra_info('peername')}>"

    async def read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        # The peer may be gone or slow to say good-bye; nobody needs to wait for that.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()


class TakenOverResponse(web.StreamResponse):
    """What a handler returns after `take_over`: there is nothing left for the HTTP server to send."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def take_over(request: web.Request, headers: Mapping[str, str]) -> TakenOverConnection:
    """Answer 101 with `headers` and take the connection out of the HTTP server's hands.

    The server's parser knows only the upgrades to WebSocket and TCP and would read SPDY frames as requests, so its
    protocol is replaced. The peer sends nothing before it has seen the 101.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BYTES)
    protocol = _TakenOver(reader, request.protocol)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    head = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*head, "", ""]).encode())
    transport.resume_reading()
    return TakenOverConnection(reader, writer)


class WebSocketBytes:
    """A ByteStream over the binary messages of a WebSocket; where one message ends means nothing."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                if message.data:
                    return bytes(message.data)
            elif message.type is not WSMsgType.TEXT:
                return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        await self._socket.close()
