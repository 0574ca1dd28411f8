"""Looks every ten seconds, and carries out what follows: conditions of the node, room made by removing what nobody
uses, pods that have to go, one a round. What follows is decided in `planner`, `ranking` and `local_storage`.

A look costs a few small files. Pods are measured only when one has to be chosen, or where local storage is limited.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

from agents.eviction import local_storage, messages
from agents.eviction.admission import objection
from agents.eviction.messages import REASON, Eviction
from agents.eviction.observations import Observations, observe
from agents.eviction.planner import Round, State, look, met_by
from agents.eviction.ranking import is_critical, ranked
from agents.eviction.settings import Settings
from agents.eviction.thresholds import (
    IMAGE_SIGNALS,
    MEMORY_SIGNALS,
    Signal,
    Threshold,
    with_container_fs,
)
from agents.pods.memory import Doom
from agents.pods.ports import Tenant
from agents.stats.model import NodeStats, PodStats
from orca.api.objects import Obj, key, uid
from orca.client.clock import Clock, rest

LOOK_SECONDS = 10.0
CLEANUP_SECONDS = 30.0
SETTLE_SECONDS = 1.0
"""From a pod's end to the next look: what it held is not free everywhere at once."""
RECLAIM_SECONDS = 60.0
IMMEDIATE_GRACE = 1.0
"""At hard thresholds and for local storage: the node cannot wait."""
DISK_AGE = 5.0

log = structlog.get_logger()

Reclaim = Callable[[], Awaitable[object]]
"""Frees what nobody uses; its failure is told and does not stop the others."""


class Pods(Protocol):
    """The part of ``agents.pods.PodManager`` that is needed."""

    def tenants(self) -> Sequence[Tenant]: ...

    async def evict(
        self, pod_uid: str, *, reason: str, message: str, grace_seconds: float | None = None, disruption: str = ""
    ) -> bool: ...

    async def stopped(self, pod_uid: str) -> None: ...


class Meters(Protocol):
    """``agents.stats.collector.Collector``."""

    async def node(self) -> NodeStats: ...

    async def use_of(self, tenants: Sequence[Tenant]) -> tuple[PodStats, ...]: ...

    async def disk_of(self, tenants: Sequence[Tenant], *, max_age: float) -> tuple[PodStats, ...]: ...

    async def forget(self) -> None: ...


class Recorder(Protocol):
    """``orca.client.EventRecorder``."""

    def event(
        self, obj: Obj, kind: str, reason: str, message: str, *, annotations: Mapping[str, str] | None = None
    ) -> None: ...


class Notifiers(Protocol):
    """``agents.eviction.notifier.MemoryNotifiers``."""

    def arm(self, signal: Signal, usage: int, wake: Callable[[], None]) -> None: ...

    def close(self) -> None: ...


class EvictionManager:
    """``run`` until cancelled. ``pods`` answers None until there is a manager of pods; ``reclaims`` free disk, one
    after the other; ``changed`` is called when the node's conditions did. ``notifiers`` wake between looks."""

    def __init__(
        self,
        *,
        node_name: str,
        settings: Settings,
        meters: Meters,
        pods: Callable[[], Pods | None],
        recorder: Recorder,
        clock: Clock,
        reclaims: Sequence[Reclaim] = (),
        changed: Callable[[], None] = lambda: None,
        notifiers: Notifiers | None = None,
    ) -> None:
        self._settings = settings
        self._meters = meters
        self._pods = pods
        self._recorder = recorder
        self._clock = clock
        self._reclaims = reclaims
        self._changed = changed
        self._notifiers = notifiers
        self._woken = asyncio.Event()
        self._node: Obj = {"kind": "Node", "metadata": {"name": node_name, "uid": node_name}}
        self._thresholds: tuple[Threshold, ...] = settings.thresholds
        self._state = State()
        self._dedicated = False
        self.conditions: tuple[str, ...] | None = None
        """What the node's status should say is True; None before the first look."""
        self._ending: set[str] = set()
        """Uids of pods that were evicted and are not gone."""
        self.evictions: Counter[str] = Counter()
        """Pods evicted since the start, by signal."""

    def __repr__(self) -> str:
        return f"<EvictionManager {list(self.conditions or ())}>"

    def objection(self, pod: Obj) -> Doom | None:
        """Why a new pod may not come now."""
        return objection(pod, self.conditions or ())

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                evicted = await self.look()
                if evicted:
                    await self._cleaned_up(evicted)
                elif self.conditions and self._pods() is None:
                    # An agent that starts under pressure does not wait to act upon it.
                    await self._clock.sleep(SETTLE_SECONDS)
                else:
                    await self._pause()
        finally:
            if self._notifiers is not None:
                self._notifiers.close()

    async def _pause(self) -> None:
        """Until the next look is due, or memory has crossed a threshold; with a moment between looks in any case."""
        if self._notifiers is None:
            await self._clock.sleep(LOOK_SECONDS)
            return
        await self._clock.sleep(SETTLE_SECONDS)
        await rest(self._clock, LOOK_SECONDS - SETTLE_SECONDS, self._woken)

    def _arm(self, node: NodeStats, observed: Observations) -> None:
        """Have the kernel tell when as much is used as leaves the least that a threshold wants; what is in files that
        can be dropped counts as used there, but not for a threshold."""
        if self._notifiers is None:
            return
        uses = {Signal.MEMORY: node.memory, Signal.ALLOCATABLE_MEMORY: node.pods.memory if node.pods else None}
        for signal, use in uses.items():
            seen = observed.get(signal)
            wanted = (
                [one.quantity(seen.capacity).integer for one in self._thresholds if one.signal is signal]
                if seen
                else []
            )
            if seen is not None and use is not None and wanted:
                droppable = use.usage - use.working_set
                self._notifiers.arm(signal, max(seen.capacity - max(wanted) + droppable, 0), self._woken.set)

    async def look(self) -> list[str]:
        """One look and what follows from it; answers the uids of the pods that were evicted."""
        self._woken.clear()
        node = await self._meters.node()
        self._note_filesystems(node)
        observed = observe(node)
        self._arm(node, observed)
        self._state, round_ = look(
            self._state, self._thresholds, observed, self._settings.transition, _steady(self._clock)
        )
        if round_.conditions != self.conditions:
            log.info("the node's conditions", present=list(round_.conditions))
            self.conditions = round_.conditions
            self._changed()
        pods = self._pods()
        if pods is None:
            return []
        # Who was told to go and does not end, because the engine hangs, must not stand in for all the others.
        self._ending &= {uid(tenant.pod) for tenant in pods.tenants()}
        if self._settings.local_storage:
            evicted = await self._enforce_limits(pods)
            if evicted:
                return evicted
        await self._meters.forget()
        if round_.threshold is None:
            return []
        return await self._relieve(pods, round_, round_.threshold, observed)

    def _note_filesystems(self, node: NodeStats) -> None:
        """Where images have a file system of their own is known once the engine has answered."""
        own, images = node.filesystem, node.image_filesystem
        self._dedicated = own is not None and images is not None and own.device != images.device
        self._thresholds = with_container_fs(self._settings.thresholds, dedicated_image_fs=self._dedicated)

    def _candidates(self, pods: Pods) -> list[Tenant]:
        return [tenant for tenant in pods.tenants() if uid(tenant.pod) not in self._ending]

    # --- limits of pods

    async def _enforce_limits(self, pods: Pods) -> list[str]:
        limited = [tenant for tenant in self._candidates(pods) if local_storage.is_limited(tenant.pod)]
        if not limited:
            return []
        by_uid = {uid(tenant.pod): tenant.pod for tenant in limited}
        evicted = []
        for stats in await self._meters.disk_of(limited, max_age=DISK_AGE):
            pod = by_uid[stats.uid]
            excess = local_storage.excess(pod, stats, dedicated_image_fs=self._dedicated)
            if excess is not None and await self._evict(pods, pod, excess.eviction, IMMEDIATE_GRACE, excess.signal):
                evicted.append(stats.uid)
        return evicted

    # --- what the node runs short of

    async def _relieve(self, pods: Pods, round_: Round, threshold: Threshold, observed: Observations) -> list[str]:
        resource = round_.resource
        log.warning("attempting to reclaim", resource=resource, signal=threshold.signal.value)
        self._recorder.event(self._node, "Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if await self._reclaim(threshold.signal):
            log.info("no pod has to go", resource=resource)
            return []
        tenants = self._candidates(pods)
        if threshold.signal is Signal.PID or threshold.signal in MEMORY_SIGNALS:
            used = await self._meters.use_of(tenants)
        else:
            used = await self._meters.disk_of(tenants, max_age=DISK_AGE)
        stats = {one.uid: one for one in used}
        candidates = [tenant.pod for tenant in tenants]
        for pod in ranked(threshold.signal, candidates, stats, dedicated_image_fs=self._dedicated):
            eviction = messages.low_on(resource, pod, stats.get(uid(pod)), round_.due, observed)
            grace = IMMEDIATE_GRACE if threshold.hard else self._soft_grace(pod)
            signal = threshold.signal.value
            if await self._evict(pods, pod, eviction, grace, signal, disruption=eviction.message):
                return [uid(pod)]
        log.error("no pod can be evicted", resource=resource)
        return []

    def _soft_grace(self, pod: Obj) -> float:
        own = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
        return self._settings.longest_grace if own is None else min(self._settings.longest_grace, float(own))

    async def _reclaim(self, signal: Signal) -> bool:
        """Free what nobody uses, where that helps; True when it was enough."""
        helps = signal in IMAGE_SIGNALS if self._dedicated else signal not in MEMORY_SIGNALS | {Signal.PID}
        if not helps or not self._reclaims:
            return False
        for reclaim in self._reclaims:
            try:
                async with asyncio.timeout(RECLAIM_SECONDS):
                    await reclaim()
            except Exception as error:
                # Whatever went wrong with one, the others and in the end the pods must still give way.
                log.warning("cannot free what nobody uses", error=str(error) or type(error).__name__)
        observed = observe(await self._meters.node())
        return not met_by(self._thresholds, observed, with_reclaim=True)

    # --- ending pods

    async def _evict(
        self, pods: Pods, pod: Obj, eviction: Eviction, grace: float, signal: str, *, disruption: str = ""
    ) -> bool:
        if is_critical(pod):
            log.error("a critical pod is not evicted", pod=key(pod), message=eviction.message)
            return False
        if not await pods.evict(
            uid(pod), reason=REASON, message=eviction.message, grace_seconds=grace, disruption=disruption
        ):
            return False
        log.warning("evicted", pod=key(pod), message=eviction.message)
        self._recorder.event(pod, "Warning", REASON, eviction.message, annotations=eviction.annotations)
        self.evictions[signal] += 1
        self._ending.add(uid(pod))
        return True

    async def _cleaned_up(self, evicted: Sequence[str]) -> None:
        """What they held has to be free before it is looked at again, else too many would go."""
        pods = self._pods()
        if pods is None:
            return
        timer = asyncio.create_task(self._clock.sleep(CLEANUP_SECONDS))
        waiting = asyncio.create_task(_all_stopped(pods, evicted))
        try:
            await asyncio.wait({waiting, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            timer.cancel()
            await asyncio.gather(waiting, timer, return_exceptions=True)
        await self._clock.sleep(SETTLE_SECONDS)


async def _all_stopped(pods: Pods, uids: Sequence[str]) -> None:
    for pod_uid in uids:
        await pods.stopped(pod_uid)


def _steady(clock: Clock) -> datetime:
    """A time line that nobody sets, for the times between two looks; where it begins means nothing."""
    return datetime.fromtimestamp(clock.monotonic(), UTC)
