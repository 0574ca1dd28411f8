"""All pods of this host: who has a worker, and which of them hears of what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import structlog

from agents import heap
from agents.images.services import ImageServices, image_services
from agents.origin import is_static
from agents.pods import preemption
from agents.pods.admission import admission
from agents.pods.allocator import Allocator
from agents.pods.checkpoint import load
from agents.pods.gate import Gate
from agents.pods.lifecycle import HOLDS_NOTHING, Life
from agents.pods.memory import Doom
from agents.pods.paths import pod_files
from agents.pods.ports import Network, PodsConfig, PodView, Recorder, ServiceSource, Tenant, Traffic, Volumes
from agents.pods.records import ApiRecords, PodRecords, PodSource
from agents.pods.refusal import HostRules, has_apparmor, host_refusal, refused
from agents.pods.silence import Silence
from agents.pods.sizes import remembered
from agents.pods.sources import SourceReader
from agents.pods.tools import Tools
from agents.pods.verdict import load_verdict
from agents.pods.worker import PodWorker
from agents.probes.handlers import Handlers
from agents.probes.tally import Tally
from agents.resources.cgroups import Cgroups, Settings
from agents.resources.handout import CpuHandout, CpusRefused
from agents.runtime import Runtime, model
from agents.runtime.errors import EngineUnavailable, NoSuchContainer, RuntimeFailure
from agents.runtime.model import ContainerInfo, Survey
from orca.api.builtin import PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj, key, uid
from orca.client.base import Client
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()

Found: TypeAlias = list[ContainerInfo]

FIRST_RETRY = 0.1
LAST_RETRY = 5.0
PARALLEL_REMOVALS = 4


class PodManager:
    """``run()`` until cancelled; ``find`` and ``list`` answer from memory at any time."""

    def __init__(
        self,
        *,
        client: Client,
        runtime: Runtime,
        network: Network,
        volumes: Volumes,
        traffic: Traffic | None = None,
        recorder: Recorder,
        config: PodsConfig,
        clock: Clock | None = None,
        services: ServiceSource | None = None,
        node: Callable[[], Obj | None] = lambda: None,
        pods: PodSource | None = None,
        records: PodRecords | None = None,
        cgroups: Cgroups | None = None,
        cpus: CpuHandout | None = None,
        images: ImageServices | None = None,
        objection: Callable[[Obj], Doom | None] = lambda pod: None,
    ) -> None:
        """``traffic`` is asked before a deleted pod's containers get their signal; ``services`` and ``node`` answer
        from caches of the caller; ``pods`` is an informer of this node's pods, or another source of them, that the
        caller runs; ``records`` is told what became of them, the API by default. Without ``cgroups`` containers are
        where the engine puts them, without ``cpus`` they share all cpus. ``objection`` is asked what the node's state
        says against a new pod."""
        clock = clock or SystemClock()
        if cgroups is None:
            cgroups = Cgroups(Settings(config.cgroup_parent, by_quality=False, kill_together=False), clock=clock)
        if cpus is not None:
            cgroups.exclusive = lambda pod: bool(cpus.exclusive(uid(pod)))
        cgroups.serve(lambda: _cgroup_facts(runtime), lambda: [worker.allotted for worker in self._active()])
        self._runtime = runtime
        self._clock = clock
        self._objection = objection
        self._owns_informer = pods is None
        self._services = services
        self._records = records or ApiRecords(client)
        self.pods: PodSource = pods or Informer(client, PODS, fields=f"spec.nodeName={config.node_name}", clock=clock)
        self._handlers = Handlers(runtime)
        self._tools = Tools(
            records=self._records,
            runtime=runtime,
            images=images or image_services(runtime, config.root, clock),
            network=network,
            volumes=volumes,
            traffic=traffic,
            recorder=recorder,
            clock=clock,
            config=config,
            handlers=self._handlers,
            sources=SourceReader(client, volumes),
            services=services.list if services is not None else tuple,
            node=node,
            gate=Gate(config.parallel_starts),
            removals=Gate(PARALLEL_REMOVALS),
            cgroups=cgroups,
            cpus=cpus,
            freed=self._freed,
        )
        self._rules = HostRules(config.unsafe_sysctls, has_apparmor())
        self._allocator = Allocator(self._active, node, clock, pinned=cpus is not None)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unclaimed: dict[str, Found] = {}
        """Containers of pods that exist, but were not seen yet: the API was away, or the watch is behind."""
        self._room: dict[str, list[str]] = {}
        """Uids of pods that wait for others to end: those others."""
        self._silence = Silence(runtime, clock, self._heard)
        self._looks: set[asyncio.Task[None]] = set()
        self._finished: set[str] = set()
        """Pods that are gone here while their object is still kept by finalizers."""

    def __repr__(self) -> str:
        return f"<PodManager {len(self._workers)} pods>"

    # Being asked

    def find(self, pod_namespace: str, pod_name: str) -> PodView | None:
        """The newest pod of that name on this host."""
        wanted = f"{pod_namespace}/{pod_name}"
        found = [worker for worker in self._workers.values() if key(worker.pod) == wanted]
        if not found:
            return None
        present = self.pods.get(wanted)
        for worker in found:
            if present is not None and worker.uid == uid(present):
                return worker.view()
        return found[-1].view()

    def list(self) -> Iterable[PodView]:
        """Every pod that has something on this host."""
        return [worker.view() for worker in self._workers.values()]

    def tenants(self) -> Sequence[Tenant]:
        """Every pod that may use something of this host."""
        return [worker.tenant() for worker in self._active()]

    @property
    def tally(self) -> Tally:
        """What probes came to."""
        return self._tools.tally

    def wanted_images(self) -> set[str]:
        """Ids of the images that containers are about to be made of."""
        return {image.id for worker in self._workers.values() for image in worker.memory.images.values()}

    async def remove_remains(self) -> None:
        """Remove the containers of pods that are over, which are kept for their logs alone: for a disk that is full.
        Raises ``RuntimeFailure``."""
        over = [worker for worker in self._workers.values() if worker.memory.life is Life.FINISHED]
        for info in [info for worker in over for info in worker.memory.everything() if not info.running]:
            await self._runtime.remove(info.id)

    # Ending pods

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

    # Running

    async def run(self) -> None:
        """Adopt what runs, then follow API and engine until cancelled."""
        async with asyncio.TaskGroup() as group:
            try:
                if self._owns_informer:
                    group.create_task(self.pods.run(), name="informer pods")
                await self.pods.synced()
                if self._services is not None:
                    await self._services.synced()
                group.create_task(self._follow_engine(), name="engine events")
                group.create_task(self._resync(), name="engine resync")
                group.create_task(self._silence.run(), name="silent containers")
                group.create_task(self._allocator.run(), name="pending resizes")
                group.create_task(self._tools.cgroups.run(), name="cgroups of classes")
                await asyncio.Event().wait()
            finally:
                await self._stop_workers()
                await self._handlers.aclose()

    async def _stop_workers(self) -> None:
        tasks = [*self._tasks.values(), *self._looks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Engine

    async def _follow_engine(self) -> None:
        """Events while the engine is there; at each (re)connection everything is compared first."""
        delay, first = FIRST_RETRY, True
        while True:
            try:
                async with self._runtime.events() as events:
                    delay = FIRST_RETRY
                    await self._compare(await self._runtime.survey())
                    if first:
                        first = False
                        self._follow_api()
                        self._allocator.open()
                        await self.clear_leftovers()
                    async for event in events:
                        worker = self._workers.get(event.pod_uid)
                        if worker is not None:
                            worker.happened(event)
                        elif event.action in ("create", "start"):
                            self._look_at_stranger(event.id)
            except EngineUnavailable as error:
                log.warning("engine is away", error=str(error))
            except RuntimeFailure as error:
                log.warning("engine answers badly", error=str(error))
            await self._clock.sleep(delay)
            delay = min(delay * 2, LAST_RETRY)

    async def _resync(self) -> None:
        while True:
            await self._clock.sleep(self._tools.config.resync_seconds)
            heap.give_back()  # what pods that came and went have left
            try:
                await self._take_changes()
                await self._tools.cgroups.reconcile(self._present)
            except OSError as error:
                log.warning("cgroups of gone pods stay", error=str(error))
            except RuntimeFailure as error:
                log.warning("engine cannot be compared", error=str(error))

    async def _take_changes(self) -> None:
        """What differs between the engine and what is known."""
        known = {info.id: info for worker in self._workers.values() for info in worker.memory.everything()}
        survey = await self._runtime.survey(
            lambda identifier, state: identifier not in known or known[identifier].running != (state == "running")
        )
        self._note_silent(survey)
        await self._take(survey.containers)
        for identifier in known.keys() - survey.present:
            self._forget(identifier)

    async def _compare(self, survey: Survey) -> None:
        """Everything the engine has, against everything we know."""
        for worker in list(self._workers.values()):
            for info in worker.memory.everything():
                if info.id not in survey.present:
                    worker.forget(info.id)
        self._note_silent(survey)
        await self._take(survey.containers)

    def _note_silent(self, survey: Survey) -> None:
        """Pods that nobody tends yet wait until all is known of them; the others know their containers."""
        self._silence.note({one: pod_uid for one, pod_uid in survey.silent.items() if pod_uid not in self._workers})

    async def _heard(self, pod_uid: str, containers: Found) -> None:
        """The engine has told of every container of a pod that waited for that."""
        await self._take(containers)
        for pod in self.pods.list():
            if uid(pod) == pod_uid and pod_uid not in self._workers:
                self._seen(pod)

    async def _take(self, containers: Iterable[ContainerInfo]) -> None:
        """Give containers to their pods' workers; those of unknown pods get one that takes them down."""
        groups: dict[str, Found] = {}
        for info in containers:
            groups.setdefault(info.pod_uid, []).append(info)
        by_uid = {uid(pod): pod for pod in self.pods.list()}
        for pod_uid, group in groups.items():
            worker = self._workers.get(pod_uid)
            if worker is None and pod_uid in self._silence:
                for info in group:
                    self._silence.keep(info)
                continue
            if worker is None:
                pod = by_uid.get(pod_uid)
                if pod is None:
                    if await self._exists(group[0]):
                        self._unclaimed[pod_uid] = group
                        continue
                    worker = self._employ(_remains(group), removed=True)
                else:
                    worker = self._employ(pod, group)
            for info in group:
                known = worker.memory.find(info.id)
                if known is None or known != info:
                    worker.adopt(info)

    async def _exists(self, info: ContainerInfo) -> bool:
        """Whether the pod of a container is in the API and still ours, asked directly: killing is not undone."""
        space, pod_name = info.labels.get(model.POD_NAMESPACE, ""), info.labels.get(model.POD_NAME, "")
        try:
            return await self._records.current_uid(space, pod_name) == info.pod_uid
        except ApiError:
            return True  # until it can be asked

    def _look_at_stranger(self, container_id: str) -> None:
        task = asyncio.create_task(self._look(container_id), name=f"look at {container_id[:12]}")
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _look(self, container_id: str) -> None:
        try:
            await self._take([await self._runtime.inspect(container_id)])
        except NoSuchContainer:
            return
        except RuntimeFailure as error:
            log.warning("cannot look at container", container=container_id[:12], error=str(error))

    def _forget(self, container_id: str) -> None:
        for worker in self._workers.values():
            if worker.memory.find(container_id) is not None:
                worker.forget(container_id)

    async def _recover_pulls(self) -> None:
        """Who pulled what, of the pulls that an agent before this one did not see the end of."""
        await self._tools.images.records.recover(await self._runtime.images.list())

    async def clear_leftovers(self) -> None:
        """Addresses and volumes of pods that went while no agent was there."""
        live = self._present()
        tools = self._tools
        for clear in (
            lambda: tools.network.reconcile(live),
            lambda: tools.volumes.orphans(live),
            lambda: tools.images.mounts.orphans(live),
            self._recover_pulls,
            lambda: tools.cgroups.reconcile(self._present),
            self._retain_cpus,
        ):
            try:
                await clear()
            except Exception as error:
                # Leftovers cost space, not correctness: the next start of the agent tries again.
                log.warning("leftovers stay", error=str(error))

    async def _retain_cpus(self) -> None:
        """Those of pods that went while no agent was there are shared again."""
        if self._tools.cpus is not None:
            if self._tools.cpus.retain(self._present()):
                self._place_all()
            await self._tools.cpus.save()

    def _present(self) -> set[str]:
        """Uids of pods that have a worker here or may get one."""
        return {*self._workers, *self._unclaimed, *self._silence.pods}

    # API

    def _follow_api(self) -> None:
        self.pods.on_add(self._seen)
        self.pods.on_update(lambda _, new: self._seen(new))
        self.pods.on_delete(self._gone)

    def _seen(self, pod: Obj) -> None:
        worker = self._workers.get(uid(pod))
        if worker is not None:
            worker.take_object(pod)
            self._place(worker)
            self._allocator.seen(worker)
        elif uid(pod) not in self._finished and uid(pod) not in self._silence:
            found = self._unclaimed.pop(uid(pod), [])
            worker = self._employ(pod, found)
            for info in found:
                worker.look_at(info.id)

    def _gone(self, last: Obj) -> None:
        self._finished.discard(uid(last))
        self._unclaimed.pop(uid(last), None)  # the next comparison finds them, and nobody who wants them
        worker = self._workers.get(uid(last))
        if worker is not None:
            worker.object_removed(last)

    def _employ(self, pod: Obj, containers: Iterable[ContainerInfo] = (), *, removed: bool = False) -> PodWorker:
        saved = load(pod_files(self._tools.config, uid(pod)).directory)
        sizing = remembered(pod, saved, containers)
        sizing.period = self._tools.config.cpu_period
        worker = PodWorker(pod, self._tools, sizing=sizing, removed=removed)
        if not removed:
            others = [other.allotted for other in self._active()]
            if not is_static(pod):  # these begin anew with the agent, whatever ended them
                worker.memory.doom = load_verdict(pod_files(self._tools.config, uid(pod)).directory)
            # Pressure keeps out who comes; who was here before an agent that starts under it has begun already.
            begun = containers or (pod.get("status") or {}).get("startTime")
            ending = [other.allotted for other in self._active() if other.memory.doom is not None]
            unfit, victims = admission(worker.allotted, others, self._tools.node(), ending)
            objection = None if begun else self._objection(pod)
            worker.memory.refused = objection or host_refusal(pod, self._rules) or unfit
            if worker.memory.refused is None:
                self._hand_out(worker)
            if victims and not begun and worker.memory.refused is None:
                self._room[worker.uid] = [uid(victim) for victim in victims]
            self._allocator.seen(worker)
        self._workers[worker.uid] = worker
        self._tools.cgroups.poke()
        self._tasks[worker.uid] = asyncio.create_task(self._work(worker), name=f"pod {key(pod)}")
        return worker

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
        if cpus is None or (worker.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return
        try:
            changed = cpus.allocate(worker.allotted)
        except CpusRefused as error:
            worker.memory.refused = refused(error.reason, str(error))
            return
        self._place(worker)
        if changed:
            self._place_all()

    def _place(self, worker: PodWorker) -> None:
        """Note where a pod's containers are to run."""
        cpus, sizing = self._tools.cpus, worker.memory.sizing
        if cpus is not None:
            sizing.cpus, sizing.exclusive = cpus.cpus_of(worker.pod), cpus.exclusive(worker.uid)

    def _place_all(self) -> None:
        for worker in self._workers.values():
            self._place(worker)
            worker.resized()

    def _freed(self, pod_uid: str) -> None:
        if self._tools.cpus is not None and self._tools.cpus.release(pod_uid):
            self._place_all()
        worker = self._workers.get(pod_uid)
        self._tools.cgroups.poke()
        if worker is not None:
            self._allocator.gone(worker)

    def _active(self) -> Sequence[PodWorker]:
        """Pods that hold what they asked of this host."""
        return [
            worker
            for worker in self._workers.values()
            if not worker.memory.removed
            and worker.memory.refused is None
            and worker.memory.life not in HOLDS_NOTHING
            and (worker.pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]

    async def _work(self, worker: PodWorker) -> None:
        await self._make_room(worker)
        while True:
            try:
                await worker.run()
            except Exception:
                # Loud, and alone: the other pods go on, and this one gets a new worker that observes anew.
                log.exception("worker broke", pod=key(worker.pod))
                await self._clock.sleep(LAST_RETRY)
                broken, sizing = worker, worker.memory.sizing
                worker = PodWorker(worker.pod, self._tools, sizing=sizing, removed=worker.memory.removed)
                worker.memory.doom, worker.over = broken.memory.doom, broken.over
                self._workers[worker.uid] = worker
                sizing.judged = -1
                self._allocator.seen(worker)
                await self._readopt(worker)
                continue
            break
        self._workers.pop(worker.uid, None)
        self._tasks.pop(worker.uid, None)
        self._tools.tally.forget(worker.uid)
        worker.over.set()
        present = self.pods.get(key(worker.pod))
        if present is not None and uid(present) == worker.uid:
            self._finished.add(worker.uid)

    async def _readopt(self, worker: PodWorker) -> None:
        while True:
            try:
                for info in await self._runtime.inspect_all():
                    if info.pod_uid == worker.uid:
                        worker.adopt(info)
                return
            except RuntimeFailure as error:
                log.warning("engine cannot be asked", error=str(error))
                await self._clock.sleep(LAST_RETRY)


async def _cgroup_facts(runtime: Runtime) -> tuple[str, str]:
    abilities = await runtime.abilities()
    return abilities.cgroup_driver, abilities.cgroup_version


def _remains(containers: Found) -> Obj:
    """A pod object for containers whose pod is gone: names and grace period from labels."""
    labels = containers[0].labels
    grace = next((info.labels[model.GRACE_PERIOD] for info in containers if model.GRACE_PERIOD in info.labels), "")
    names = sorted({info.container for info in containers if not info.is_sandbox})
    pod: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": labels.get(model.POD_NAME, ""),
            "namespace": labels.get(model.POD_NAMESPACE, ""),
            "uid": labels.get(model.POD_UID, ""),
        },
        "spec": {"containers": [{"name": container, "image": ""} for container in names]},
    }
    if grace.isdigit():
        pod["spec"]["terminationGracePeriodSeconds"] = int(grace)
    return pod
