"""etcd leases for objects that live a limited time (Events), shared: a thousand events cost one lease a minute."""

from __future__ import annotations

import asyncio

from orca.client.clock import Clock
from orca.store import revisions
from orca.store.etcd import Etcd
from orca.store.outcomes import EtcdError

SHARED_SECONDS = 60.0


class Leases:
    """Hands out lease ids. A shared lease lives up to a minute longer than asked, never shorter; no more objects
    share it than can end in one transaction, each with a revision of its own."""

    def __init__(self, etcd: Etcd, clock: Clock) -> None:
        self._etcd = etcd
        self._clock = clock
        self._current: dict[int, tuple[int, float]] = {}
        self._given: dict[int, int] = {}
        """How often the current one was."""
        self._lock = asyncio.Lock()
        self._failures = 0
        self._why: EtcdError | None = None

    async def lease(self, ttl: int) -> int:
        """A lease that ends in `ttl` to `ttl` + 60 seconds. Raises EtcdError."""
        failures = self._failures
        async with self._lock:
            if self._why is not None and self._failures != failures:
                # etcd has just failed whoever came before: one after the other would wait for it in vain.
                raise type(self._why)(*self._why.args)
            now = self._clock.monotonic()
            lease, until = self._current.get(ttl, (0, 0.0))
            if now >= until or self._given.get(ttl, 0) >= revisions.PLACES:
                lease = await self._granted(ttl + int(SHARED_SECONDS))
                self._current[ttl] = (lease, now + SHARED_SECONDS)
                self._given[ttl] = 0
            self._given[ttl] = self._given.get(ttl, 0) + 1
            return lease

    async def _granted(self, seconds: int) -> int:
        try:
            return await self._etcd.grant(seconds)
        except EtcdError as error:
            self._failures += 1
            self._why = error
            raise

    def forget(self, ttl: int) -> None:
        """The lease turned out to be gone."""
        self._current.pop(ttl, None)
