"""An HTTP server on loopback with orca's own connections, and bytes to and from it as no library would send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from orca.server.connection import Connection, ConnectionFactory
from tests.support.patience import PATIENCE

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Listening:
    factory: ConnectionFactory
    port: int

    @property
    def connections(self) -> list[Connection]:
        return list(self.factory.connections)  # type: ignore[arg-type]


@asynccontextmanager
async def listening(handler: Handler, **options: Any) -> AsyncIterator[Listening]:
    """``options`` are those of aiohttp's protocol."""
    factory = ConnectionFactory(handler, access_log=None, **options)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    try:
        yield Listening(factory, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await factory.shutdown(0.1)


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, with all the patience of a test."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.transport.abort()


def reading(writer: asyncio.StreamWriter) -> asyncio.ReadTransport:
    """The side of a connection that can be paused."""
    return cast(asyncio.ReadTransport, writer.transport)


async def said(port: int, data: bytes) -> bytes:
    """All that is answered until the connection is closed."""
    async with dialled(port) as (reader, writer):
        writer.write(data)
        return await reader.read()
