"""Keeps the cache following etcd: first load with recent history, one watch over the whole prefix, resumption.

The cache never goes backwards and never skips: a broken watch resumes at the next revision; when etcd has compacted
that away, everything is listed again and the differences become changes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import NamedTuple

import structlog

from orca.api.errors import timeout
from orca.client.clock import Clock
from orca.store import revisions
from orca.store.cache import Bucket, Cache
from orca.store.entries import Change, Entry, place
from orca.store.etcd import Etcd, end_of
from orca.store.faults import Unreadable
from orca.store.outcomes import EtcdCompacted, EtcdError, EtcdUnavailable, KeyValue, Seen
from orca.store.seldom import Seldom

log = structlog.get_logger()

HISTORY = 5_000
"""How many transactions before the start are read back, so that watches resume across a restart of the server."""
BOUND_EVERY = 100
"""Events after which the size of the remembered history is looked at."""
RECALL_SECONDS = 20.0
"""How long that may take; without, watches from before the start list anew."""
STALL_SECONDS = 2.0
WAIT_SECONDS = 10.0


class _Own(NamedTuple):
    """A write of ours that is under way."""

    storage: str
    value: bytes
    entry: Entry


class Feed:
    """`prefix` is the root of all storage, b"/registry/"."""

    def __init__(self, etcd: Etcd, cache: Cache, clock: Clock, prefix: bytes = b"/registry/") -> None:
        self._etcd = etcd
        self._cache = cache
        self._clock = clock
        self._prefix = prefix
        self._end = end_of(prefix)
        self._tick_key = prefix + b".orca/tick"
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._stream: asyncio.Task[None] | None = None
        self._own: dict[bytes, _Own] = {}
        self._ends: dict[bytes, tuple[Entry, Entry]] = {}
        self._unbounded = 0
        self._lost = False  # etcd has gone back, and what the cache holds is not yet what is left
        self.on_loss: Callable[[], None] = lambda: None
        """Called when etcd has lost data: revisions that were heard of mean nothing any more."""
        self._moved = 0.0  # monotonic seconds at which etcd was last heard on the watch, or asked for one
        self.connected = False

    def __repr__(self) -> str:
        return f"<Feed at {self._cache.revision}, {'following' if self.connected else 'cut off'}>"

    # --- own writes --------------------------------------------------------------------------------------------------

    def expect(self, key: bytes, storage: str, value: bytes, entry: Entry) -> None:
        """Announces a write about to be made, so that its event need not be parsed; `complete` finishes `entry`."""
        self._own[key] = _Own(storage, value, entry)

    def settle(self, storage: str, value: bytes, revision: int, fallback: Entry) -> Entry:
        """The entry of an own write that succeeded at `revision`: the very one the cache holds or will hold."""
        held = self._cache.buckets[storage].entries.get(fallback.key)
        if held is not None and held.revision == revision:
            return held
        return complete(fallback, value, revision)

    def unexpect(self, key: bytes, entry: Entry) -> None:
        """The write was not made."""
        if key in self._own and self._own[key].entry is entry:
            del self._own[key]

    def expect_end(self, key: bytes, current: Entry, last: Entry) -> None:
        """Announces a deletion about to be made of what is `current`, whose watchers are shown `last` then."""
        self._ends[key] = (current, last)

    def unexpect_end(self, key: bytes, last: Entry) -> None:
        """The deletion was not made."""
        if key in self._ends and self._ends[key][1] is last:
            del self._ends[key]

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def wait(self, revision: int, seconds: float = WAIT_SECONDS) -> None:
        """Returns when the cache has reached `revision`. ApiError 504 when it does not within `seconds`."""
        if revision <= self._cache.revision:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (revision, next(self._order), reached))
        done, _ = await asyncio.wait({reached}, timeout=min(STALL_SECONDS, seconds))
        if not done and seconds > STALL_SECONDS:
            if self._clock.monotonic() - self._moved >= STALL_SECONDS:
                # etcd answers writes but our watch stands still: its connection is dead without saying so.
                self._restart()
            await asyncio.wait({reached}, timeout=seconds - STALL_SECONDS)
        if not reached.done():
            reached.cancel()
            raise timeout(f"the cache did not reach revision {revision} in {seconds:g}s")

    def _reached(self, revision: int) -> None:
        self._cache.revision = revision
        waiting = self._waiting
        while waiting and waiting[0][0] <= revision:
            _, _, reached = heapq.heappop(waiting)
            if not reached.done():
                reached.set_result(None)

    async def tick(self) -> None:
        """Makes etcd move, so that a watch over a shared etcd shows how far it is."""
        await self._etcd.tick(self._tick_key)

    # --- following ---------------------------------------------------------------------------------------------------

    async def load(self, heard: Callable[[], None] = lambda: None) -> None:
        """Reads everything, in place of what an earlier try has read; `heard` is called whenever some of it has come.
        Raises EtcdError when etcd cannot be reached."""
        found: dict[str, list[Entry]] = {}
        for bucket in self._cache.buckets.values():
            bucket.faults.clear()
        revision = 0
        async for pairs, at in self._etcd.pages(self._prefix, self._end):
            heard()
            revision = at
            for pair in pairs:
                storage, key = self._split(pair.key)
                if not key:
                    continue
                try:
                    found.setdefault(storage, []).append(_entry(key, pair.value, pair.revision))
                except Unreadable as error:
                    self._cache.buckets[storage].faults[key] = str(error)
        self._cache.floor = revision
        for storage, entries in found.items():
            self._cache.buckets[storage].load(entries)
        for storage, bucket in self._cache.buckets.items():
            bucket.floor = revision
            if storage not in found:
                bucket.load(())
        self._reached(revision)
        heard()
        await self._recall(revision)
        log.info("loaded", objects=sum(map(len, found.values())), revision=revision, remembered=self._cache.floor)

    async def _recall(self, revision: int) -> None:
        """Fills the rings with what happened before the load."""
        try:
            caught_up = await self._etcd.tick(self._tick_key)
        except EtcdUnavailable:
            raise
        except EtcdError as error:
            # Its space is used up: what makes room are deletions, and for these a server has to start.
            log.error("etcd takes no writes, starting without the recent history", error=str(error))
            return
        since = max(revision + 1 - HISTORY * revisions.PLACES, 1)
        while since <= revision:
            try:
                async with asyncio.timeout(RECALL_SECONDS):
                    changes = await self._history(since, revision, caught_up)
            except EtcdCompacted as error:
                since = max(error.oldest, since + 1) if error.oldest else revision + 1
                continue
            except TimeoutError:
                return
            self._cache.floor = since - 1
            for bucket in self._cache.buckets.values():
                bucket.floor = since - 1
            for storage, change in changes:
                bucket = self._cache.buckets[storage]
                if change is None:
                    bucket.forget(revision)
                elif change.revision > bucket.floor:
                    bucket.remember(change)
            self._cache.bound()
            return

    async def _history(self, since: int, until: int, caught_up: int) -> list[tuple[str, Change | None]]:
        """Changes in [since, until]; None for one whose previous state is no longer known."""
        changes: list[tuple[str, Change | None]] = []
        last: dict[bytes, Entry] = {}
        now = self._clock.monotonic()
        async for batch in self._etcd.watch(self._prefix, self._end, since, previous=True):
            for seen in batch:
                if seen.revision >= caught_up:
                    return changes
                storage, key = self._split(seen.key)
                if not key or seen.revision > until:
                    continue
                previous = last.pop(seen.key, None)
                try:
                    if previous is None and seen.previous is not None:
                        previous = _entry(key, seen.previous.value, seen.previous.revision)
                    if previous is None and not seen.created:
                        changes.append((storage, None))
                        continue
                    entry = None
                    if seen.value is not None:
                        held = self._cache.buckets[storage].entries.get(key)
                        same = held is not None and held.revision == seen.revision
                        entry = held if same else _entry(key, seen.value, seen.revision)
                        assert entry is not None
                        last[seen.key] = entry
                except Unreadable:
                    changes.append((storage, None))
                    continue
                changes.append((storage, Change(seen.revision, entry, previous, now)))
        return changes

    async def run(self) -> None:
        """Follows until cancelled."""
        pause, interrupted = 0.05, Seldom(self._clock.monotonic)
        while True:
            self._stream = asyncio.ensure_future(self._follow())
            try:
                await asyncio.wait({self._stream})
            finally:
                self._stream.cancel()
            self.connected = False
            if not self._stream.cancelled():
                error = self._stream.exception()
                if isinstance(error, EtcdCompacted):
                    await self._try_resync()
                elif error is not None and not isinstance(error, EtcdError):
                    # Our own fault, and nobody knows how much of a batch was taken. Standing still would be worse.
                    log.error("could not take what etcd told, listing anew", exc_info=error)
                    await self._try_resync()
                elif interrupted.due():
                    log.warning("watch of etcd interrupted", error=str(error))
            await self._clock.sleep(pause)

    def _restart(self) -> None:
        if self._stream is not None:
            log.warning("watch of etcd stands still, opening another", revision=self._cache.revision)
            self._moved = self._clock.monotonic()
            self._stream.cancel()

    async def _follow(self) -> None:
        revision = await self._etcd.revision(self._tick_key)
        if self._lost or revision < self._cache.revision:
            log.error("etcd has lost data, starting from what it has", etcd=revision, ours=self._cache.revision)
            await self._start_over()

        def opened() -> None:
            self.connected = True
            self._moved = self._clock.monotonic()

        since = self._cache.revision + 1
        async for batch in self._etcd.watch(self._prefix, self._end, since, opened=opened):
            self._take(batch)

    def _take(self, batch: list[Seen]) -> None:
        cache, now = self._cache, self._clock.monotonic()
        self._moved = now
        for seen in batch:
            if seen.revision <= cache.revision:
                # Only possible in the first batch after resuming within one revision.
                continue
            own = self._own.pop(seen.key, None) if seen.value is not None else None
            if own is not None and own.value == seen.value:
                entry = complete(own.entry, own.value, seen.revision)
                cache.buckets[own.storage].record(entry.key, entry, seen.revision, now)
                continue
            storage, key = self._split(seen.key)
            if not key:
                continue
            bucket = cache.buckets[storage]
            if seen.value is None:
                last = self._last(seen, bucket.entries.get(key)) if self._ends else None
                bucket.record(key, None, seen.revision, now, last)
                continue
            try:
                entry = _entry(key, seen.value, seen.revision)
            except Unreadable as error:
                self._spoil(bucket, key, error, seen.revision)
                continue
            bucket.record(key, entry, seen.revision, now)
        self._unbounded += len(batch)
        if self._unbounded >= BOUND_EVERY:
            self._unbounded = 0
            cache.bound()
        self._reached(max(revisions.complete(batch[-1].revision), cache.revision))

    def _last(self, gone: Seen, held: Entry | None) -> Entry | None:
        """What was announced as the last state of what is `gone` now; it may also have been about an earlier object of
        that name, whose end was not heard on the watch."""
        announced = self._ends.pop(gone.key, None)
        if announced is None or held is None or announced[0].revision != held.revision:
            return None
        return complete(announced[1], announced[1].raw, gone.revision)

    def _spoil(self, bucket: Bucket, key: str, error: Unreadable, revision: int) -> None:
        log.error("a stored object cannot be read", key=f"{bucket.storage}/{key}", error=str(error))
        bucket.spoil(key, str(error), revision)

    async def mend(self) -> None:
        """Tries again to read what could not be read; after keys have changed. Raises EtcdError."""
        for bucket in list(self._cache.buckets.values()):
            for key in list(bucket.faults):
                pair, _ = await self._etcd.get(f"{bucket.storage}/{key}".encode())
                if pair is None or key not in bucket.faults:
                    continue
                try:
                    bucket.mend(_entry(key, pair.value, pair.revision), self._cache.revision)
                except Unreadable as error:
                    bucket.faults[key] = str(error)

    async def _try_resync(self) -> None:
        try:
            await self._resync()
        except EtcdError as error:
            log.warning("listing etcd anew failed", error=str(error))

    async def _resync(self) -> None:
        """Lists everything and turns the differences into changes, in the order of their revisions."""
        log.warning("watch of etcd fell behind compaction, listing anew", revision=self._cache.revision)
        found: dict[bytes, KeyValue] = {}
        revision = 0
        async for pairs, at in self._etcd.pages(self._prefix, self._end):
            revision = at
            found.update((pair.key, pair) for pair in pairs)
        self._apply(found, revision)

    def _apply(self, found: dict[bytes, KeyValue], revision: int) -> None:
        now = self._clock.monotonic()
        for pair in sorted(found.values(), key=lambda pair: pair.revision):
            storage, key = self._split(pair.key)
            if not key:
                continue
            bucket = self._cache.buckets[storage]
            held = bucket.entries.get(key)
            if held is None or held.revision != pair.revision:
                try:
                    bucket.record(key, _entry(key, pair.value, pair.revision), pair.revision, now)
                except Unreadable as error:
                    self._spoil(bucket, key, error, revision)
        # Last, so that what a watcher sees never goes back in revisions.
        for bucket in self._cache.buckets.values():
            root = bucket.storage.encode() + b"/"
            for key in [key for key in (*bucket.entries, *bucket.faults) if root + key.encode() not in found]:
                bucket.record(key, None, revision, now)
        # In between is unknown: whoever resumes from there has to list.
        self._cache.floor = revision
        for bucket in self._cache.buckets.values():
            bucket.forget(revision)
        self._reached(revision)

    async def _start_over(self) -> None:
        """Takes what etcd has for the truth, and calls what it had not there any more deleted. Watches end: who comes
        again with a version of before has to list (`Store.watch`)."""
        self._lost = True
        self._own.clear()
        self._ends.clear()
        self._cache.revision = self._cache.floor = 0
        for bucket in self._cache.buckets.values():
            for watch in bucket.watches():
                watch.close()
            bucket.floor = 0
        self.on_loss()
        await self._resync()
        self._lost = False

    def _split(self, key: bytes) -> tuple[str, str]:
        """(storage, "namespace/name" or "name"); "" for keys that are not objects."""
        parts = key.decode(errors="replace").split("/", 4)
        return ("/".join(parts[:4]), parts[4]) if len(parts) == 5 else ("", "")


def complete(entry: Entry, value: bytes, revision: int) -> Entry:
    """An announced entry with its revision, which its write has just got. Completing twice is harmless."""
    if entry.revision not in (-1, revision):
        # It has become the state after an equal write of somebody else, and readers hold it.
        return Entry(entry.namespace, entry.name, revision, None, place(value, revision))
    if entry.revision != revision:
        entry.complete(revision, value)
    return entry


def _entry(key: str, value: bytes, revision: int) -> Entry:
    namespace, _, name = key.rpartition("/")
    return Entry(namespace, name, revision, None, place(value, revision))
