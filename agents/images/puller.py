"""Pulls of this host: one for all who want the same, each in its turn, watched for progress and given up when stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import orjson
import structlog

from agents.images.turns import Places, Rate
from agents.runtime.errors import PullFailed
from agents.runtime.pulling import PullProgress
from orca.client.clock import Clock

STALL_SECONDS = 60.0
"""Without any progress for so long a pull is given up, however slow it may be otherwise (dockershim's
``image-pull-progress-deadline`` of one minute)."""
UNPACKING_SECONDS = 600.0
"""The same once everything is fetched: what is left is this host's own disk, which may be slow."""
YIELD_SECONDS = 10.0
"""Without progress for so long a pull lets the next begin: a registry that hangs must not hold up the others."""

Watcher = Callable[[PullProgress], None]

log = structlog.get_logger()


class Fetcher(Protocol):
    """The part of ``agents.runtime.images.Images`` that pulls."""

    async def pull(
        self, reference: str, *, auth: Mapping[str, str] | None = None, progress: Watcher | None = None
    ) -> None: ...


class Puller:
    """``pull`` an image; callers that want the same image with the same login share one pull.

    ``parallel``: pulls at once, 0 for no limit; ``qps`` and ``burst``: how fast pulls may begin, qps 0 for no limit.
    """

    def __init__(self, fetcher: Fetcher, *, clock: Clock, parallel: int = 1, qps: float = 5.0, burst: int = 10) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._places = Places(parallel, self._drop_unwanted)
        self._rate = Rate(qps, burst, clock.monotonic)
        self._pulls: dict[tuple[str, bytes], _Pull] = {}

    def __repr__(self) -> str:
        return f"<Puller {sorted(reference for reference, _ in self._pulls)}>"

    async def pull(
        self, reference: str, *, auth: Mapping[str, str] | None = None, watch: Watcher | None = None
    ) -> float:
        """Returns the seconds it took, waiting for its turn not counted. ``watch`` hears of every step forward.

        Raises as ``Images.pull``; ``PullFailed`` also for too many pulls in a short time and for one that is stuck.
        """
        key = (reference, orjson.dumps(dict(auth), option=orjson.OPT_SORT_KEYS) if auth else b"")
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull(reference, auth, self)
            pull.task.add_done_callback(lambda _: self._pulls.pop(key, None))
        pull.wanted += 1
        if watch is not None:
            pull.watchers.append(watch)
        try:
            return await asyncio.shield(pull.task)
        finally:
            pull.wanted -= 1
            if watch is not None:
                pull.watchers.remove(watch)

    async def aclose(self) -> None:
        """End what is under way."""
        tasks = [pull.task for pull in self._pulls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop_unwanted(self) -> None:
        """Somebody waits for a place: a pull whose pods are all gone has had its time. Without a queue it goes on, for
        the next pod is likely to want what this one did."""
        for pull in self._pulls.values():
            if not pull.wanted:
                pull.task.cancel()

    async def run(self, pull: _Pull) -> float:
        """The task of one pull."""
        await self._places.take()
        pull.holds_place = True
        if not self._rate.accept():
            self._leave(pull)
            raise PullFailed("pull QPS exceeded")
        began = pull.moved_at = self._clock.monotonic()
        fetching = asyncio.create_task(
            self._fetcher.pull(pull.reference, auth=pull.auth, progress=pull.moved), name=f"fetch {pull.reference}"
        )
        try:
            while True:
                nap = asyncio.ensure_future(self._clock.sleep(self._patience(pull)))
                try:
                    await asyncio.wait({fetching, nap}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    nap.cancel()
                if fetching.done():
                    await fetching
                    return self._clock.monotonic() - began
                self._judge(pull)
        finally:
            self._leave(pull)
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    def _patience(self, pull: _Pull) -> float:
        """Seconds until it must be looked at again."""
        idle = self._clock.monotonic() - pull.moved_at
        limit = YIELD_SECONDS if pull.holds_place and idle < YIELD_SECONDS else pull.longest_pause
        return max(limit - idle, 0.05)

    def _judge(self, pull: _Pull) -> None:
        idle = self._clock.monotonic() - pull.moved_at
        if idle >= YIELD_SECONDS:
            self._leave(pull)
        if idle < pull.longest_pause:
            return
        others_move = any(
            other is not pull and self._clock.monotonic() - other.moved_at < STALL_SECONDS
            for other in self._pulls.values()
        )
        if pull.progress.queued and others_move:
            # The engine has its own queue of layers, over all pulls; those in front of this one go on.
            pull.moved_at = self._clock.monotonic()
            return
        latest = pull.progress.text() or "nothing fetched"
        log.warning("pull is stuck", image=pull.reference, progress=latest)
        raise PullFailed(f"no progress for {pull.longest_pause:g}s, the pull is given up; latest progress: {latest}")

    def _leave(self, pull: _Pull) -> None:
        if pull.holds_place:
            pull.holds_place = False
            self._places.give_back()


class _Pull:
    """One pull under way."""

    def __init__(self, reference: str, auth: Mapping[str, str] | None, puller: Puller) -> None:
        self.reference = reference
        self.auth = auth
        self.watchers: list[Watcher] = []
        self.wanted = 0
        self.progress = PullProgress()
        self.moved_at = puller._clock.monotonic()
        self.holds_place = False
        self._monotonic = puller._clock.monotonic
        self.task = asyncio.create_task(puller.run(self), name=f"pull {reference}")
        # Whoever waited may be gone when it fails.
        self.task.add_done_callback(lambda task: None if task.cancelled() else task.exception())

    @property
    def longest_pause(self) -> float:
        return UNPACKING_SECONDS if self.progress.percent == 100 else STALL_SECONDS

    def moved(self, progress: PullProgress) -> None:
        self.progress, self.moved_at = progress, self._monotonic()
        for watcher in self.watchers:
            watcher(progress)
