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
            if perf_counter() - self._began < self._budget:
                self._served += 1
                self._last[lane] = self._served
                return
            again = True

    def _tick(self) -> None:
        """A new turn has begun: some of each lane may begin, first of the lane that was served longest ago."""
        self._ticking = False
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
