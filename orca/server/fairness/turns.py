"""Turns of the event loop: what seats cannot limit where one process computes all answers.

Seats bound how many requests are under way. But a request that computes holds the event loop, and a thousand that
arrived together would all compute before anybody looks at the sockets again: a heartbeat that comes a moment later
waits for all of them. So each turn of the loop has a budget; who comes when it is used up waits for a later turn, and
the levels take turns among each other. Latency of a level then depends on how many levels are busy, and not on how many
requests the others have sent.

A write takes ten turns or so: its request is read, etcd is asked and answers, and so on. Where each of them is used up
by others it takes ten times as long as they compute. So a lane that has used the loop rests for a part of that time
while requests of others are under way; who has nobody beside does not rest.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from time import perf_counter

BUDGET = 0.004
"""Seconds of computing after which no further request begins in the same turn."""

REST = 0.25
"""Of the time that a lane has used in one turn, so much is left to others under way."""
_LONGEST_REST = 0.005
"""Seconds: about what a write takes from here to etcd and back."""
_SHORTEST_REST = 0.0005
_AT_ONCE = 8
"""Of each lane in one turn; those who then find the budget used up wait on, before all others of their lane."""


class Turns:
    """One per event loop. Costs a comparison while the loop has time. ``others`` tells whether requests of other lanes
    than this one are under way."""

    def __init__(self, budget: float = BUDGET, others: Callable[[object], bool] = lambda lane: False) -> None:
        self._budget = budget
        self._others = others
        self._began = 0.0
        self._ticking = False
        self._idle = True  # whether nobody who waited went on in this turn
        self._woken = False  # whether some of those who waited were told to: nobody comes before them
        self._lanes: dict[object, deque[asyncio.Future[None]]] = {}
        self._last: dict[object, int] = {}  # lane -> when it was served, counted in requests
        self._served = 0
        self._returned: Counter[object] = Counter()  # lane -> how many of it were woken in this turn in vain
        self._going: object | None = None  # the lane that computes since ``_since``
        self._since = 0.0
        self._used: dict[object, float] = {}  # lane -> seconds in this turn
        self._rests: dict[object, float] = {}  # lane -> until when
        self._timer: asyncio.TimerHandle | None = None
        self.waited = 0

    def has_room(self, now: float) -> bool:
        """Whether a request may begin now (``perf_counter`` seconds)."""
        if not self._ticking:
            self._ticking = True
            self._began = now
            asyncio.get_running_loop().call_soon(self._tick)
            return not self._lanes
        return now - self._began < self._budget and not self._lanes and not self._woken

    async def wait(self, lane: object) -> None:
        """Until it is this lane's turn. Within a lane in order of arrival."""
        self.waited += 1
        loop = asyncio.get_running_loop()
        again = False
        while True:
            turn: asyncio.Future[None] = loop.create_future()
            waiting = self._lanes.setdefault(lane, deque())
            if again:
                waiting.insert(self._returned[lane], turn)
                self._returned[lane] += 1
            else:
                waiting.append(turn)
            if not self._ticking:
                self._ticking = True
                loop.call_soon(self._tick)
            await turn
            now = perf_counter()
            self._charge(now)
            # One goes on in each turn, also when what has nothing to do with requests used it up, turn after turn.
            if self._idle or now - self._began < self._budget:
                self._idle = False
                self._served += 1
                self._last[lane] = self._served
                self._going, self._since = lane, now
                return
            again = True

    def lane(self, key: object) -> Lane:
        """For what is made in parts: where it waits between them."""
        return Lane(self, key)

    def _charge(self, now: float) -> None:
        """Who went on last has computed until now."""
        if self._going is not None:
            self._used[self._going] = self._used.get(self._going, 0.0) + now - self._since
            self._going = None

    def _tick(self) -> None:
        """A new turn has begun: some of each lane may begin, first of the lane that was served longest ago."""
        self._ticking = False
        self._idle = True
        self._woken = False
        self._began = now = perf_counter()
        self._returned.clear()
        self._charge(now)
        for lane, used in self._used.items():
            rest = min(used * REST, _LONGEST_REST)
            if rest > _SHORTEST_REST:
                self._rests[lane] = now + rest
        self._used.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lanes:
            self._last.clear()
            self._rests.clear()
            return
        ready = [lane for lane in self._lanes if not self._rests or not self._resting(lane, now)]
        ready.sort(key=lambda lane: self._last.get(lane, 0))
        for lane in ready * _AT_ONCE:
            waiting = self._lanes.get(lane)
            if waiting is None:
                continue
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    self._woken = True
                    break
            if not waiting:
                del self._lanes[lane]
        loop = asyncio.get_running_loop()
        if ready:
            self._ticking = True
            loop.call_soon(self._tick)
        else:
            self._timer = loop.call_later(min(self._rests[lane] for lane in self._lanes) - now, self._rested)

    def _resting(self, lane: object, now: float) -> bool:
        until = self._rests.get(lane)
        if until is None:
            return False
        if until > now and self._others(lane):
            return True
        del self._rests[lane]
        return False

    def _rested(self) -> None:
        self._timer = None
        if not self._ticking:
            self._tick()


class Lane:
    """What one request needs to let others go first while it is under way. See ``Turns``."""

    __slots__ = ("_turns", "key")

    def __init__(self, turns: Turns, key: object) -> None:
        self._turns = turns
        self.key = key
        """Who shares it has the same."""

    def has_room(self) -> bool:
        """Whether it may go on at once; else ``wait``."""
        return self._turns.has_room(perf_counter())

    async def wait(self) -> None:
        """Until it may go on."""
        await self._turns.wait(self.key)

    async def turn(self) -> None:
        """Go on at once, or wait until it may."""
        if not self.has_room():
            await self.wait()
