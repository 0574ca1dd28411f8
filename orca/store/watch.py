"""One watcher: a bounded queue of shared events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType

from orca.api.errors import expired, internal
from orca.api.resources import Resource
from orca.store.cache import Bucket, Cache, Hint, Predicate
from orca.store.entries import Change, Event, bookmark
from orca.store.faults import told

BUFFER = 20_000
BUFFER_BYTES = 64 << 20
"""Of objects that one watcher has not taken yet: it may be all that keeps them in memory."""
BATCH = 1000
BATCH_BYTES = 1 << 20
"""So that what one slow watcher has missed, or all there is at first, is not copied as a whole for it."""
_FEW = 16  # events whose sizes need not be added up


class Watch:
    """Events of one resource as one watcher sees them.

    Iterate, or take everything that is pending with `batch` (one write to a socket instead of many). `start` may be
    called first to have "too old" (ApiError 410) raised before anything is answered. A watcher that lets `BUFFER`
    events or `BUFFER_BYTES` pile up is ended: iteration stops, and it resumes from the last resourceVersion it has
    seen.
    """

    def __init__(
        self,
        resource: Resource,
        cache: Cache,
        *,
        namespace: str,
        name: str,
        since: int | None,
        predicate: Predicate | None,
        hint: Hint | None,
        bookmarks: bool,
        initial_end: bool,
        fresh: Callable[[], Awaitable[None]],
        told: Callable[[int], Awaitable[None]],
    ) -> None:
        self.resource = resource
        self.bookmarks = bookmarks
        self.channel: Hint = ("", "")
        if hint is not None:
            self.channel = hint
        elif name and (namespace or not resource.namespaced):
            self.channel = ("name", f"{namespace}/{name}" if namespace else name)
        elif namespace:
            self.channel = ("namespace", namespace)
        self.overflowed = False
        self._cache = cache
        self._bucket: Bucket = cache.bucket(resource.storage)
        self._namespace = namespace
        self._name = name
        self._since = since
        self._predicate = predicate
        self._hint = hint
        self._initial_end = initial_end
        self._fresh = fresh
        self._told = told
        self._pending: deque[Event] = deque()
        self._room = BUFFER
        self._behind = 0  # bytes of about what is pending, beyond the first few and what there was at the start
        self._waiter: asyncio.Future[None] | None = None
        self.listener: Callable[[], None] | None = None
        """Called when something is pending that was not before, and when the watch ends: for who does not wait in
        `batch`, but takes."""
        self._started = False
        self._ended = False

    def __repr__(self) -> str:
        state = "ended" if self._ended else f"{len(self._pending)} pending"
        return f"<Watch {self.resource.group_resource} {self.channel}: {state}>"

    async def start(self) -> None:
        """Attaches to the cache; again is harmless. ApiError 410 when `since` is older than what is remembered, or was
        told of before etcd lost data."""
        if self._started:
            return
        self._started = True
        if self._since is None:
            # The initial events must not be older than a write that was acknowledged before we were asked.
            await self._fresh()
            fault = self._bucket.fault_in(self._namespace) if self._bucket.faults else ""
            if fault:
                self._ended = True
                raise internal(told(f"{self._bucket.storage}/{fault}", self._bucket.faults[fault]))
            self._begin()
        else:
            if self._since > self._cache.revision:
                await self._told(self._since)
            missed = self._bucket.changes_since(self._since)
            if missed is None:
                self._ended = True
                raise expired(f"too old resource version: {self._since} ({self._bucket.floor})")
            for change in missed:
                self.offer(change)
        if not self._ended:
            self._bucket.attach(self)

    def _begin(self) -> None:
        for entry in self._bucket.select(self._namespace, hint=self._hint):
            if self._name and entry.name != self._name:
                continue
            if self._predicate is None or self._predicate(entry.obj):
                self._pending.append(Event("ADDED", entry))
        self._since = self._cache.revision
        self._room += len(self._pending)  # however much there is: it must be possible to take it all
        if self._initial_end:
            self._pending.append(
                bookmark(self.resource.api_version, self.resource.kind, self._cache.revision, initial_end=True)
            )

    def offer(self, change: Change) -> None:
        """Takes a change, turned into what it means to this watcher's selector."""
        if self._since is not None and change.revision <= self._since:
            return
        shown = change.entry or change.previous
        assert shown is not None
        if (self._namespace and shown.namespace != self._namespace) or (self._name and shown.name != self._name):
            return
        matches = self._predicate
        was = change.previous is not None and (matches is None or matches(change.previous.obj))
        now = change.entry is not None and (matches is None or matches(change.entry.obj))
        if now:
            self.push(change.event("MODIFIED" if was else "ADDED"))
        elif was:
            self.push(change.event("DELETED"))

    def push(self, event: Event) -> None:
        if self._ended:
            return
        self._pending.append(event)
        waiting = len(self._pending)
        if waiting > _FEW:
            self._behind += event.entry.size
            if waiting > self._room or self._behind > BUFFER_BYTES:
                self.overflowed = True
                self._pending.clear()
                self.close()
                return
        if self._waiter is not None:
            self._wake()
        elif self.listener is not None and waiting == 1:
            self.listener()

    def mark(self) -> None:
        """Adds a bookmark: what was pending before it is everything up to now."""
        if self.bookmarks:
            self.push(bookmark(self.resource.api_version, self.resource.kind, self._cache.revision))

    async def batch(self) -> list[Event]:
        """Pending events, one to `BATCH` of them and about `BATCH_BYTES`; [] once the watch has ended. ApiError 410 at
        the first call."""
        if not self._started:
            await self.start()
        while not self._pending:
            if self._ended:
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.take()

    def take(self) -> list[Event]:
        """The same without waiting; [] when nothing is pending."""
        pending = self._pending
        if len(pending) <= _FEW:
            events = list(pending)
            pending.clear()
            self._behind = 0
            return events
        events, room = [], BATCH_BYTES
        while pending and room > 0 and len(events) < BATCH:
            event = pending.popleft()
            room -= event.entry.size
            events.append(event)
        self._behind = max(0, self._behind - (BATCH_BYTES - room))
        return events

    def close(self) -> None:
        """Ends it; what is pending can still be read."""
        self._ended = True
        self._bucket.detach(self)
        self._wake()
        if self.listener is not None:
            self.listener()

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more but what is pending."""
        return self._ended

    @property
    def waits(self) -> bool:
        """Whether something is pending."""
        return bool(self._pending)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if not self._pending:
            if not self._started:
                await self.start()
            while not self._pending:
                if self._ended:
                    raise StopAsyncIteration
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
        event = self._pending.popleft()
        self._behind = max(0, self._behind - event.entry.size)
        return event

    async def aclose(self) -> None:
        self.close()

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
