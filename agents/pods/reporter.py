"""Writes a pod's status: only differences, one write at a time, the newest wanted state, until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from agents.pods.conditions import stamped
from agents.pods.patch import status_patch
from agents.pods.records import PodRecords
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, key, name, namespace, uid
from orca.client.clock import Clock, rest

log = structlog.get_logger()

QUIET_SECONDS = 1.0
"""How long a pod that is merely being created may wait for its first write: most run before, and need only one."""
CROWDED_SECONDS = 15.0
"""The same while other pods wait for their turn to be started: what is written meanwhile makes all of them later."""
CROWD_STEP = 1.0
GENERATION_SECONDS = 3.0
"""How long that a new generation was seen may wait to be told with something else; most deleted pods end before."""
FIRST_PROBE_SECONDS = 0.05
"""How long a container that has just been started may wait to be told of together with its first readiness."""
FIRST_RETRY = 0.2
LAST_RETRY = 10.0
REFUSED = (400, 413, 422)
_DULL = ("ContainerCreating", "PodInitializing")


class StatusReporter:
    """For one pod. ``current`` answers the newest object known, ``stored`` is given what the API answered."""

    def __init__(
        self,
        records: PodRecords,
        clock: Clock,
        current: Callable[[], Obj],
        stored: Callable[[Obj], None],
        gone: Callable[[], None],
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        """``crowded``: pods of this host wait for their turn to be started."""
        self._crowded = crowded
        self._records = records
        self._clock = clock
        self._current = current
        self._stored = stored
        self._gone = gone
        self._wanted: Obj | None = None
        self._wanted_at = clock.now()
        self._dull = False
        self._since = self._due = 0.0
        self._sooner = asyncio.Event()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, status: Obj, *, probing: bool = False) -> None:
        """The status as it should be from now on. ``probing``: the first try of a readiness probe is under way."""
        self._wanted, self._wanted_at = status, self._clock.now()
        patch = status_patch(self._current(), self._current().get("status") or {}, status)
        if patch is None:
            return
        self._idle.clear()
        self._dull = is_dull(status)
        if self._dull:
            self._due_in(QUIET_SECONDS)
        elif _only_generations(patch["status"], self._current().get("status") or {}):
            self._due_in(GENERATION_SECONDS)
        elif probing:
            self._due_in(FIRST_PROBE_SECONDS)
        else:
            self._due_in(0.0)
        self._changed.set()

    def _due_in(self, seconds: float) -> None:
        """The next write is due so soon, or sooner when it was already."""
        now = self._clock.monotonic()
        if not self._changed.is_set():
            self._since, self._due = now, now + seconds
        elif now + seconds < self._due:
            self._due = now + seconds
            self._sooner.set()

    async def flushed(self) -> None:
        """Returns when the last offer is in the API or was refused by it, or the pod is gone from it."""
        if not self._idle.is_set():
            self._dull = False
            self._due_in(0.0)
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            await self._linger()
            self._changed.clear()
            await self._write()
            if not self._changed.is_set():
                self._idle.set()

    async def _linger(self) -> None:
        """Until the next write is due."""
        while (left := self._due - self._clock.monotonic()) > 0 or (left := self._left_in_crowd()) > 0:
            self._sooner.clear()
            await rest(self._clock, left, self._sooner)

    def _left_in_crowd(self) -> float:
        """Seconds until asking again whether a pod that is merely being created should be told of."""
        waited = self._clock.monotonic() - self._since
        return CROWD_STEP if self._dull and self._crowded() and waited < CROWDED_SECONDS else 0.0

    async def _write(self) -> None:
        delay, said = FIRST_RETRY, ""
        while True:
            pod, wanted = self._current(), self._wanted
            assert wanted is not None
            # What was decided while the write before this one was under way knew nothing of it.
            known = (pod.get("status") or {}).get("conditions") or ()
            wanted = {**wanted, "conditions": stamped(wanted.get("conditions") or (), known, pod, self._wanted_at)}
            patch = status_patch(pod, pod.get("status") or {}, wanted)
            if patch is None:
                return
            try:
                stored = await self._records.write_status(pod, patch)
            except ApiError as error:
                if (is_not_found(error) or is_conflict(error)) and await self._is_gone(pod):
                    self._gone()
                    return
                if str(error) != said:
                    said = str(error)
                    log.warning("status not written, trying again", pod=key(pod), error=said)
                if error.code in REFUSED:
                    # It may never be taken (the pod fills what an object may have): who waits to delete it, does.
                    self._idle.set()
                await self._clock.sleep(delay)
                delay = min(delay * 2, LAST_RETRY)
                continue
            self._stored(stored)
            return

    async def _is_gone(self, pod: Obj) -> bool:
        """Another pod has the name by now, or none. Asked once more: a pod taken for gone is taken down."""
        try:
            return await self._records.current_uid(namespace(pod), name(pod)) != uid(pod)
        except ApiError:
            return False


def is_dull(status: Obj) -> bool:
    """Nothing but creation under way: no hurry to tell."""
    if status["phase"] != "Pending":
        return False
    for item in [*(status.get("initContainerStatuses") or ()), *status["containerStatuses"]]:
        waiting = item["state"].get("waiting")
        if waiting is None or waiting["reason"] not in _DULL:
            return False
    return True


def _only_generations(changes: Obj, before: Obj) -> bool:
    """The patch says nothing but which generation of the spec was seen (a deletion raises it too)."""
    if not set(changes) <= {"observedGeneration", "conditions"}:
        return False
    known = {item.get("type"): item.get("status") for item in before.get("conditions") or ()}
    return all(known.get(item["type"]) == item.get("status") for item in changes.get("conditions") or ())
