"""A bound on how many expensive engine calls run at once, served by urgency."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.1
"""How often a gate before which somebody waits looks at the cpus."""
WIDEN_ABOVE, NARROW_BELOW = 0.15, 0.05
"""Shares of the cpus' time that are unused: one more place while the disk makes those inside wait, one less when the
cpus have enough to do, where more in flight would only cost."""
APP, SANDBOX, REMOVAL = 0, 1, 2
"""Urgencies: finish pods that are begun before beginning others, tidy up last."""


class _Place:
    """One of a gate's places; it is given back once, however often that is asked."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def give_back(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()


def next_width(width: int, unused: float | None, least: int, most: int) -> int:
    """How many places there should be when so much of the cpus' time was unused."""
    if unused is None:
        return width
    if unused > WIDEN_ABOVE:
        return min(width + 1, most)
    return max(width - 1, least) if unused < NARROW_BELOW else width


class Gate:
    """``async with gate.enter(APP): …``; the lowest urgency number waiting goes first, then the longest waiting.

    There are ``width`` places, and up to ``most`` while somebody waits and ``unused`` says that cpus have time left."""

    def __init__(self, width: int, *, most: int = 0, unused: Callable[[], float | None] = lambda: None) -> None:
        self._least = self._width = width
        self._most = max(most, width)
        self._unused = unused
        self._look: asyncio.TimerHandle | None = None
        self._free = width
        """Below 0 as long as more are inside than there are places now."""
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<Gate {self._free} free, {len(self._waiting)} waiting>"

    @property
    def crowded(self) -> bool:
        """Somebody waits for a place."""
        return bool(self._waiting)

    @asynccontextmanager
    async def enter(self, urgency: int) -> AsyncIterator[None]:
        await self._acquire(urgency)
        # The engine may hang over one container for minutes: others do not wait for that.
        place = _Place(self._release)
        patience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, place.give_back)
        try:
            yield
        finally:
            patience.cancel()
            place.give_back()

    async def _acquire(self, urgency: int) -> None:
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._order), turn))
        self._watch()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # the place was given to us in the same moment
            raise

    def _release(self) -> None:
        while self._waiting and self._free >= 0:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)  # the place goes from hand to hand
                return
        self._free += 1

    def _watch(self) -> None:
        """Look at the cpus as long as somebody waits."""
        if self._look is None and self._most > self._least:
            self._unused()  # from now on
            self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._adapt)

    def _adapt(self) -> None:
        self._look = None
        unused = self._unused()
        wanted = next_width(self._width, unused, self._least, self._most) if self._waiting else self._least
        while self._width < wanted:
            self._width += 1
            self._release()
        while self._width > wanted:
            self._width -= 1
            self._free -= 1
        if self._waiting:
            self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._adapt)
