"""Coming back to a server that was away: all who wait in one process try as one.

Each on its own would come back seconds after the first, and the more there are, the more of them would knock in vain.
So one of them tries, for all: when it is heard, or anything else this client asks is, the others go on at once.
"""

from __future__ import annotations

import asyncio
import random

from orca.api.errors import ApiError
from orca.client.clock import Clock

FIRST_PAUSE = 0.1
LAST_PAUSE = 1.5
"""Seconds between two tries of the one that tries; the last is what a recovered server goes unnoticed at most."""
JITTER = (0.7, 1.3)
"""Processes that lost the same server must not all come back in the same instant."""
UNHEARD_SECONDS = 10.0
"""After which a waiting one tries by itself, whatever became of the one that tries for all."""


class Unreachable(ApiError):
    """503: there was no answer. (A 503 that a server answers with is no such error.)"""

    def __init__(self, message: str) -> None:
        super().__init__(503, "ServiceUnavailable", message)


class Reach:
    """Shared by all that use one client."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE
        self._trying = False
        self._waiting: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<Reach {'lost' if self._trying or self._waiting else 'heard'}, {len(self._waiting)} waiting>"

    def heard(self) -> None:
        """The server has answered somebody."""
        self._pause = FIRST_PAUSE
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    async def again(self, clock: Clock) -> None:
        """Called after the server could not be reached; returns when to try again."""
        if self._trying:
            await self._wait(clock)
            return
        self._trying = True
        try:
            pause = self._pause * random.uniform(*JITTER)
            self._pause = min(self._pause * 2, LAST_PAUSE)
            await clock.sleep(pause)
        finally:
            self._trying = False

    async def _wait(self, clock: Clock) -> None:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        limit = asyncio.ensure_future(clock.sleep(UNHEARD_SECONDS))
        self._waiting.add(told)
        try:
            await asyncio.wait({told, limit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(told)
            limit.cancel()
