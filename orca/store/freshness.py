"""How new a read has to be: never older than the last write acknowledged to anyone.

Own writes are known. With several servers on one etcd, etcd is asked how far it is: one question for all reads that
wait at that moment.
"""

from __future__ import annotations

import asyncio

from orca.api import errors
from orca.api.errors import ApiError
from orca.store.answers import asked
from orca.store.cache import Cache
from orca.store.etcd import Etcd
from orca.store.feed import Feed

TICK_SECONDS = 0.05
FUTURE_SECONDS = 3.0
TICK = b"/registry/.orca/tick"
"""The key that is read for etcd's revision, and written to move it."""


class Freshness:
    """Of the cache that `feed` fills. ``shared``: others write as well."""

    def __init__(self, etcd: Etcd, feed: Feed, cache: Cache, *, shared: bool) -> None:
        self._etcd = etcd
        self._feed = feed
        self._cache = cache
        self._shared = shared
        self._latest: asyncio.Future[None] | None = None
        self.known = 0
        """The last revision that this server knows of: reads must show it."""

    def __repr__(self) -> str:
        return f"<Freshness {self._cache.revision} of {self.known}{', shared' if self._shared else ''}>"

    def learn(self, revision: int) -> None:
        """Later reads must show this."""
        self.known = max(self.known, revision)

    def forget(self) -> None:
        """etcd has lost what it acknowledged."""
        self.known = 0

    def certain(self) -> bool:
        """Whether the cache can be read as it is."""
        return not self._shared and self.known <= self._cache.revision

    async def fresh(self) -> None:
        """Returns when the cache shows every write that was acknowledged before this call. ApiError 503, 504."""
        if self._shared:
            if self._latest is None:
                self._latest = asyncio.ensure_future(self._ask_latest())
                self._latest.add_done_callback(_heard)
            await asyncio.shield(self._latest)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Returns when the cache shows every write that this server knows of. ApiError 504."""
        if self.known > self._cache.revision:
            await self._feed.wait(self.known)

    async def _ask_latest(self) -> None:
        await asyncio.sleep(0)
        # Who comes after the question was asked needs a question of his own.
        self._latest = None
        revision = await asked(self._etcd.revision(TICK))
        if revision <= self._cache.revision:
            return
        try:
            await self._feed.wait(revision, TICK_SECONDS)
        except ApiError:
            # Somebody else's keys moved etcd on: move it ourselves, then the watch shows how far it is.
            await asked(self._feed.tick())
            await self._feed.wait(revision)

    async def reach(self, revision: int) -> None:
        """Waits a little for a revision another server has told of. ApiError 504 when it does not come."""
        try:
            await self._feed.wait(revision, FUTURE_SECONDS)
        except ApiError as error:
            text = f"Too large resource version: {revision}, current: {self._cache.revision}"
            late = errors.timeout(text, retry_after=1)
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            late.details = {**(late.details or {}), "causes": [cause]}
            raise late from error

    async def told(self, revision: int) -> None:
        """Returns when etcd has come to `revision`. ApiError 410 when it has not: it was restored from a copy, or lost
        what it had. Who watched from there would miss all that happens until then; so they list."""
        if revision <= self.known:
            return
        reached = await asked(self._etcd.revision(TICK))
        if reached < revision:
            raise errors.expired(f"too large resource version: {revision}, current: {reached}")


def _heard(asked: asyncio.Future[None]) -> None:
    """All who waited may have gone: then nobody is to be told of a failure, least of all the log."""
    if not asked.cancelled():
        asked.exception()
