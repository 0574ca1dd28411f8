"""A bound on how many expensive engine calls run at once, served by urgency."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

APP, SANDBOX, REMOVAL = 0, 1, 2
"""Urgencies: finish pods that are begun before beginning others, tidy up last."""


class Gate:
    """``async with gate.enter(APP): …``; the lowest urgency number waiting goes first, then the longest waiting."""

    def __init__(self, width: int) -> None:
        self._free = width
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<Gate {self._free} free, {len(self._waiting)} waiting>"

    @asynccontextmanager
    async def enter(self, urgency: int) -> AsyncIterator[None]:
        await self._acquire(urgency)
        try:
            yield
        finally:
            self._release()

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
