"""A TCP load balancer on loopback: hands each connection to the first of its targets that takes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

Address = tuple[str, int]
_PIECE = 1 << 16


class TcpProxy:
    """Listens on ``port``. ``targets`` may be changed at any time; connections that exist stay where they are.
    ``asked`` hears of each piece that a client has sent, before it is handed on."""

    def __init__(self, targets: Sequence[Address]) -> None:
        self.targets = list(targets)
        self.asked: Callable[[], None] = lambda: None
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Resets every connection, whatever is on its way."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for host, port in self.targets:
            try:
                far_reader, far_writer = await asyncio.open_connection(host, port)
                break
            except OSError:
                continue
        else:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._open |= both
        await asyncio.gather(self._copy(reader, far_writer, self.asked), self._copy(far_reader, writer))
        self._open -= both

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Callable[[], None] = lambda: None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                heard()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def tcp_proxy(*targets: Address) -> AsyncIterator[TcpProxy]:
    """A running proxy."""
    proxy = TcpProxy(targets)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
