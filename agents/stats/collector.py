"""Measures when asked: pods by their cgroups, volumes and logs, the host by /proc. Reading files happens in threads.

Nothing is measured twice within a second, however many ask. Use of cpu a second needs two samples: the one before is
whatever was measured last, or the container's start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import structlog

from agents.pods.ports import Tenant
from agents.resources.usage import Hierarchy, find_hierarchy
from agents.runtime.errors import RuntimeFailure
from agents.stats import host
from agents.stats.claims import ClaimMeter, ClaimUse, by_volume
from agents.stats.disk import NOTHING, Counted, Ledger, count_files, count_logs, filesystem
from agents.stats.groups import Group, Labels, group_of
from agents.stats.meter import FRESH_SECONDS, Meter, bare
from agents.stats.model import Filesystem, Network, NodeStats, PodStats, Summary
from orca.api.objects import uid
from orca.client.clock import Clock

SUMMARY_DISK_AGE = 60.0
"""The default of upstream's ``volumeStatsAggPeriod``."""
MEASURED_VOLUMES = frozenset({"emptyDir", "configMap", "secret", "downwardAPI", "projected"})
"""Volumes whose content is counted; others belong to somebody else."""
PARALLEL_SIZES = 2
ENGINE_SECONDS = 5.0
"""A hung engine is one that does not know: the host is measured all the same."""

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Engine:
    """What only the engine can tell: where its images are, their size together, the size of a layer without a
    directory of its own (some storage drivers)."""

    storage_root: Callable[[], Awaitable[str]]
    image_bytes: Callable[[], Awaitable[int]]
    layer_bytes: Callable[[str], Awaitable[int]]


class Collector:
    """See the module. ``tenants`` are the pods of the moment; ``pods_cgroup`` is the path of the cgroup of all pods, ""
    while there is none. ``disk_age`` is how old, in seconds, the count of a tree may be in a
    summary; below 0 volumes are not counted for one."""

    def __init__(
        self,
        *,
        node_name: str,
        root: Path,
        tenants: Callable[[], Sequence[Tenant]],
        engine: Engine,
        clock: Clock,
        pods_cgroup: Callable[[], str] = lambda: "",
        disk_age: float = SUMMARY_DISK_AGE,
        hierarchy: Hierarchy | None = None,
        proc: Path = host.PROC,
        ledger: Ledger | None = None,
    ) -> None:
        self._node_name = node_name
        self._root = root
        self._tenants = tenants
        self._engine = engine
        self._clock = clock
        self._disk_age = disk_age
        self._proc = proc
        self.meter = Meter(
            node_name=node_name,
            hierarchy=hierarchy or find_hierarchy(),
            clock=clock,
            pods_cgroup=pods_cgroup,
            proc=proc,
        )
        self._ledger = ledger or Ledger()
        self._claims = ClaimMeter()
        self._layers: dict[str, tuple[float, Counted]] = {}
        self._using = asyncio.Lock()
        self._counting = asyncio.Lock()
        self._kept: dict[str, tuple[float, Summary]] = {}
        self._image_root: str | None = None

    def __repr__(self) -> str:
        return f"<Collector of {self._node_name}>"

    # --- answers

    async def summary(self, *, only_cpu_and_memory: bool = False) -> Summary:
        """The host and all its pods."""
        kept = self._kept.get(str(only_cpu_and_memory))
        now = self._clock.monotonic()
        if kept is not None and now - kept[0] < FRESH_SECONDS:
            return kept[1]
        tenants = self._tenants()
        if only_cpu_and_memory:
            node = await self._use(self.meter.node)
            summary = Summary(node, await self.use_of(tenants))
        else:
            node = await self._with_images(await self.node())
            used = await self.use_of(tenants, network=True)
            counted = await self.with_disk(used, tenants, max_age=self._disk_age)
            summary = Summary(node, tuple(_with_claims(counted, await self.claims())))
        await self.forget()
        self._kept[str(only_cpu_and_memory)] = (now, summary)
        return summary

    async def claims(self) -> list[ClaimUse]:
        """How full the volumes of claims are that pods have mounted here."""
        return await self._claims.measure(self._tenants(), self._clock.now()) if self._disk_age >= 0 else []

    async def node(self) -> NodeStats:
        """The host, with its file systems and process ids."""
        if self._image_root is None:
            try:
                async with asyncio.timeout(ENGINE_SECONDS):
                    self._image_root = await self._engine.storage_root()
            except (RuntimeFailure, TimeoutError) as error:
                log.info("where images are is not known yet", error=str(error) or "no answer")
        return await self._use(self._whole_node)

    async def _with_images(self, node: NodeStats) -> NodeStats:
        if node.image_filesystem is None:
            return node
        try:
            async with asyncio.timeout(ENGINE_SECONDS):
                used = await self._engine.image_bytes()
        except (RuntimeFailure, TimeoutError):
            return node
        return replace(node, image_filesystem=replace(node.image_filesystem, used=used, inodes_used=None))

    async def use_of(self, tenants: Sequence[Tenant], *, network: bool = False) -> tuple[PodStats, ...]:
        """cpu and memory of pods of which something runs."""
        running = [tenant for tenant in tenants if tenant.containers or tenant.sandbox is not None]
        return await self._use(lambda: tuple(self.meter.pod(tenant, network=network) for tenant in running))

    async def disk_of(self, tenants: Sequence[Tenant], *, max_age: float) -> tuple[PodStats, ...]:
        """What pods of which something runs have on disk, and nothing else of them."""
        running = [tenant for tenant in tenants if tenant.containers or tenant.sandbox is not None]
        return await self.with_disk([bare(tenant) for tenant in running], running, max_age=max_age)

    async def with_disk(
        self, stats: Sequence[PodStats], tenants: Sequence[Tenant], *, max_age: float
    ) -> tuple[PodStats, ...]:
        """``stats`` with what their pods have on disk, as counted ``max_age`` seconds ago at the most (see
        `agents.stats.disk` for large trees)."""
        by_uid = {uid(tenant.pod): tenant for tenant in tenants}
        wanted = [(one, by_uid[one.uid]) for one in stats]
        async with self._counting:
            layers = await self._layers_without_directory([tenant for _, tenant in wanted], max_age)

            def measure() -> tuple[PodStats, ...]:
                self._ledger.begin()
                return tuple(self._pod_disk(one, tenant, layers, max_age) for one, tenant in wanted)

            return await asyncio.to_thread(measure)

    async def groups(self) -> list[Group]:
        """Every cgroup that `/metrics/cadvisor` tells of."""
        tenants = self._tenants()
        used = await self.with_disk(await self.use_of(tenants), tenants, max_age=self._disk_age)
        by_uid = {one.uid: one for one in used}
        return await self._use(lambda: list(self._groups(tenants, by_uid)))

    def _groups(self, tenants: Sequence[Tenant], stats: Mapping[str, PodStats]) -> Iterator[Group]:
        meter, now = self.meter, self._clock.now()
        for path in dict.fromkeys(("", meter.pods_cgroup())):
            usage = meter.hierarchy.usage(path)
            if usage is not None:
                yield group_of(meter.hierarchy, path, usage, now, Labels(id=path or "/"))
        for tenant in tenants:
            measured = stats.get(uid(tenant.pod))
            if measured is None:
                continue
            labels = Labels(namespace=measured.namespace, pod=measured.name)
            own = meter.pod_location(tenant)
            usage = meter.hierarchy.usage(own) if own else None
            network = meter.network(tenant, now)
            if usage is not None:
                of_pod = group_of(meter.hierarchy, own, usage, now, replace(labels, id=own))
                yield replace(of_pod, started_at=measured.started_at)
            if network is not None:
                pause = tenant.sandbox
                yield Group(
                    replace(labels, id=own, image=pause.image if pause else "", name=pause.name if pause else ""),
                    at=now,
                    interfaces=network.interfaces,
                )
            disks = {one.id: one for one in measured.containers}
            for info in tenant.containers:
                location = meter.location(info)
                usage = meter.hierarchy.usage(location) if location is not None else None
                if location is None or usage is None:
                    continue
                where = replace(
                    labels, container=info.container, id=location.partition("\n")[0], image=info.image, name=info.name
                )
                group = group_of(meter.hierarchy, location, usage, now, where)
                disk = disks.get(info.id)
                yield replace(group, started_at=info.started_at, rootfs=disk.rootfs if disk is not None else None)

    async def _use(self, measure: Callable[[], T]) -> T:
        async with self._using:
            return await asyncio.to_thread(measure)

    # --- disk, in a thread

    async def _layers_without_directory(self, tenants: Sequence[Tenant], max_age: float) -> dict[str, Counted]:
        found, gate = {}, asyncio.Semaphore(PARALLEL_SIZES)

        async def one(container_id: str) -> None:
            kept = self._layers.get(container_id)
            if kept is None or self._clock.monotonic() - kept[0] >= max(max_age, SUMMARY_DISK_AGE):
                try:
                    async with gate, asyncio.timeout(ENGINE_SECONDS):
                        kept = (self._clock.monotonic(), Counted(await self._engine.layer_bytes(container_id), 0))
                except (RuntimeFailure, TimeoutError):
                    return
                self._layers[container_id] = kept
            found[container_id] = kept[1]

        missing = [info.id for tenant in tenants for info in tenant.containers if not info.layer]
        await asyncio.gather(*(one(identifier) for identifier in missing))
        return found

    def _pod_disk(self, stats: PodStats, tenant: Tenant, layers: dict[str, Counted], max_age: float) -> PodStats:
        now, infos = self._clock.now(), {info.id: info for info in tenant.containers}
        containers, total = [], count_files(str(self._root / "pods" / uid(tenant.pod)))
        node = filesystem(self._root, now)
        for one in stats.containers:
            info = infos.get(one.id)
            if info is None:
                containers.append(one)
                continue
            layer = self._ledger.count(info.layer, abs(max_age)) if info.layer else layers.get(info.id, NOTHING)
            logs = count_logs(info.log_path) if info.log_path else NOTHING
            where = info.layer or self._image_root or str(self._root)
            rootfs = filesystem(where, now, layer)
            kept = filesystem(info.log_path.rpartition("/")[0] or self._root, now, logs)
            containers.append(replace(one, rootfs=rootfs, logs=kept))
            total += logs
            if rootfs is not None and node is not None and rootfs.device == node.device:
                total += layer
        volumes = {}
        for volume in (tenant.pod.get("spec") or {}).get("volumes") or () if max_age >= 0 else ():
            path = tenant.volumes.get(volume["name"])
            kind = next((key for key in volume if key != "name"), "")
            if path is None or kind not in MEASURED_VOLUMES:
                continue
            counted = self._ledger.count(str(path), max_age)
            there = filesystem(str(path), now, counted)
            if there is not None:
                volumes[volume["name"]] = there
            if kind == "emptyDir" and (volume[kind] or {}).get("medium") != "Memory":
                total += counted
        ephemeral = replace(node, used=total.used, inodes_used=total.inodes) if node is not None else None
        return replace(stats, containers=tuple(containers), volumes=volumes, ephemeral=ephemeral)

    async def forget(self) -> None:
        """Drop what is remembered of containers and trees that are gone."""
        tenants = self._tenants()
        await self._use(lambda: self._forget(tenants))

    def _forget(self, tenants: Collection[Tenant]) -> None:
        self.meter.keep(tenants)
        ids = {info.id for tenant in tenants for info in tenant.containers}
        for known in self._layers.keys() - ids:
            self._layers.pop(known, None)
        trees = {str(path) for tenant in tenants for path in tenant.volumes.values()}
        self._ledger.keep(trees | {info.layer for tenant in tenants for info in tenant.containers})

    # --- the host, in a thread

    def _whole_node(self) -> NodeStats:
        node, now = self.meter.node(), self._clock.now()
        most, running = host.process_ids(self._proc)
        images: Filesystem | None = filesystem(self._image_root, now) if self._image_root else None
        interfaces = host.interfaces(proc=self._proc)
        return replace(
            node,
            network=Network(now, interfaces, host.default_interface(self._proc)) if interfaces else None,
            filesystem=filesystem(self._root, now),
            image_filesystem=images,
            pids_at=now,
            pids_max=most,
            pids_running=running,
        )


def _with_claims(pods: Sequence[PodStats], uses: Sequence[ClaimUse]) -> Iterator[PodStats]:
    of_pods = by_volume(uses)
    for pod in pods:
        own = of_pods.get(pod.uid, {})
        volumes = {**pod.volumes, **{name: use.filesystem for name, use in own.items()}}
        yield replace(pod, volumes=volumes, claims={name: use.claim for name, use in own.items()})
