"""All pods of this host: what other rooms may ask of them, and the loops that follow the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from agents import heap
from agents.images.services import ImageServices, image_services
from agents.pods.adoption import Adoption
from agents.pods.gate import Gate
from agents.pods.lifecycle import Life
from agents.pods.memory import Doom
from agents.pods.ports import Network, PodsConfig, PodView, Recorder, ServiceSource, Tenant, Traffic, Volumes
from agents.pods.records import ApiRecords, PodRecords, PodSource
from agents.pods.sources import SourceReader
from agents.pods.tools import Tools
from agents.pods.workers import PodWorkers
from agents.probes.handlers import Handlers
from agents.probes.tally import Tally
from agents.resources.cgroups import Cgroups, Settings
from agents.resources.handout import CpuHandout
from agents.runtime import Runtime
from agents.runtime.errors import EngineUnavailable, RuntimeFailure
from orca.api.builtin import PODS
from orca.api.objects import Obj, key, uid
from orca.client.base import Client
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()

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
        pulled: Callable[[str, float, float], None] = lambda pod_uid, began, ended: None,
    ) -> None:
        """``traffic`` is asked before a deleted pod's containers get their signal; ``services`` and ``node`` answer
        from caches of the caller; ``pods`` is an informer of this node's pods, or another source of them, that the
        caller runs; ``records`` is told what became of them, the API by default. Without ``cgroups`` containers are
        where the engine puts them, without ``cpus`` they share all cpus. ``objection`` is asked what the node's state
        says against a new pod, ``pulled`` told of each pull."""
        clock = clock or SystemClock()
        if cgroups is None:
            cgroups = Cgroups(Settings(config.cgroup_parent, by_quality=False, kill_together=False), clock=clock)
        if cpus is not None:
            cgroups.exclusive = lambda pod: bool(cpus.exclusive(uid(pod)))
        cgroups.serve(lambda: _cgroup_facts(runtime), lambda: [worker.allotted for worker in self._workers.active()])
        self._runtime = runtime
        self._clock = clock
        self._owns_informer = pods is None
        self._services = services
        records = records or ApiRecords(client)
        self.pods: PodSource = pods or Informer(client, PODS, fields=f"spec.nodeName={config.node_name}", clock=clock)
        self._handlers = Handlers(runtime)
        self._tools = Tools(
            records=records,
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
            freed=lambda pod_uid: self._workers.freed(pod_uid),
            pulled=pulled,
        )
        self._workers = PodWorkers(self._tools, self.pods, objection)
        self.evict, self.stopped = self._workers.evict, self._workers.stopped
        self.clock_moved = self._workers.clock_moved
        self._adoption = Adoption(runtime, self._workers, self.pods, records, clock)

    def __repr__(self) -> str:
        return f"<PodManager {len(self._workers)} pods>"

    def host_is_at(self, addresses: tuple[str, ...]) -> None:
        """The host has other addresses than the configuration said; pods' statuses follow at their next look."""
        self._tools.config = replace(self._tools.config, host_ips=addresses)

    # Being asked

    def find(self, pod_namespace: str, pod_name: str) -> PodView | None:
        """The newest pod of that name on this host."""
        wanted = f"{pod_namespace}/{pod_name}"
        found = [worker for worker in self._workers if key(worker.pod) == wanted]
        if not found:
            return None
        present = self.pods.get(wanted)
        for worker in found:
            if present is not None and worker.uid == uid(present):
                return worker.view()
        return found[-1].view()

    def object(self, pod_uid: str) -> Obj | None:
        """The pod of that uid, None when there is none on this host."""
        worker = self._workers.get(pod_uid)
        return worker.pod if worker is not None else None

    def list(self) -> Iterable[PodView]:
        """Every pod that has something on this host."""
        return [worker.view() for worker in self._workers]

    def tenants(self) -> Sequence[Tenant]:
        """Every pod that may use something of this host."""
        return [worker.tenant() for worker in self._workers.active()]

    @property
    def tally(self) -> Tally:
        """What probes came to."""
        return self._tools.tally

    def wanted_images(self) -> set[str]:
        """Ids of the images that containers are about to be made of."""
        return {image.id for worker in self._workers for image in worker.memory.images.values()}

    @property
    def crowded(self) -> bool:
        """Pods wait for their turn to be started or removed."""
        return self._tools.gate.crowded or self._tools.removals.crowded

    async def remove_remains(self) -> None:
        """Remove the containers of pods that are over, which are kept for their logs alone: for a disk that is full.
        Raises ``RuntimeFailure``."""
        over = [worker for worker in self._workers if worker.memory.life is Life.FINISHED]
        for info in [info for worker in over for info in worker.memory.everything() if not info.running]:
            await self._runtime.remove(info.id)

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
                group.create_task(self._adoption.silence.run(), name="silent containers")
                group.create_task(self._workers.allocator.run(), name="pending resizes")
                group.create_task(self._tools.cgroups.run(), name="cgroups of classes")
                await asyncio.Event().wait()
            finally:
                await self._adoption.aclose()
                await self._workers.aclose()
                await self._handlers.aclose()

    # Engine

    async def _follow_engine(self) -> None:
        """Events while the engine is there; at each (re)connection everything is compared first."""
        delay, first = FIRST_RETRY, True
        while True:
            try:
                async with self._runtime.events() as events:
                    delay = FIRST_RETRY
                    await self._adoption.compare(await self._runtime.survey())
                    if first:
                        first = False
                        self.pods.on_add(self._adoption.seen)
                        self.pods.on_update(lambda _, new: self._adoption.seen(new))
                        self.pods.on_delete(self._adoption.gone)
                        self._workers.allocator.open()
                        await self.clear_leftovers()
                    async for event in events:
                        worker = self._workers.get(event.pod_uid)
                        if worker is not None:
                            worker.happened(event)
                        elif event.action in ("create", "start"):
                            self._adoption.look_at_stranger(event.id)
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
                await self._adoption.take_changes()
                await self._tools.cgroups.reconcile(self._adoption.present)
            except OSError as error:
                log.warning("cgroups of gone pods stay", error=str(error))
            except RuntimeFailure as error:
                log.warning("engine cannot be compared", error=str(error))

    async def _recover_pulls(self) -> None:
        """Who pulled what, of the pulls that an agent before this one did not see the end of."""
        await self._tools.images.records.recover(await self._runtime.images.list())

    async def clear_leftovers(self) -> None:
        """Addresses and volumes of pods that went while no agent was there."""
        live = self._adoption.present()
        tools = self._tools
        for clear in (
            lambda: tools.network.reconcile(live),
            lambda: tools.volumes.orphans(live),
            lambda: tools.images.mounts.orphans(live),
            self._recover_pulls,
            lambda: tools.cgroups.reconcile(self._adoption.present),
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
            if self._tools.cpus.retain(self._adoption.present()):
                self._workers.place_all()
            await self._tools.cpus.save()


async def _cgroup_facts(runtime: Runtime) -> tuple[str, str]:
    abilities = await runtime.abilities()
    return abilities.cgroup_driver, abilities.cgroup_version
