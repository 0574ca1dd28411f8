"""Turns of the event loop: what seats cannot limit where one process computes all answers.

Seats bound how many requests are under way. But a request that computes holds the event loop, and a thousand that
arrived together would all compute before anybody looks at the sockets again: a heartbeat that comes a moment later
waits for all of them. So each turn of the loop has a budget; who comes when it is used up waits for a later turn, and
the levels take turns among each other. Latency of a level then depends on how many levels are busy, and not on how many
requests the others have sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter

BUDGET = 0.004
"""Seconds of computing after which no further request begins in the same turn."""

_AT_ONCE = 8
"""Of each lane in one turn; those who then find the budget used up wait on, before all others of their lane."""


class Turns:
    """One per event loop. Costs a comparison while the loop has time."""

    def __init__(self, budget: float = BUDGET) -> None:
        self._budget = budget
        self._began = 0.0
        self._ticking = False
        self._idle = True  # whether nobody who waited went on in this turn
        self._lanes: dict[object, deque[asyncio.Future[None]]] = {}
        self._last: dict[object, int] = {}  # lane -> when it was served, counted in requests
        self._served = 0
        self.waited = 0

    def has_room(self, now: float) -> bool:
        """Whether a request may begin now (``perf_counter`` seconds)."""
        if not self._ticking:
            self._ticking = True
            self._began = now
            asyncio.get_running_loop().call_soon(self._tick)
            return not self._lanes
        return now - self._began < self._budget and not self._lanes

    async def wait(self, lane: object) -> None:
        """Until it is this lane's turn. Within a lane in order of arrival."""
        self.waited += 1
        loop = asyncio.get_running_loop()
        again = False
        while True:
            turn: asyncio.Future[None] = loop.create_future()
            waiting = self._lanes.setdefault(lane, deque())
            if again:
                waiting.appendleft(turn)
            else:
                waiting.append(turn)
            if not self._ticking:
                self._ticking = True
                loop.call_soon(self._tick)
            await turn
            # One goes on in each turn, also when what has nothing to do with requests used it up, turn after turn.
            if self._idle or perf_counter() - self._began < self._budget:
                self._idle = False
                self._served += 1
                self._last[lane] = self._served
                return
            again = True

    def lane(self, key: object) -> Lane:
        """For what is made in parts: where it waits between them."""
        return Lane(self, key)

    def _tick(self) -> None:
        """A new turn has begun: some of each lane may begin, first of the lane that was served longest ago."""
        self._ticking = False
        self._idle = True
        self._began = perf_counter()
        if not self._lanes:
            self._last.clear()
            return
        order = sorted(self._lanes, key=lambda lane: self._last.get(lane, 0))
        for lane in order * _AT_ONCE:
            waiting = self._lanes.get(lane)
            if waiting is None:
                continue
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    break
            if not waiting:
                del self._lanes[lane]
        self._ticking = True
        asyncio.get_running_loop().call_soon(self._tick)


class Lane:
    """What one request needs to let others go first while it is under way. See ``Turns``."""

    __slots__ = ("_key", "_turns")

    def __init__(self, turns: Turns, key: object) -> None:
        self._turns = turns
        self._key = key

    def has_room(self) -> bool:
        """Whether it may go on at once; else ``wait``."""
        return self._turns.has_room(perf_counter())

    async def wait(self) -> None:
        """Until it may go on."""
        await self._turns.wait(self._key)
