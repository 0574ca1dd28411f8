"""A proxy before an engine that lets chosen calls hang, as an engine does that is stuck over one container."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path


class StallingProxy:
    """``stalls`` is asked of each request, by method and path with query; those it wants never reach the engine."""

    def __init__(self, socket: Path, engine: Path) -> None:
        self.socket = socket
        self.stalls: Callable[[str, str], bool] = lambda _method, _path: False
        self.stalled: list[str] = []
        """Requests that hang or hung."""
        self._engine = engine

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first, _, headers = head.decode("latin-1").partition("\r\n")
            method, path, _ = first.split(" ", 2)
            if self.stalls(method, path):
                self.stalled.append(f"{method} {path}")
                await reader.read()  # until who asked gives up
                return
            upstream, forward = await asyncio.open_unix_connection(str(self._engine))
            kept = [line for line in headers.split("\r\n") if line and not line.lower().startswith("connection:")]
            forward.write("\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1"))
            passing = asyncio.create_task(_pass_on(reader, forward))
            try:
                await _pass_on(upstream, writer)
            finally:
                passing.cancel()
                forward.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


@asynccontextmanager
async def stalling_proxy(directory: Path, engine: Path) -> AsyncIterator[StallingProxy]:
    """Serves until the end of the block."""
    proxy = StallingProxy(directory / "stalling.sock", engine)
    server = await asyncio.start_unix_server(proxy.serve, str(proxy.socket))
    try:
        yield proxy
    finally:
        server.close()
