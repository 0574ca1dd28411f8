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


async def run(
    address: tuple[str, int],
    tls: ssl.SSLContext,
    request: bytes,
    change: Callable[[int], Awaitable[None]],
    *,
    watchers: int,
    events: int,
    rate: float,
) -> Delivered:
    """`change(n)` must put the annotation ``event: "n"`` on an object that `request` watches; `rate` in changes/s."""
    loop = asyncio.get_running_loop()
    sent: list[float] = []
    delays: list[float] = []
    made: list[_Watcher] = []
    for start in range(0, watchers, 50):
        some = [_Watcher(request, sent, delays) for _ in range(start, min(start + 50, watchers))]
        await asyncio.gather(
            *(loop.create_connection(lambda w=w: w, *address, ssl=tls, server_hostname="") for w in some)
        )
        await asyncio.gather(*(watcher.answered.wait() for watcher in some))
        made += some
    await asyncio.sleep(1)
    began = time.perf_counter()
    changing = []
    for number in range(events):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sent.append(time.perf_counter())
        changing.append(asyncio.create_task(change(number)))
    await asyncio.gather(*changing)
    deadline = time.perf_counter() + 30
    while len(delays) < events * watchers and time.perf_counter() < deadline:
        await asyncio.sleep(0.05)
    took = time.perf_counter() - began
    for watcher in made:
        assert watcher.transport is not None
        watcher.transport.abort()
    delays.sort()
    p50, p99 = (1000 * delays[int(len(delays) * part)] if delays else 0.0 for part in (0.5, 0.99))
    return Delivered(len(delays), events * watchers - len(delays), p50, p99, took)
