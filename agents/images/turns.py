"""In which order and how fast pulls may begin: places (serializeImagePulls, maxParallelImagePulls) and a rate
(registryPullQPS, registryBurst)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Places:
    """At most ``width`` at once, first come first served; 0 means no limit. ``crowded`` is called when somebody has to
    wait."""

    def __init__(self, width: int, crowded: Callable[[], None] = lambda: None) -> None:
        self._free = width
        self._limited = width > 0
        self._crowded = crowded
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Places {self._free} free, {len(self._waiting)} waiting>" if self._limited else "<Places unlimited>"

    async def take(self) -> None:
        if not self._limited:
            return
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._crowded()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # the place was given to us in the same moment
            raise

    def give_back(self) -> None:
        if not self._limited:
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Rate:
    """A token bucket, as upstream's: ``burst`` at once, then ``qps`` each second; qps 0 means no limit."""

    def __init__(self, qps: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._qps, self._burst, self._monotonic = qps, burst, monotonic
        self._tokens = float(burst)
        self._at = monotonic()

    def __repr__(self) -> str:
        return f"<Rate {self._qps:g}/s, {self._tokens:.1f} left>"

    def accept(self) -> bool:
        """Take a token; False when there is none."""
        if self._qps <= 0:
            return True
        now = self._monotonic()
        self._tokens = min(self._tokens + (now - self._at) * self._qps, float(self._burst))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
