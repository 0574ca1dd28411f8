"""The loop, with made-up meters and pods and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from agents.config import Configuration
from agents.eviction.manager import EvictionManager
from agents.eviction.settings import Settings
from agents.eviction.thresholds import Signal
from agents.pods.ports import Tenant
from agents.stats.model import Filesystem, MemoryUse, NodeStats, PodStats
from orca.api.objects import Obj, uid
from orca.client.clock import VirtualClock
from tests.unit.eviction.made import MIB, NOW, pod, stats


@dataclass
class Host:
    """Meters, pods, recorder and engine in one."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    memory: int = 500
    disk: int = 50
    image_device: int = 1
    pods: dict[str, tuple[Obj, PodStats]] = field(default_factory=dict)
    freed_by: dict[str, int] = field(default_factory=dict)
    evicted: list[tuple[str, str, float | None, str]] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    annotations: Mapping[str, str] = field(default_factory=dict)
    disks_counted: int = 0
    uses_measured: int = 0
    changes: int = 0
    reclaimed: int = 0
    reclaim_frees: int = 0
    hang: bool = False

    def add(self, one: Obj, measured: PodStats, *, frees: int = 0) -> None:
        self.pods[uid(one)] = (one, measured)
        self.freed_by[uid(one)] = frees

    async def node(self) -> NodeStats:
        now = self.clock.now()
        left = self.memory * MIB
        disk = Filesystem(now, self.disk, 100, 90, 100, 100 - self.disk, 10, device=1)
        return NodeStats(
            "host-1",
            NOW,
            memory=MemoryUse(now, 1000 * MIB - left, 1000 * MIB - left, 0, available=left),
            filesystem=disk,
            image_filesystem=replace(disk, device=self.image_device),
            pids_at=now,
            pids_max=1000,
            pids_running=100,
        )

    async def use_of(self, tenants: Sequence[Tenant]) -> tuple[PodStats, ...]:
        self.uses_measured += 1
        return tuple(self.pods[uid(tenant.pod)][1] for tenant in tenants)

    async def disk_of(self, tenants: Sequence[Tenant], *, max_age: float) -> tuple[PodStats, ...]:
        self.disks_counted += 1
        return tuple(self.pods[uid(tenant.pod)][1] for tenant in tenants)

    async def forget(self) -> None:
        return

    def tenants(self) -> Sequence[Tenant]:
        return [Tenant(one) for one, _ in self.pods.values()]

    async def evict(
        self, pod_uid: str, *, reason: str, message: str, grace_seconds: float | None = None, disruption: str = ""
    ) -> bool:
        if pod_uid not in self.pods:
            return False
        self.evicted.append((pod_uid, message, grace_seconds, disruption))
        if not self.hang:
            del self.pods[pod_uid]
            self.memory += self.freed_by[pod_uid]
        return True

    async def stopped(self, pod_uid: str) -> None:
        if self.hang:
            await asyncio.Event().wait()

    def event(
        self, obj: Obj, kind: str, reason: str, message: str, *, annotations: Mapping[str, str] | None = None
    ) -> None:
        self.events.append((obj["metadata"]["name"], reason, message))
        self.annotations = annotations or {}

    async def reclaim(self) -> None:
        self.reclaimed += 1
        self.disk += self.reclaim_frees

    def changed(self) -> None:
        self.changes += 1


class Kernel:
    """Notifies when a test says so."""

    def __init__(self) -> None:
        self.armed: dict[Signal, int] = {}
        self.wake: Callable[[], None] = lambda: None
        self.closed = False

    def arm(self, signal: Signal, usage: int, wake: Callable[[], None]) -> None:
        self.armed[signal] = usage
        self.wake = wake

    def close(self) -> None:
        self.closed = True


def manager_of(host: Host, kernel: Kernel | None = None, **configured: object) -> EvictionManager:
    async def broken() -> None:
        raise RuntimeError("the engine refuses")

    return EvictionManager(
        node_name="host-1",
        settings=Settings.of(replace(Configuration(), **configured)),  # type: ignore[arg-type]
        meters=host,
        pods=lambda: host,
        recorder=host,
        clock=host.clock,
        reclaims=(broken, host.reclaim),
        changed=host.changed,
        notifiers=kernel,
    )


@pytest.fixture
async def host() -> Host:
    return Host()


async def run_for(host: Host, manager: EvictionManager, seconds: float) -> None:
    running = asyncio.create_task(manager.run())
    await host.clock.advance(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_host_at_ease_measures_no_pod(host: Host) -> None:
    host.add(pod("a"), stats(pod("a"), memory=10))
    manager = manager_of(host)
    assert manager.conditions is None
    await run_for(host, manager, 60)
    assert manager.conditions == ()
    assert (host.uses_measured, host.disks_counted, host.evicted, host.changes) == (0, 0, [], 1)


async def test_one_pod_goes_and_it_is_enough(host: Host) -> None:
    for name, used in (("small", 10), ("large", 300)):
        host.add(pod(name), stats(pod(name), memory=used), frees=used)
    host.memory = 50
    manager = manager_of(host)
    await run_for(host, manager, 60)
    ((who, message, grace, disruption),) = host.evicted
    assert (who, grace) == ("uid-large", 1.0)
    assert message == disruption
    assert host.events[0] == ("host-1", "EvictionThresholdMet", "Attempting to reclaim memory")
    assert host.events[1] == ("large", "Evicted", message)
    assert host.annotations["offending_containers"] == "c"
    assert manager.evictions == {"memory.available": 1}
    assert manager.conditions == ("MemoryPressure",)
    await run_for(host, manager, 310)
    assert manager.conditions == ()


async def test_the_next_goes_when_the_first_was_not_enough(host: Host) -> None:
    for name in ("a", "b", "c"):
        host.add(pod(name), stats(pod(name), memory=100), frees=30)
    host.memory = 50
    await run_for(host, manager_of(host), 3)
    assert len(host.evicted) == 2  # soon: what the first held was free, and not enough


async def test_a_pod_that_does_not_end_holds_the_next_back(host: Host) -> None:
    for name in ("a", "b"):
        host.add(pod(name), stats(pod(name), memory=100))
    host.memory, host.hang = 50, True
    manager = manager_of(host)
    await run_for(host, manager, 25)
    assert [who for who, *_ in host.evicted] == ["uid-a"]
    await run_for(host, manager, 25)  # but not for ever, and it is not asked again
    assert [who for who, *_ in host.evicted] == ["uid-a", "uid-b"]


async def test_critical_pods_are_spared(host: Host) -> None:
    critical = pod("critical", priority=2_000_000_000)
    host.add(critical, stats(critical, memory=900))
    host.add(pod("a"), stats(pod("a"), memory=1), frees=900)
    host.memory = 50
    await run_for(host, manager_of(host), 30)
    assert [who for who, *_ in host.evicted] == ["uid-a"]


async def test_disk_is_made_free_before_a_pod_goes(host: Host) -> None:
    host.add(pod("a"), stats(pod("a"), root=1000))
    host.disk, host.reclaim_frees = 5, 30
    manager = manager_of(host)
    await run_for(host, manager, 30)
    assert (host.reclaimed, host.evicted, manager.conditions) == (1, [], ("DiskPressure",))


async def test_a_pod_goes_when_nothing_is_left_to_be_freed(host: Host) -> None:
    host.add(pod("a"), stats(pod("a"), root=1000))
    host.disk = 5
    manager = manager_of(host)
    assert await manager.look() == ["uid-a"]
    assert host.evicted[0][1].startswith("The node was low on resource: ephemeral-storage. ")


async def test_with_a_disk_for_images_removing_them_does_not_help_the_nodes(host: Host) -> None:
    host.add(pod("a"), stats(pod("a"), logs=1000))
    host.disk, host.image_device, host.reclaim_frees = 5, 2, 30
    manager = manager_of(host, eviction_hard={"nodefs.available": "10%"})
    assert await manager.look() == ["uid-a"]
    assert host.reclaimed == 0


async def test_soft_thresholds_give_the_lesser_grace(host: Host) -> None:
    host.memory = 150
    one = pod("a", terminationGracePeriodSeconds=5)
    host.add(one, stats(one, memory=1), frees=500)
    manager = manager_of(
        host,
        eviction_soft={"memory.available": "200Mi"},
        eviction_soft_grace_period={"memory.available": "20s"},
        eviction_max_pod_grace_period=30,
    )
    await run_for(host, manager, 15)
    assert (host.evicted, manager.conditions) == ([], ("MemoryPressure",))
    await run_for(host, manager, 15)
    assert host.evicted[0][2] == 5.0


async def test_local_storage_is_watched_where_it_is_limited(host: Host) -> None:
    free = pod("free")
    host.add(free, stats(free, root=1 << 40))
    limited = pod("limited", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}])
    host.add(limited, stats(limited, volumes={"v": 2 * MIB}))
    manager = manager_of(host)
    await run_for(host, manager, 30)
    text = 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert host.evicted == [("uid-limited", text, 1.0, "")]
    assert manager.evictions == {"emptydirfs.limit": 1}
    assert host.events == [("limited", "Evicted", text)]


async def test_local_storage_limits_can_be_turned_off(host: Host) -> None:
    limited = pod("limited", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}])
    host.add(limited, stats(limited, volumes={"v": 2 * MIB}))
    await run_for(host, manager_of(host, local_storage_capacity_isolation=False), 30)
    assert host.evicted == []


async def test_new_pods_are_kept_out_under_pressure(host: Host) -> None:
    manager = manager_of(host)
    assert manager.objection(pod("early")) is None
    host.memory = 50
    await manager.look()
    refused = manager.objection(pod("late"))
    assert refused is not None
    assert refused.reason == "Evicted"


async def test_the_kernel_is_told_when_to_wake_and_a_look_follows(host: Host) -> None:
    host.add(pod("a"), stats(pod("a"), memory=1), frees=500)
    kernel = Kernel()
    running = asyncio.create_task(manager_of(host, kernel).run())
    await host.clock.advance(2)
    # 1000 MiB less 100, and 500 are in use; nothing in files
    assert kernel.armed == {Signal.MEMORY: 900 * MIB}
    host.memory = 50
    await host.clock.advance(2)
    assert host.evicted == []
    kernel.wake()
    await host.clock.advance(0.1)
    assert len(host.evicted) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert kernel.closed


async def test_a_kernel_that_wakes_all_the_time_costs_a_look_a_second(host: Host) -> None:
    kernel = Kernel()
    looks = []
    manager = manager_of(host, kernel)
    look = manager.look

    async def counted() -> list[str]:
        looks.append(1)
        return await look()

    manager.look = counted  # type: ignore[method-assign]
    running = asyncio.create_task(manager.run())
    for _ in range(50):
        kernel.wake()
        await host.clock.advance(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert 4 <= len(looks) <= 7
