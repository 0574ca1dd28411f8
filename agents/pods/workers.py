"""The workers of all pods of this host: who gets one, with which of the host's resources, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta

import structlog

from agents.origin import is_static
from agents.pods import preemption
from agents.pods.admission import admission
from agents.pods.allocator import Allocator
from agents.pods.checkpoint import load
from agents.pods.lifecycle import HOLDS_NOTHING
from agents.pods.memory import Doom
from agents.pods.paths import pod_files
from agents.pods.records import PodSource
from agents.pods.refusal import HostRules, has_apparmor, host_refusal, refused
from agents.pods.sizes import remembered
from agents.pods.tools import Tools
from agents.pods.verdict import load_verdict
from agents.pods.worker import PodWorker
from agents.resources.handout import CpusRefused
from agents.runtime.errors import RuntimeFailure
from agents.runtime.model import ContainerInfo
from orca.api.objects import Obj, key, uid
from orca.api.podphase import is_finished

log = structlog.get_logger()

BROKEN_RETRY = 5.0


class PodWorkers:
    """One worker a pod, by uid. ``objection`` is asked what the node's state says against a new pod."""

    def __init__(self, tools: Tools, pods: PodSource, objection: Callable[[Obj], Doom | None]) -> None:
        self._tools = tools
        self._pods = pods
        self._objection = objection
        self._rules = HostRules(tools.config.unsafe_sysctls, has_apparmor())
        self.allocator = Allocator(self.active, tools.node, tools.clock, pinned=tools.cpus is not None)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._room: dict[str, list[str]] = {}
        """Uids of pods that wait for others to end: those others."""
        self._finished: set[str] = set()
        """Pods that are gone here while their object is still kept by finalizers."""

    def __repr__(self) -> str:
        return f"<PodWorkers {len(self._workers)}>"

    def __iter__(self) -> Iterator[PodWorker]:
        return iter(list(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, pod_uid: str) -> bool:
        return pod_uid in self._workers

    def get(self, pod_uid: str) -> PodWorker | None:
        """That of a pod."""
        return self._workers.get(pod_uid)

    @property
    def uids(self) -> set[str]:
        """Of the pods that have one."""
        return set(self._workers)

    def active(self) -> Sequence[PodWorker]:
        """Pods that hold what they asked of this host."""
        return [
            worker
            for worker in self._workers.values()
            if not worker.memory.removed
            and worker.memory.refused is None
            and worker.memory.life not in HOLDS_NOTHING
            and not is_finished(worker.pod)
        ]

    def employ(self, pod: Obj, containers: Iterable[ContainerInfo] = (), *, removed: bool = False) -> PodWorker:
        """A new worker, for a pod and what the engine has of it; ``removed``: its object is gone from the API."""
        saved = load(pod_files(self._tools.config, uid(pod)).directory)
        sizing = remembered(pod, saved, containers)
        sizing.period = self._tools.config.cpu_period
        worker = PodWorker(pod, self._tools, sizing=sizing, removed=removed)
        if not removed:
            active = self.active()
            others = [other.allotted for other in active]
            if not is_static(pod):  # these begin anew with the agent, whatever ended them
                worker.memory.doom = load_verdict(pod_files(self._tools.config, uid(pod)).directory)
            # Pressure keeps out who comes; who was here before an agent that starts under it has begun already.
            begun = containers or (pod.get("status") or {}).get("startTime")
            ending = [other.allotted for other in active if other.memory.doom is not None]
            unfit, victims = admission(worker.allotted, others, self._tools.node(), ending)
            objection = None if begun else self._objection(pod)
            worker.memory.refused = objection or host_refusal(pod, self._rules) or unfit
            if worker.memory.refused is None:
                self._hand_out(worker)
            if victims and not begun and worker.memory.refused is None:
                self._room[worker.uid] = [uid(victim) for victim in victims]
            self.allocator.seen(worker)
        self._workers[worker.uid] = worker
        self._tools.cgroups.poke()
        self._tasks[worker.uid] = asyncio.create_task(self._work(worker), name=f"pod {key(pod)}")
        return worker

    def update(self, worker: PodWorker, pod: Obj) -> None:
        """A state of a pod's object."""
        worker.take_object(pod)
        self._place(worker)
        self.allocator.seen(worker)

    def had(self, pod_uid: str) -> bool:
        """The pod is over here, although its object is still there."""
        return pod_uid in self._finished

    def clock_moved(self, by: timedelta) -> None:
        """The host's clock was set."""
        for worker in self:
            worker.clock_moved(by)

    def object_removed(self, last: Obj) -> None:
        """A pod's object is gone from the API."""
        self._finished.discard(uid(last))
        worker = self._workers.get(uid(last))
        if worker is not None:
            worker.object_removed(last)

    async def evict(
        self,
        pod_uid: str,
        *,
        reason: str,
        message: str,
        grace_seconds: float | None = None,
        event: str = "",
        event_reason: str = "",
        disruption: str = "",
    ) -> bool:
        """End a pod by this host's own decision (eviction, preemption, shutdown). Returns once that is on disk, so that
        it is carried through whatever happens to the agent; False when there is no such pod or it is over.

        The pod becomes Failed with ``reason`` and ``message`` when nothing of it runs any more, as upstream.
        ``grace_seconds`` comes before the spec's, and only shortens a deletion that is under way. ``event`` is the text
        of a warning, ``event_reason`` (or ``reason``) its reason. ``disruption`` is the message of the condition
        DisruptionTarget; "" for none.
        """
        worker = self._workers.get(pod_uid)
        if worker is None:
            return False
        doom = Doom(reason, message, grace=grace_seconds, disruption=disruption)
        if not await worker.condemn(doom):
            return False
        if event:
            worker.tell(event_reason or reason, event, warning=True)
        return True

    async def stopped(self, pod_uid: str) -> None:
        """Returns once nothing of the pod runs and nothing will."""
        worker = self._workers.get(pod_uid)
        if worker is not None:
            await worker.over.wait()

    async def _make_room(self, worker: PodWorker) -> None:
        """End the pods that a critical one needs the room of, and wait for it, as upstream: with their own grace."""
        victims = self._room.pop(worker.uid, ())
        for victim in victims:
            await self.evict(
                victim,
                reason=preemption.REASON,
                message=preemption.MESSAGE,
                event=preemption.MESSAGE,
                disruption=preemption.CONDITION,
            )
        for victim in victims:
            await self.stopped(victim)

    def _hand_out(self, worker: PodWorker) -> None:
        """Give a pod the cpus its containers are to have alone, or refuse it."""
        cpus = self._tools.cpus
        if cpus is None or is_finished(worker.pod):
            return
        try:
            changed = cpus.allocate(worker.allotted)
        except CpusRefused as error:
            worker.memory.refused = refused(error.reason, str(error))
            return
        self._place(worker)
        if changed:
            self.place_all()

    def _place(self, worker: PodWorker) -> None:
        """Note where a pod's containers are to run."""
        cpus, sizing = self._tools.cpus, worker.memory.sizing
        if cpus is not None:
            sizing.cpus, sizing.exclusive = cpus.cpus_of(worker.pod), cpus.exclusive(worker.uid)

    def place_all(self) -> None:
        """The cpus that are shared have changed."""
        for worker in self._workers.values():
            self._place(worker)
            worker.resized()

    def freed(self, pod_uid: str) -> None:
        """A pod holds nothing of this host any more."""
        if self._tools.cpus is not None and self._tools.cpus.release(pod_uid):
            self.place_all()
        worker = self._workers.get(pod_uid)
        self._tools.cgroups.poke()
        if worker is not None:
            self.allocator.gone(worker)

    async def _work(self, worker: PodWorker) -> None:
        await self._make_room(worker)
        while True:
            try:
                await worker.run()
            except Exception:
                # Loud, and alone: the other pods go on, and this one gets a new worker that observes anew.
                log.exception("worker broke", pod=key(worker.pod))
                await self._tools.clock.sleep(BROKEN_RETRY)
                broken, sizing = worker, worker.memory.sizing
                worker = PodWorker(worker.pod, self._tools, sizing=sizing, removed=worker.memory.removed)
                worker.memory.doom, worker.over = broken.memory.doom, broken.over
                self._workers[worker.uid] = worker
                sizing.judged = -1
                self.allocator.seen(worker)
                await self._readopt(worker)
                continue
            break
        self._workers.pop(worker.uid, None)
        self._tasks.pop(worker.uid, None)
        self._tools.tally.forget(worker.uid)
        worker.over.set()
        present = self._pods.get(key(worker.pod))
        if present is not None and uid(present) == worker.uid:
            self._finished.add(worker.uid)

    async def _readopt(self, worker: PodWorker) -> None:
        while True:
            try:
                for info in await self._tools.runtime.inspect_all():
                    if info.pod_uid == worker.uid:
                        worker.adopt(info)
                return
            except RuntimeFailure as error:
                log.warning("engine cannot be asked", error=str(error))
                await self._tools.clock.sleep(BROKEN_RETRY)

    async def aclose(self) -> None:
        """End them; containers stay, another agent adopts them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
