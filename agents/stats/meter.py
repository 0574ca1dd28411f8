"""What cgroups and /proc tell of pods and the host, and use of cpu a second from one look to the next. Blocking: its
callers are in threads, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from agents.pods.ports import Tenant
from agents.resources.usage import Hierarchy, Usage
from agents.runtime.model import ContainerInfo
from agents.stats import host
from agents.stats.model import ContainerStats, Cpu, MemoryUse, Network, NodeStats, PodStats, Swap
from orca.api.objects import Obj, name, namespace, uid
from orca.api.times import parse_time
from orca.client.clock import Clock

FRESH_SECONDS = 1.0
"""Samples nearer to each other than this tell no rate."""


@dataclass(slots=True)
class _Sample:
    at: float
    total: int
    rate: int | None


class Meter:
    """``pods_cgroup`` is the path of the cgroup of all pods, "" while there is none."""

    def __init__(
        self,
        *,
        node_name: str,
        hierarchy: Hierarchy,
        clock: Clock,
        pods_cgroup: Callable[[], str],
        proc: Path = host.PROC,
    ) -> None:
        self._node_name = node_name
        self.hierarchy = hierarchy
        self._clock = clock
        self.pods_cgroup = pods_cgroup
        self._proc = proc
        self._samples: dict[str, _Sample] = {}
        self._locations: dict[str, str] = {}
        self._started_at = clock.now()

    def __repr__(self) -> str:
        return f"<Meter of {self._node_name} by {self.hierarchy!r}>"

    # --- pods

    def pod(self, tenant: Tenant, *, network: bool) -> PodStats:
        """cpu and memory of a pod and its running containers, and its interfaces' counters."""
        pod, now = tenant.pod, self._clock.now()
        containers = tuple(self._container_use(info, now) for info in tenant.containers)
        own = self.pod_location(tenant)
        whole = self.hierarchy.usage(own) if own else None
        cpu: Cpu | None
        memory: MemoryUse | None
        swap: Swap | None
        if whole is not None and own:
            cpu, memory, swap = self._of_group(f"pod {uid(pod)}", own, whole, _started(pod), now)
            processes = whole.pids
            pressure = self.hierarchy.pressure(own, "io")
        else:
            cpu, memory, swap = _sum(containers, now)
            counted = [one.processes for one in containers if one.processes is not None]
            processes, pressure = (sum(counted) if counted else None), None
        return PodStats(
            namespace=namespace(pod),
            name=name(pod),
            uid=uid(pod),
            started_at=_started(pod),
            containers=containers,
            cpu=cpu,
            memory=memory,
            swap=swap,
            network=self.network(tenant, now) if network else None,
            processes=processes,
            io_pressure=pressure,
        )

    def _container_use(self, info: ContainerInfo, now: datetime) -> ContainerStats:
        location = self.location(info)
        usage = self.hierarchy.usage(location) if location is not None else None
        stats = ContainerStats(info.container, info.id, info.started_at)
        if usage is None or location is None:
            return stats
        cpu, memory, swap = self._of_group(info.id, location, usage, info.started_at, now)
        pressure = self.hierarchy.pressure(location, "io")
        return replace(stats, cpu=cpu, memory=memory, swap=swap, processes=usage.pids, io_pressure=pressure)

    def _of_group(
        self, key: str, location: str, usage: Usage, since: datetime | None, now: datetime
    ) -> tuple[Cpu, MemoryUse, Swap]:
        cpu_pressure = self.hierarchy.pressure(location, "cpu")
        memory_pressure = self.hierarchy.pressure(location, "memory")
        cpu = Cpu(now, usage.cpu, self._rate(key, usage.cpu, since, now), cpu_pressure)
        memory = MemoryUse(
            at=now,
            usage=usage.memory,
            working_set=usage.working_set,
            rss=usage.rss,
            available=max(usage.limit - usage.working_set, 0) if usage.limit is not None else None,
            page_faults=usage.page_faults,
            major_page_faults=usage.major_page_faults,
            pressure=memory_pressure,
        )
        free = max(usage.swap_limit - usage.swap, 0) if usage.swap_limit is not None else None
        return cpu, memory, Swap(now, usage.swap, free)

    def location(self, info: ContainerInfo) -> str | None:
        """Where the cgroup of a running container is, None once that cannot be told any more."""
        found = self._locations.get(info.id)
        if found is None and info.pid:
            found = self.hierarchy.locate(host.membership(info.pid, self._proc))
            # Until the runtime has moved it, a process is still where it was started from.
            if found is not None and info.id in found:
                self._locations[info.id] = found
            else:
                return None
        return found

    def pod_location(self, tenant: Tenant) -> str:
        """A pod's own cgroup: that which its containers' are in, if it is the pod's by its name; else ""."""
        names = (uid(tenant.pod), uid(tenant.pod).replace("-", "_"))
        for info in tenant.containers:
            parent = (self.location(info) or "").rpartition("/")[0]
            if "\n" not in parent and any(name in parent.rpartition("/")[2] for name in names):
                return parent
        return ""

    def _rate(self, key: str, total: int, since: datetime | None, now: datetime) -> int | None:
        at = self._clock.monotonic()
        before = self._samples.get(key)
        if before is not None and (at - before.at < FRESH_SECONDS or total < before.total):
            return before.rate
        if before is not None:
            rate: int | None = int((total - before.total) / (at - before.at))
        else:
            seconds = (now - since).total_seconds() if since is not None else 0.0
            rate = int(total / seconds) if seconds > 0 else None
        self._samples[key] = _Sample(at, total, rate)
        return rate

    def network(self, tenant: Tenant, now: datetime) -> Network | None:
        """Of a pod with a network of its own."""
        if (tenant.pod.get("spec") or {}).get("hostNetwork"):
            return None
        holders = ([tenant.sandbox] if tenant.sandbox is not None else []) + list(tenant.containers)
        pid = next((info.pid for info in holders if info.pid), 0)
        found = host.interfaces(pid, self._proc) if pid else ()
        if not found:
            return None
        return Network(now, found, "eth0" if any(one.name == "eth0" for one in found) else found[0].name)

    def keep(self, tenants: Collection[Tenant]) -> None:
        """Forget what is known of all other pods and containers."""
        ids = {info.id for tenant in tenants for info in tenant.containers}
        names = ids | {f"pod {uid(tenant.pod)}" for tenant in tenants} | {"node", "pods", "agent"}
        for known in self._samples.keys() - names:
            self._samples.pop(known, None)
        for known in self._locations.keys() - ids:
            self._locations.pop(known, None)

    # --- the host

    def node(self) -> NodeStats:
        """cpu and memory of the host, of all pods together and of this process."""
        now, memory = self._clock.now(), host.memory(self._proc)
        booted = datetime.fromtimestamp(host.booted_at(self._proc), UTC)
        usage = self.hierarchy.usage("")
        used = usage.memory if usage is not None and usage.memory else max(memory.total - memory.free, 0)
        inactive = used - usage.working_set if usage is not None and usage.memory else memory.inactive_file
        working_set = max(used - inactive, 0)
        busy = (usage.cpu if usage is not None else 0) or host.cpu_nanoseconds(self._proc)
        return NodeStats(
            name=self._node_name,
            started_at=booted,
            cpu=Cpu(now, busy, self._rate("node", busy, booted, now), self.hierarchy.pressure("", "cpu")),
            memory=MemoryUse(
                at=now,
                usage=used,
                working_set=working_set,
                rss=usage.rss if usage is not None and usage.rss else memory.anon,
                available=max(memory.total - working_set, 0),
                page_faults=memory.page_faults,
                major_page_faults=memory.major_page_faults,
                pressure=self.hierarchy.pressure("", "memory"),
            ),
            swap=Swap(now, memory.swap_total - memory.swap_free, memory.swap_free),
            pods=self._all_pods(now),
            agent=self._agent(now),
            io_pressure=self.hierarchy.pressure("", "io"),
        )

    def _all_pods(self, now: datetime) -> ContainerStats | None:
        location = self.pods_cgroup()
        usage = self.hierarchy.usage(location) if location else None
        if usage is None:
            return None
        cpu, memory, swap = self._of_group("pods", location, usage, self._started_at, now)
        return ContainerStats("pods", "", self._started_at, cpu, memory, swap, processes=usage.pids)

    def _agent(self, now: datetime) -> ContainerStats:
        busy, resident, majors = host.own_use(self._proc)
        cpu = Cpu(now, busy, self._rate("agent", busy, self._started_at, now))
        memory = MemoryUse(now, usage=resident, working_set=resident, rss=resident, major_page_faults=majors)
        return ContainerStats("kubelet", "", self._started_at, cpu, memory)


def bare(tenant: Tenant) -> PodStats:
    """Who a pod and its running containers are, without any figure."""
    pod = tenant.pod
    containers = tuple(ContainerStats(info.container, info.id, info.started_at) for info in tenant.containers)
    return PodStats(namespace(pod), name(pod), uid(pod), _started(pod), containers)


def _started(pod: Obj) -> datetime | None:
    text = (pod.get("status") or {}).get("startTime")
    return parse_time(text) if text else None


def _sum(containers: Sequence[ContainerStats], now: datetime) -> tuple[Cpu | None, MemoryUse | None, Swap | None]:
    """A pod without a cgroup of its own is what its containers are."""
    cpus = [one.cpu for one in containers if one.cpu is not None]
    memories = [one.memory for one in containers if one.memory is not None]
    swaps = [one.swap for one in containers if one.swap is not None]
    if not cpus or not memories:
        return None, None, None
    rates = [cpu.nano_cores for cpu in cpus]
    known = [rate for rate in rates if rate is not None]
    free = [memory.available for memory in memories]
    left = [one for one in free if one is not None]
    return (
        Cpu(now, sum(cpu.total for cpu in cpus), sum(known) if len(known) == len(rates) else None),
        MemoryUse(
            at=now,
            usage=sum(memory.usage for memory in memories),
            working_set=sum(memory.working_set for memory in memories),
            rss=sum(memory.rss for memory in memories),
            available=sum(left) if len(left) == len(free) else None,
            page_faults=sum(memory.page_faults for memory in memories),
            major_page_faults=sum(memory.major_page_faults for memory in memories),
        ),
        Swap(now, sum(swap.usage for swap in swaps)),
    )
