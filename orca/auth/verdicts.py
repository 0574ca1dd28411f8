"""What others said of bearer tokens, kept for a while: one question for all who ask the same at a time.

Tokens are not kept, only keyed digests. Reference: k8s.io/apiserver
``pkg/authentication/token/cache/cached_token_authenticator.go``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orca.auth.identity import UserInfo
from orca.auth.tokencache import TokenCacheStats
from orca.client.clock import Clock

REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Verdict:
    """``user`` is None for a token that proves nothing; ``audiences`` are those of the question that it is meant for.

    ``error`` says what went wrong. No verdict is kept beyond ``end``.
    """

    user: UserInfo | None
    audiences: tuple[str, ...] = ()
    error: str = ""
    end: datetime | None = None


Ask = Callable[[str, tuple[str, ...]], Coroutine[Any, Any, Verdict]]
"""(token, audiences) -> verdict; never raises but when cancelled."""


class Verdicts:
    """``good`` and ``bad``: seconds that verdicts with a user, and without one, are kept; errors never are."""

    def __init__(
        self, ask: Ask, *, good: float, bad: float, clock: Clock, stats: TokenCacheStats | None = None
    ) -> None:
        self._ask = ask
        self._good = good
        self._bad = bad
        self._clock = clock
        self._stats = stats or TokenCacheStats()
        self._secret = os.urandom(32)
        self._kept: dict[bytes, tuple[Verdict, float]] = {}
        self._asked: dict[bytes, asyncio.Task[Verdict]] = {}
        self._tasks: set[asyncio.Task[Verdict]] = set()

    async def aclose(self) -> None:
        """End what is being asked; whoever waits for it is cancelled."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self) -> None:
        """Ask anew about every token."""
        self._kept.clear()
        self._asked = {}  # what is asked now is answered by what was in use before, and is not kept

    def known(self, token: str, audiences: Sequence[str]) -> Verdict | None:
        """The verdict on a token, when it is still good."""
        found = self._look(self._key(token, audiences))
        if found is not None:
            self._stats.hits += 1
        return found

    async def of(self, token: str, audiences: Sequence[str]) -> Verdict:
        """The verdict on a token, asked for if it is not known."""
        key = self._key(token, audiences)
        found = self._look(key)
        if found is not None:
            self._stats.hits += 1
            return found
        task = self._asked.get(key)
        if task is not None:
            return await self._waited(task)
        task = asyncio.create_task(self._fetch(token, tuple(audiences)), name="who has a token")
        self._asked[key] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._answered(key, done))
        # Whoever asked first may go away while others wait.
        return await asyncio.shield(task)

    async def _fetch(self, token: str, audiences: tuple[str, ...]) -> Verdict:
        stats, began, good = self._stats, self._clock.monotonic(), False
        stats.fetching += 1
        try:
            verdict = await self._ask(token, audiences)
            good = not verdict.error
            return verdict
        finally:
            stats.fetching -= 1
            stats.fetched(self._clock.monotonic() - began, good)

    async def _waited(self, task: asyncio.Task[Verdict]) -> Verdict:
        stats, began = self._stats, self._clock.monotonic()
        stats.waiting += 1
        try:
            return await asyncio.shield(task)
        finally:
            stats.waiting -= 1
            stats.missed(self._clock.monotonic() - began)

    def _answered(self, key: bytes, task: asyncio.Task[Verdict]) -> None:
        self._tasks.discard(task)
        if self._asked.get(key) is not task:
            return
        del self._asked[key]
        if task.cancelled() or task.exception() is not None:
            return
        verdict = task.result()
        seconds = self._good if verdict.user is not None else self._bad
        if verdict.end is not None:
            seconds = min(seconds, (verdict.end - self._clock.now()).total_seconds())
        if verdict.error or seconds <= 0:
            return
        now = self._clock.monotonic()
        if len(self._kept) >= REMEMBERED:
            self._kept = {key: one for key, one in self._kept.items() if one[1] > now}
            if len(self._kept) >= REMEMBERED:
                self._kept.clear()
        self._kept[key] = (verdict, now + seconds)

    def _look(self, key: bytes) -> Verdict | None:
        found = self._kept.get(key)
        if found is None:
            return None
        if found[1] > self._clock.monotonic():
            return found[0]
        del self._kept[key]
        return None

    def _key(self, token: str, audiences: Sequence[str]) -> bytes:
        told = "\0".join((*audiences, token)).encode(errors="surrogatepass")
        return hashlib.blake2b(told, key=self._secret, digest_size=32).digest()
