"""The queue under every controller: keys in, one worker a key, failures again with exponential backoff.

Guarantees: a key is worked on by one worker at a time; adding a waiting key twice works on it once; adding a key that
is being worked on works on it once more afterwards, so no change is ever missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from orca.api.errors import ApiError, is_conflict
from orca.client.clock import Clock, SystemClock

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Done:
    """The world is as wanted; forget earlier failures."""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Look again in `seconds`; None: after the key's next backoff step, counted as a failure."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Trying again without a change is pointless; logged, and forgotten until the key is added again."""

    reason: str


Outcome: TypeAlias = Done | RetryAfter | GiveUp

DONE = Done()


class QueueCounts:
    """What the queues of a name have done since the start; one follows the other when leadership changes."""

    __slots__ = ("adds", "busy_since", "depth", "retries", "worked", "worked_seconds")

    def __init__(self) -> None:
        self.adds = 0
        self.retries = 0
        self.depth = 0
        self.worked = 0
        self.worked_seconds = 0.0
        self.busy_since: dict[str, float] = {}


QUEUES: dict[str, QueueCounts] = {}
"""Counts by queue name, of all queues of this process, for whoever shows metrics."""


class WorkQueue:
    """Runs `worker(key)` for every added key. An exception counts as `RetryAfter()`.

    `first` and `last` are the first and the longest backoff in seconds.
    """

    def __init__(
        self,
        worker: Callable[[str], Awaitable[Outcome]],
        *,
        clock: Clock | None = None,
        workers: int = 1,
        name: str = "queue",
        first: float = 0.05,
        last: float = 60.0,
    ) -> None:
        self.name = name
        self._counts = QUEUES.setdefault(name, QueueCounts())
        self._counts.depth = 0
        self._worker = worker
        self._clock = clock or SystemClock()
        self._workers = workers
        self._first = first
        self._last = last
        self._ready: deque[str] = deque()
        self._dirty: set[str] = set()
        self._busy: set[str] = set()
        self._failures: dict[str, int] = {}
        self._later: dict[str, tuple[float, asyncio.Task[None]]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return (
            f"<WorkQueue {self.name}: {len(self._ready)} ready, {len(self._busy)} busy, "
            f"{len(self._later)} later, {len(self._failures)} failing>"
        )

    def add(self, key: str) -> None:
        """Works on `key` as soon as a worker is free."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        self._counts.adds += 1
        self._counts.depth += 1
        self._idle.clear()
        if key not in self._busy:
            self._push(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Works on `key` in `seconds`, or earlier when an earlier wish is pending."""
        if seconds <= 0:
            self.add(key)
            return
        deadline = self._clock.monotonic() + seconds
        pending = self._later.get(key)
        if pending is not None:
            if pending[0] <= deadline:
                return
            pending[1].cancel()
        self._later[key] = (deadline, asyncio.get_running_loop().create_task(self._ripen(key, seconds)))

    def hasten(self) -> None:
        """Works now on every key that waits for its time, e.g. because what its wait was reckoned from has changed."""
        later, self._later = self._later, {}
        for key, (_, task) in later.items():
            task.cancel()
            self.add(key)

    def forget(self, key: str) -> None:
        """Clears the key's failures and pending timer, e.g. because its object is gone."""
        self._failures.pop(key, None)
        pending = self._later.pop(key, None)
        if pending is not None:
            pending[1].cancel()

    def failures(self, key: str) -> int:
        """How often in a row work on `key` failed."""
        return self._failures.get(key, 0)

    async def idle(self) -> None:
        """Returns when nothing is ready or being worked on; timers may still be pending."""
        await self._idle.wait()

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._work(), name=f"{self.name}-{number}")
        finally:
            for _, task in self._later.values():
                task.cancel()
            self._later.clear()

    def _push(self, key: str) -> None:
        self._ready.append(key)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    async def _ripen(self, key: str, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._later.pop(key, None)
        self.add(key)

    async def _next(self) -> str:
        while not self._ready:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return self._ready.popleft()

    async def _work(self) -> None:
        while True:
            key = await self._next()
            self._dirty.discard(key)
            self._busy.add(key)
            counts, began = self._counts, self._clock.monotonic()
            counts.depth -= 1
            counts.busy_since[key] = began
            try:
                self._settle(key, await self._attempt(key))
            finally:
                del counts.busy_since[key]
                counts.worked += 1
                counts.worked_seconds += self._clock.monotonic() - began
                self._busy.discard(key)
                if key in self._dirty:
                    self._push(key)
                if not self._ready and not self._busy:
                    self._idle.set()

    async def _attempt(self, key: str) -> Outcome:
        try:
            return await self._worker(key)
        except ApiError as error:
            # Conflicts are the normal way to learn that one's cache is behind.
            report = log.debug if is_conflict(error) else log.warning
            report("work failed", queue=self.name, key=key, error=str(error), failures=self.failures(key) + 1)
        except Exception:
            log.exception("work crashed", queue=self.name, key=key, failures=self.failures(key) + 1)
        return RetryAfter()

    def _settle(self, key: str, outcome: Outcome) -> None:
        match outcome:
            case RetryAfter(seconds=None):
                count = self._failures.get(key, 0)
                self._failures[key] = count + 1
                self._counts.retries += 1
                self.add_after(key, min(self._first * 2 ** min(count, 30), self._last))
            case RetryAfter(seconds=float() | int() as seconds):
                self._failures.pop(key, None)
                self.add_after(key, seconds)
            case GiveUp(reason=reason):
                self._failures.pop(key, None)
                log.warning("gave up", queue=self.name, key=key, reason=reason)
            case _:
                self._failures.pop(key, None)
