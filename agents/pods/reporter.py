"""Writes a pod's status: only differences, one write at a time, the newest wanted state, until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from agents.pods.patch import status_patch
from agents.pods.records import PodRecords
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, key, name, namespace, uid
from orca.client.clock import Clock

log = structlog.get_logger()

QUIET_SECONDS = 1.0
"""How long a pod that is merely being created may wait for its first write: most run before, and need only one."""
CROWDED_SECONDS = 5.0
"""The same while other pods wait for their turn to be started: what is written meanwhile makes all of them later."""
GENERATION_SECONDS = 3.0
"""How long that a new generation was seen may wait to be told with something else; most deleted pods end before."""
FIRST_PROBE_SECONDS = 0.05
"""How long a container that has just been started may wait to be told of together with its first readiness."""
FIRST_RETRY = 0.2
LAST_RETRY = 10.0
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
        self._patience = QUIET_SECONDS
        self._urgent = asyncio.Event()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, status: Obj, *, probing: bool = False) -> None:
        """The status as it should be from now on. ``probing``: the first try of a readiness probe is under way."""
        self._wanted = status
        patch = status_patch(self._current(), self._current().get("status") or {}, status)
        if patch is None:
            return
        self._idle.clear()
        if is_dull(status):
            self._patience = QUIET_SECONDS
        elif _only_generations(patch["status"], self._current().get("status") or {}):
            self._patience = GENERATION_SECONDS
        elif probing:
            self._patience = FIRST_PROBE_SECONDS
        else:
            self._urgent.set()
        self._changed.set()

    async def flushed(self) -> None:
        """Returns when the last offer is in the API, or the pod is gone from it."""
        if not self._idle.is_set():
            self._urgent.set()
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            if not self._urgent.is_set():
                await self._linger()
            self._changed.clear()
            self._urgent.clear()
            await self._write()
            if not self._changed.is_set():
                self._idle.set()

    async def _linger(self) -> None:
        timer = asyncio.ensure_future(self._clock.sleep(QUIET_SECONDS))
        urgent = asyncio.ensure_future(self._urgent.wait())
        try:
            await asyncio.wait({timer, urgent}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            urgent.cancel()

    async def _write(self) -> None:
        delay = FIRST_RETRY
        while True:
            pod, wanted = self._current(), self._wanted
            assert wanted is not None
            patch = status_patch(pod, pod.get("status") or {}, wanted)
            if patch is None:
                return
            try:
                stored = await self._records.write_status(pod, patch)
            except ApiError as error:
                if (is_not_found(error) or is_conflict(error)) and await self._is_gone(pod):
                    self._gone()
                    return
                log.warning("status not written, trying again", pod=key(pod), error=str(error))
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
