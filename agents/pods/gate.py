"""A bound on how many expensive engine calls run at once, served by urgency."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

PATIENCE_SECONDS = 5.0
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


class Gate:
    """``async with gate.enter(APP): …``; the lowest urgency number waiting goes first, then the longest waiting."""

    def __init__(self, width: int) -> None:
        self._free = width
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
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # the place was given to us in the same moment
            raise

    def _release(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)  # the place goes from hand to hand
                return
        self._free += 1
