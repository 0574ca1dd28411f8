"""The facade over etcd and the watch cache that the API server reads and writes through.

Writes are compare-and-put on the object's revision. Reads come from the cache and are never older than the last write
acknowledged to anyone (`freshness`); what the cache does not remember comes from etcd (`past`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import structlog

from orca.api import errors
from orca.api.objects import Obj, name, namespace
from orca.api.resources import Resource
from orca.client.clock import Clock, SystemClock
from orca.client.keeping import keep_running
from orca.store.answers import (
    Expected,
    as_api_error,
    asked,
    check_expected,
    entry_of,
    key_of,
    revision_of,
    too_old,
    unreadable,
)
from orca.store.cache import Cache, Hint, Predicate
from orca.store.compaction import Compaction
from orca.store.entries import Change, Entry, Page, bookmark, encode
from orca.store.etcd import Etcd
from orca.store.feed import Feed
from orca.store.fence import Fence
from orca.store.freshness import TICK, Freshness
from orca.store.leases import Leases
from orca.store.listing import page_of, undone
from orca.store.outcomes import EtcdError, EtcdUnavailable, Write, Written
from orca.store.paging import decode as decode_position
from orca.store.past import page_at
from orca.store.presence import Presence
from orca.store.seldom import Seldom
from orca.store.timing import Times
from orca.store.together import Also, Raced
from orca.store.watch import Watch

log = structlog.get_logger()

BOOKMARK_SECONDS = 60.0
CONFLICTS = 50

ChangeObject = Callable[[Obj], Obj | Awaitable[Obj | None] | None]
Objects: TypeAlias = list[Obj]


class Store:
    """All objects of the cluster. `endpoints` are etcd's, e.g. "127.0.0.1:2379"; `lifetimes` are seconds for kinds
    whose objects vanish, other than the table says."""

    def __init__(
        self,
        endpoints: str | Sequence[str] | Etcd,
        *,
        clock: Clock | None = None,
        shared: bool = False,
        lifetimes: Mapping[Resource, int] | None = None,
    ) -> None:
        self._lifetimes = {resource.storage: seconds for resource, seconds in (lifetimes or {}).items()}
        self._etcd = endpoints if isinstance(endpoints, Etcd) else Etcd(endpoints)
        self._clock = clock or SystemClock()
        self._cache = Cache()
        self._feed = Feed(self._etcd, self._cache, self._clock)
        self._leases = Leases(self._etcd, self._clock)
        self._freshness = Freshness(self._etcd, self._feed, self._cache, shared=shared)
        self._compaction = Compaction(self._etcd, self._clock)
        self._feed.on_loss = self._forget
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Store on {self._etcd}: {self._feed}>"

    async def start(self, seconds: float = 30) -> None:
        """Connects and loads. ApiError 503 when etcd is silent for `seconds`, or refuses."""
        waiting, loop = Seldom(self._clock.monotonic), asyncio.get_running_loop()
        try:
            self._etcd.open()
            async with asyncio.timeout(seconds) as patience:
                while True:
                    try:
                        # However long all of it takes: who gives up has to begin again.
                        await self._feed.load(lambda: patience.reschedule(loop.time() + seconds))
                        break
                    except EtcdUnavailable as error:
                        if waiting.due():
                            log.info("waiting for etcd", error=str(error))
                        await self._clock.sleep(0.2)
        except EtcdError as error:
            raise errors.service_unavailable(str(error)) from error
        except TimeoutError as error:
            why = self._etcd.trouble or "nothing was heard"
            raise errors.service_unavailable(f"{self._etcd} does not answer: {why}") from error
        works = {"following etcd": self._feed.run, "compaction": self._compaction.run, "bookmarks": self._bookmark}
        for what, work in works.items():
            self._tasks.append(asyncio.create_task(keep_running(what, work, self._clock), name=what))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.end_watches()
        await self._etcd.close()

    def end_watches(self) -> None:
        """Ends all there are; what is pending can still be read."""
        for bucket in self._cache.buckets.values():
            for watch in bucket.watches():
                watch.close()

    @property
    def ready(self) -> bool:
        """Whether the cache follows etcd."""
        return self._feed.connected

    @property
    def revision(self) -> int:
        """How far the cache has come."""
        return self._cache.revision

    async def ping(self) -> None:
        """For health checks. ApiError 503 when etcd does not answer."""
        await asked(self._etcd.revision(TICK))

    # --- writing -----------------------------------------------------------------------------------------------------

    async def create(self, resource: Resource, obj: Obj, *, also: Sequence[Also] = ()) -> Entry:
        """Stores a new object; `obj` is frozen from here on. ApiError 409 AlreadyExists; Raced when one of `also`
        cannot be written with it."""
        written, entry = await self._put(resource, obj, 0, also)
        if not written.won:
            self._learn(written)
            raise errors.already_exists(resource, name(obj))
        return entry

    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: ChangeObject,
        *,
        expected: Expected | None = None,
        also: Sequence[Also] = (),
    ) -> Entry:
        """Stores what `change` makes of the current object; None or an equal object writes nothing.

        `change` may be called again when another writer was faster, unless `expected` names a resourceVersion: then
        that is a conflict (ApiError 409). ApiError 404 when there is none. `change` may be a coroutine function.
        Raced when one of `also` cannot be written with it.
        """
        current = await self.get(resource, namespace, name)
        for _ in range(CONFLICTS):
            check_expected(resource, current, expected)
            made = change(current.obj)
            new = await made if inspect.isawaitable(made) else made
            if new is None or (new == current.obj and not await self.stale(resource, current)):
                return current
            written, entry = await self._put(resource, new, current.revision, also)
            if written.won:
                return entry
            current = self._other(resource, name, written)
        raise errors.conflict(resource, name)

    async def replace(self, resource: Resource, current: Entry, obj: Obj, *, also: Sequence[Also] = ()) -> Entry:
        """Stores `obj`, frozen from here on, in place of `current`. ApiError 409 when that is not the newest state any
        more, 404 when it is gone; Raced when one of `also` cannot be written with it."""
        written, entry = await self._put(resource, obj, current.revision, also)
        if written.won:
            return entry
        self._other(resource, current.name, written)
        raise errors.conflict(resource, current.name)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        expected: Expected | None = None,
        also: Sequence[Also] = (),
    ) -> Entry:
        """Removes an object and answers its last state. Raced when one of `also` cannot be written with it."""
        current = await self.get(resource, namespace, name)
        key = key_of(resource, namespace, name)
        for _ in range(CONFLICTS):
            check_expected(resource, current, expected)
            written = await self._commit(resource, Write(key, None, current.revision), also)
            if written.won:
                self._learn(written)
                return current.at(written.revision)
            current = self._other(resource, name, written)
        raise errors.conflict(resource, name)

    async def remove(
        self, resource: Resource, current: Entry, *, last: Obj | None = None, also: Sequence[Also] = ()
    ) -> Entry:
        """Removes what is `current` and answers its last state. `last` is shown to this server's watchers as the state
        that it had in the end, which was not written for itself. ApiError 409 when `current` is not the newest state
        any more, 404 when it is gone; Raced when one of `also` cannot be written with it."""
        key = key_of(resource, current.namespace, current.name)
        shown = None
        if last is not None:
            shown = Entry(current.namespace, current.name, -1, last, encode(last))
            self._feed.expect_end(key, current, shown)
        written: Written | None = None
        try:
            written = await self._commit(resource, Write(key, None, current.revision), also)
        finally:
            if shown is not None and (written is None or not written.won):
                self._feed.unexpect_end(key, shown)
        if written.won:
            self._learn(written)
            return current.at(written.revision)
        self._other(resource, current.name, written)
        raise errors.conflict(resource, current.name)

    async def _put(
        self, resource: Resource, obj: Obj, revision: int, also: Sequence[Also] = ()
    ) -> tuple[Written, Entry]:
        space, object_name = namespace(obj), name(obj)
        key = key_of(resource, space, object_name)
        value = encode(obj)
        entry = Entry(space, object_name, -1, obj, value)
        self._feed.expect(key, resource.storage, value, entry)
        written: Written | None = None
        try:
            written = await self._commit(resource, Write(key, value, revision), also)
        finally:
            if written is None or not written.won:
                self._feed.unexpect(key, entry)
        if written.won:
            self._learn(written)
            entry = self._feed.settle(resource.storage, value, written.revision, entry)
        return written, entry

    async def _commit(self, resource: Resource, main: Write, also: Sequence[Also]) -> Written:
        """One transaction. Raises ApiError, Raced when `main` could have been written, but not one of `also`."""
        writes = [await asked(self._leased(resource, main)) if resource.ttl else main]
        for one in also:
            value = encode(one.obj) if one.obj is not None else None
            beside = Write(key_of(one.resource, one.namespace, one.name), value, one.revision)
            writes.append(await asked(self._leased(one.resource, beside)))
        try:
            done = await self._etcd.transact(writes)
        except EtcdError as error:
            if "lease not found" not in str(error):
                raise as_api_error(error) from error
            for kind in (resource, *(one.resource for one in also)):
                self._leases.forget(self._ttl(kind))
            return await self._commit(resource, main, also)
        if done.won:
            return Written(True, done.revision, None)
        self._freshness.learn(max(found.revision if found else 0 for found in done.current))
        if main.expected == (done.current[0].revision if done.current[0] else 0):
            for one, found in zip(also, done.current[1:], strict=True):
                if one.revision is not None and one.revision != (found.revision if found else 0):
                    raise Raced(one)
        return Written(False, done.revision, done.current[0])

    async def _leased(self, resource: Resource, write: Write) -> Write:
        if not resource.ttl or write.value is None:
            return write
        return write._replace(lease=await self._leases.lease(self._ttl(resource)))

    def _ttl(self, resource: Resource) -> int:
        return self._lifetimes.get(resource.storage, resource.ttl or 0)

    def presence(self, resource: Resource, obj: Obj, ttl: int) -> Presence:
        """Stores `obj` for as long as its `run` runs, and at most `ttl` seconds longer."""
        return Presence(self._etcd, self._clock, key_of(resource, namespace(obj), name(obj)), encode(obj), ttl)

    async def begin_term(self, resource: Resource, obj: Obj) -> Fence:
        """Writes `obj` whatever is there. The answer keeps others out as long as nobody writes it again, and what is
        read from here on shows all that was written in earlier terms. ApiError 503."""
        key = key_of(resource, namespace(obj), name(obj))
        done = await asked(self._etcd.transact([Write(key, encode(obj), None)]))
        self._freshness.learn(done.revision)
        return Fence(key, done.revision)

    async def stale(self, resource: Resource, current: Entry) -> bool:
        """Whether an object is to be written even if nothing changes: its kind is encrypted, and etcd holds it in
        another way than it would be written now."""
        return await asked(self._etcd.stale(key_of(resource, current.namespace, current.name)))

    async def mend(self) -> None:
        """Tries again to read what could not be read. ApiError 503."""
        await asked(self._feed.mend())

    def _learn(self, written: Written) -> None:
        """Later reads must show this."""
        self._freshness.learn(written.revision if written.won else written.current.revision if written.current else 0)

    def _other(self, resource: Resource, name: str, written: Written) -> Entry:
        """What another writer has put there meanwhile."""
        self._learn(written)
        if written.current is None:
            raise errors.not_found(resource, name)
        return entry_of(resource, written.current)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def get(self, resource: Resource, namespace: str, name: str, *, fresh: bool = True) -> Entry:
        """ApiError 404 when there is none. With `fresh=False` whatever the cache shows, without waiting."""
        if fresh:
            await self.fresh()
        key = f"{namespace}/{name}" if namespace else name
        bucket = self._cache.buckets[resource.storage]
        found = bucket.entries.get(key)
        if found is None:
            if key in bucket.faults:
                raise unreadable(bucket, key)
            raise errors.not_found(resource, name)
        return found

    def held(self, resource: Resource, namespace: str, name: str) -> Entry | None:
        """What `get` answers when it need not wait for anything; None when it has to, or there is none."""
        if not self._freshness.certain():
            return None
        return self._cache.buckets[resource.storage].entries.get(f"{namespace}/{name}" if namespace else name)

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        predicate: Predicate | None = None,
        hint: Hint | None = None,
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
        match: str = "",
    ) -> Page:
        """Objects in key order. `hint` narrows by an index ("spec.nodeName" or "owner", value) before `predicate`.

        `resource_version` and `match` ("", "Exact", "NotOlderThan") as in the API. ApiError 400 for what is not a
        token or version, 410 when the state asked for is forgotten, 504 for a revision that is not there yet.
        """
        start = ""
        exact: int | None = None
        if continue_:
            position = decode_position(continue_)
            start = position.start
            if position.revision > 0:
                exact = position.revision
                await self._feed.wait(exact)
        version = revision_of(resource_version)
        if exact is None and version > 0:
            await self.reach(version)
            if match == "Exact" or (not match and limit and not continue_):
                exact = version
            else:
                await self._freshness.catch_up()
        elif resource_version != "0":
            await self.fresh()
        revision = self._cache.revision
        bucket = self._cache.buckets[resource.storage]
        if bucket.faults and bucket.fault_in(namespace):
            raise unreadable(bucket, bucket.fault_in(namespace))
        if exact is not None and exact < self._compaction.forgotten:
            raise too_old(exact, start, paging=bool(continue_))
        if exact is not None and exact < revision:
            differs = bucket.past(exact)
            if differs is None:
                return await page_at(
                    self._etcd, resource, namespace, start, exact, predicate, limit, paging=bool(continue_)
                )
            if differs:
                return page_of(*undone(bucket, namespace, start, differs), predicate, limit, exact)
            revision = exact
        # How much is left of what an index narrows is only known by counting it.
        most = limit + 1 if limit and predicate is None and hint is None else None
        entries = bucket.select(namespace, start, hint, most)
        left = None if hint is not None else partial(bucket.count, namespace)
        return page_of(entries, left, predicate, limit, revision)

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        name: str = "",
        since: int | None = None,
        predicate: Predicate | None = None,
        hint: Hint | None = None,
        bookmarks: bool = False,
        initial_end: bool = False,
    ) -> Watch:
        """Changes after revision `since`; None: first an ADDED for everything there is, closed by an annotated
        bookmark with `initial_end`. Await `start()` on it to learn early of a `since` that is too old, or of which etcd
        knows nothing any more (410)."""
        return Watch(
            resource,
            self._cache,
            namespace=namespace,
            name=name,
            since=since,
            predicate=predicate,
            hint=hint,
            bookmarks=bookmarks,
            initial_end=initial_end,
            fresh=self.fresh,
            told=self._freshness.told,
        )

    def peek(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        """What the cache shows now; for decisions that tolerate milliseconds (authorisation, admission)."""
        key = f"{namespace}/{name}" if namespace else name
        found = self._cache.buckets[resource.storage].entries.get(key)
        return found.obj if found is not None else None

    def peek_list(self, resource: Resource, namespace: str = "", *, hint: Hint | None = None) -> Objects:
        """Like `peek`, all of a namespace, or of the cluster for ""."""
        bucket = self._cache.buckets[resource.storage]
        # Every write asks for quotas and the like, of which there mostly are none.
        return [entry.obj for entry in bucket.select(namespace, hint=hint)] if bucket.entries else []

    def entries(self, resource: Resource) -> Sequence[Entry]:
        """Like `peek_list`, unparsed."""
        return self._cache.buckets[resource.storage].select()

    def follow(self, resource: Resource, listener: Callable[[Change], None]) -> None:
        """Calls `listener` with every change in the moment the cache takes it, before any watch hears of it."""
        self._cache.buckets[resource.storage].followers.append(listener)

    def close_watches(self, resource: Resource) -> None:
        """Ends all watches of a row that is not served any more."""
        for watch in self._cache.buckets[resource.storage].watches():
            if watch.resource.api_version == resource.api_version:
                watch.close()

    def count(self, resource: Resource, namespace: str = "") -> int:
        """How many there are in a namespace, or in all for ""."""
        return self._cache.buckets[resource.storage].count(namespace)

    def traffic(self, resource: Resource) -> tuple[int, int]:
        """(changes seen, changes remembered) of a kind since the start."""
        bucket = self._cache.buckets[resource.storage]
        return bucket.received, len(bucket.ring)

    def etcd_times(self) -> Times:
        """How long etcd took so far."""
        return self._etcd.times

    async def size(self) -> int:
        """Bytes of etcd's database. ApiError 503."""
        return await asked(self._etcd.size())

    def last_change(self, resource: Resource) -> int:
        """Revision of the newest change the cache saw under the kind's prefix: while it stays, nothing changed."""
        bucket = self._cache.buckets[resource.storage]
        return bucket.ring[-1].revision if bucket.ring else bucket.floor

    async def fresh(self) -> None:
        """Returns when the cache shows every write that was acknowledged before this call."""
        if not self._freshness.certain():
            await self._freshness.fresh()

    async def reach(self, revision: int) -> None:
        """Waits a little for a revision another server has told of. ApiError 504 when it does not come."""
        await self._freshness.reach(revision)

    def _forget(self) -> None:
        """etcd has lost data: what was acknowledged by it and by us may be gone."""
        self._freshness.forget()
        self._compaction.forgotten = 0

    # --- background --------------------------------------------------------------------------------------------------

    async def _bookmark(self) -> None:
        """Tells quiet watchers how far they are, so that they resume from there."""
        while True:
            await self._clock.sleep(BOOKMARK_SECONDS)
            now = self._clock.monotonic()
            for bucket in list(self._cache.buckets.values()):
                bucket.trim(now)
                for watch in bucket.watches():
                    if watch.bookmarks:
                        resource = watch.resource
                        watch.push(bookmark(resource.api_version, resource.kind, self._cache.revision))
