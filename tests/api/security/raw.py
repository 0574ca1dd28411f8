"""Bytes on a TLS connection, as no library would send them."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.api.security.authority import client_tls
from tests.support.patience import PATIENCE

_STATUS = re.compile(rb"HTTP/\d\.\d (\d\d\d) ")


@asynccontextmanager
async def connection(
    port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server, closed afterwards."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls or client_tls(), limit=1 << 22)
    try:
        yield reader, writer
    finally:
        writer.close()


async def exchange(port: int, data: bytes, tls: ssl.SSLContext | None = None, *, seconds: float = PATIENCE) -> bytes:
    """Everything the server answers to ``data`` until it closes; raises TimeoutError when it does not."""
    async with connection(port, tls) as (reader, writer):
        try:
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(seconds):
                return await reader.read()
        except ConnectionError:
            return b""


def statuses(answer: bytes) -> list[int]:
    """The HTTP codes of the answers in a stream of them."""
    return [int(code) for code in _STATUS.findall(answer)]
