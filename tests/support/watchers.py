"""Many watchers at once, cheap enough to count a million events: nothing is parsed, only matched."""

from __future__ import annotations

import asyncio
import re
import ssl

_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')
_NAME = re.compile(rb'"metadata":\{"resourceVersion":"\d+","name":"([^"]+)"')


class Watcher(asyncio.Protocol):
    """Follows a path until it has seen `wanted` objects; resumes from the last resourceVersion when cut off."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext, path: str, since: str, wanted: int) -> None:
        self.names: list[bytes] = []
        self.versions: list[int] = []
        self.resumed = 0
        self.failed = b""
        self.done = asyncio.Event()
        self._address, self._tls, self._path = address, tls, path
        self._since, self._wanted = since, wanted
        self._rest = b""
        self._lost: asyncio.Future[None] | None = None
        self._transport: asyncio.WriteTransport | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.done.is_set() and not self.failed:
            self._lost = loop.create_future()
            try:
                await loop.create_connection(lambda: self, *self._address, ssl=self._tls, server_hostname="")
            except OSError:
                await asyncio.sleep(0.2)
                continue
            await self._lost
            self.resumed += not self.done.is_set()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are none by inheritance
        self._rest = b""
        path = f"{self._path}?watch=1&resourceVersion={self._since}"
        assert self._transport is not None
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: {self._address[0]}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        whole, end, rest = (self._rest + data).rpartition(b"}}\n")
        self._rest = rest if end else whole + rest
        if not end:
            if self._rest.startswith(b"HTTP/1.1 ") and self._rest[9:12] != b"200":
                self.failed = self._rest
            return
        if b'{"type":"ERROR"' in whole:
            self.failed = whole
        versions = _VERSION.findall(whole)
        self.names += _NAME.findall(whole)
        self.versions += map(int, versions)
        if versions:
            self._since = versions[-1].decode()
        if len(self.names) >= self._wanted or self.failed:
            self.done.set()
            if self._lost is not None and not self._lost.done():
                self._lost.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
