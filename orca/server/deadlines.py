"""Requests that take too long are ended: by ``--request-timeout``, or by a client's ``?timeout=``.

A timer for each would cost more than many a request does. All share one length, so they are due in the order in which
they came, and one task that wakes now and then only looks at the oldest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from orca.api.durations import parse_duration
from orca.api.errors import ApiError, bad_request, timeout

LONGEST_SWEEP = 0.5


class Deadlines:
    """``seconds`` is the default and the most; 0 sets no limit."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[asyncio.Task[Any], float] = {}
        self._own: dict[asyncio.Task[Any], asyncio.TimerHandle] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._held: set[asyncio.Task[Any]] = set()

    def enter(self, task: asyncio.Task[Any], began: float) -> None:
        """A request has begun (``perf_counter`` seconds)."""
        if self.seconds:
            self._due[task] = began + self.seconds

    def shorten(self, task: asyncio.Task[Any], query: Mapping[str, str]) -> None:
        """Heed ``?timeout=`` of a request that may not take long. Raises ApiError 400."""
        text = query.get("timeout", "")
        if not text:
            return
        try:
            wanted = parse_duration(text)
        except ValueError as error:
            raise bad_request(f"invalid timeout specified in the request URL - {error}") from None
        if wanted <= 0 or (self.seconds and wanted >= self.seconds):
            return
        self._own[task] = asyncio.get_running_loop().call_later(wanted, self._expire, task)

    def release(self, task: asyncio.Task[Any]) -> None:
        """It may take as long as it likes from here on: it streams."""
        self._due.pop(task, None)
        own = self._own.pop(task, None)
        if own is not None:
            own.cancel()

    @contextmanager
    def held(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """Nothing is ended meanwhile; what is overdue then, is soon after."""
        self._held.add(task)
        try:
            yield
        finally:
            self._held.discard(task)

    def leave(self, task: asyncio.Task[Any]) -> None:
        """It is over."""
        self._due.pop(task, None)
        if self._own:
            self.release(task)
        if self._expired:
            self._expired.discard(task)

    def expired(self, task: asyncio.Task[Any]) -> bool:
        """Whether it was its deadline that cancelled a task."""
        return task in self._expired

    @property
    def error(self) -> ApiError:
        """What the client is told."""
        return timeout("request did not complete within the allotted timeout")

    async def sweep(self) -> None:
        """Until cancelled."""
        if not self.seconds:
            return
        while True:
            await asyncio.sleep(min(LONGEST_SWEEP, self.seconds / 4))
            now = perf_counter()
            overdue = []
            for task, due in self._due.items():
                if due > now:
                    break
                overdue.append(task)
            for task in overdue:
                self._expire(task)

    def _expire(self, task: asyncio.Task[Any]) -> None:
        if task in self._held:
            own = self._own.get(task)
            if own is not None:
                own.cancel()  # the sweep comes here, too, and what it left behind would end later requests of the task
                self._own[task] = asyncio.get_running_loop().call_later(LONGEST_SWEEP, self._expire, task)
            return
        self.release(task)
        if not task.done():
            self._expired.add(task)
            task.cancel()
