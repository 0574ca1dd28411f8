"""Many watchers of one kind while objects change at a steady rate: what arrives, and how late.

The watchers match numbers in what they receive instead of parsing it, so that a thousand of them fit into one process
beside the server.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

QUIET_SECONDS = 30.0
_MARK = re.compile(rb'"event":"(\d+)"')


@dataclass(frozen=True)
class Delivered:
    """Events that arrived, that did not, their delays in milliseconds, and the seconds it all took."""

    seen: int
    lost: int
    p50: float
    p99: float
    seconds: float


class _Watcher(asyncio.Protocol):
    def __init__(self, request: bytes, sent: list[float], delays: list[float]) -> None:
        self._request, self._sent, self._delays = request, sent, delays
        self._rest = b""
        self.answered = asyncio.Event()
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's are none by inheritance
        assert self.transport is not None
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.answered.set()
        whole, end, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest if end else whole + rest
        if end:
            now = time.perf_counter()
            self._delays += [now - self._sent[int(mark)] for mark in _MARK.findall(whole)]


class Crowd:
    """Watchers that are connected and answered."""

    def __init__(self, sent: list[float], delays: list[float], members: list[_Watcher]) -> None:
        self._sent, self._delays, self._members = sent, delays, members

    @classmethod
    async def gather(cls, address: tuple[str, int], tls: ssl.SSLContext, request: bytes, size: int) -> Crowd:
        """Connect `size` watchers that send `request`."""
        loop = asyncio.get_running_loop()
        sent: list[float] = []
        delays: list[float] = []
        members = [_Watcher(request, sent, delays) for _ in range(size)]
        for start in range(0, size, 50):
            some = members[start : start + 50]
            await asyncio.gather(
                *(loop.create_connection(lambda w=w: w, *address, ssl=tls, server_hostname="") for w in some)
            )
            await asyncio.gather(*(watcher.answered.wait() for watcher in some))
        await asyncio.sleep(1)
        return cls(sent, delays, members)

    async def follow(self, change: Callable[[int], Awaitable[None]], *, events: int, rate: float) -> Delivered:
        """`change(n)` must put the annotation ``event: "n"`` on an object that is watched; `rate` in changes/s."""
        began = time.perf_counter()
        changing = []
        for number in range(events):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            self._sent.append(time.perf_counter())
            changing.append(asyncio.create_task(change(number)))
        await asyncio.gather(*changing)
        wanted, delays = events * len(self._members), self._delays
        # Lost is what does not come although nothing else is under way: a server that is behind has lost nothing.
        so_far, heard = 0, time.perf_counter()
        while len(delays) < wanted and time.perf_counter() < heard + QUIET_SECONDS:
            if len(delays) > so_far:
                so_far, heard = len(delays), time.perf_counter()
            await asyncio.sleep(0.01)
        took = time.perf_counter() - began
        delays.sort()
        p50, p99 = (1000 * delays[int(len(delays) * part)] if delays else 0.0 for part in (0.5, 0.99))
        return Delivered(len(delays), wanted - len(delays), p50, p99, took)

    def close(self) -> None:
        """Hang up."""
        for watcher in self._members:
            assert watcher.transport is not None
            watcher.transport.abort()
