"""Time as a dependency, so that code which waits or stamps can be tested in virtual time.

Never call `datetime.now`, `time.time` or `asyncio.sleep` in decision code: take a `Clock`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic seconds for durations, and sleeping on the same time line."""

    def now(self) -> datetime:
        """Aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Waits; zero or less still gives other tasks a turn."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))


async def rest(clock: Clock, seconds: float, woken: asyncio.Event) -> None:
    """Waits for `seconds`, or until the event is set when that is sooner."""
    ends = (asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(woken.wait()))
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in ends:
            one.cancel()


class VirtualClock:
    """Time that stands still until a test moves it with `advance`.

    `advance` first lets every task run until it has nothing to do, then wakes sleepers in the order of their deadlines,
    and lets the tasks settle after each; a test therefore sees the same interleaving on every run.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<VirtualClock +{self._elapsed:g}s, {len(self._sleepers)} sleeping>"

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        await future

    async def settle(self, turns: int = 50) -> None:
        """Lets ready tasks run. `turns` bounds how long a chain of hand-overs may be."""
        for _ in range(turns):
            await asyncio.sleep(0)

    def set(self, seconds: float) -> None:
        """Sets the wall clock forward, or back; nobody sleeps longer or shorter for it."""
        self._start += timedelta(seconds=seconds)

    def stand_still(self, seconds: float) -> None:
        """Moves time on while nobody runs, as when the process is stopped; `advance` wakes all who slept too long."""
        self._elapsed += seconds

    async def advance(self, seconds: float) -> None:
        """Moves time on, waking sleepers in order; each sees its own deadline as the current time."""
        target = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            deadline, _, future = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, deadline)
            if not future.done():
                future.set_result(None)
                await self.settle()
        self._elapsed = target
        await self.settle()
