"""Measuring and evicting real containers, on a private engine."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from agents import mounts
from agents.config import Configuration
from agents.eviction.manager import EvictionManager
from agents.eviction.settings import Settings
from agents.pods import PodManager
from agents.stats.collector import Collector
from agents.stats.engine import engine_of
from agents.stats.model import ContainerStats, PodStats
from orca.api.objects import Obj
from orca.client.clock import SystemClock
from tests.cluster.podhost import PodHost, pod, shell
from tests.support import images
from tests.support.engine import PrivateEngine
from tests.support.patience import PATIENCE

MIB = 1 << 20
DISK = 48 * MIB


class Told:
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def event(
        self, obj: Obj, kind: str, reason: str, message: str, *, annotations: Mapping[str, str] | None = None
    ) -> None:
        self.events.append((obj["metadata"]["name"], reason, message))


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path]:
    """A file system that is soon full; there before the engine, which sees no mounts that come later."""
    path = Path(tempfile.mkdtemp(prefix="orca-small-", dir="/var/tmp"))
    mounts.mount_tmpfs(path, mode=0o755, size=DISK)
    yield path
    mounts.unmount(path)
    path.rmdir()


@pytest.fixture(scope="module")
def engine(small_disk: Path) -> Iterator[PrivateEngine]:
    private = PrivateEngine(f"pressure-{os.getpid()}")
    private.start()
    private.docker("load", text=images.pause())
    private.docker("load", text=images.busybox())
    yield private
    private.stop()


@pytest.fixture
async def small_host(engine: PrivateEngine, small_disk: Path) -> AsyncIterator[PodHost]:
    """A host that keeps everything of its pods on that file system."""
    host = PodHost(engine, small_disk)
    await host.start_agent()
    yield host
    for name in ("modest", "greedy"):
        if await host.get(name) is not None:
            await host.delete(name, grace=0)
    await host.stop_agent()


def manager_of(host: PodHost) -> PodManager:
    assert host.manager is not None
    return host.manager


def collector_of(host: PodHost, root: Path) -> Collector:
    return Collector(
        node_name="host-t",
        root=root,
        tenants=manager_of(host).tenants,
        engine=engine_of(host.runtime),
        clock=SystemClock(),
    )


def eviction_of(host: PodHost, collector: Collector, **thresholds: str) -> tuple[EvictionManager, Told]:
    told = Told()
    hard = {name.replace("_", "."): text for name, text in thresholds.items()}
    eviction = EvictionManager(
        node_name="host-t",
        settings=Settings.of(Configuration(eviction_hard=hard, eviction_pressure_transition_period=0.5)),
        meters=collector,
        pods=lambda: manager_of(host),
        recorder=told,
        clock=SystemClock(),
        reclaims=(manager_of(host).remove_remains,),
    )
    return eviction, told


def writing(name: str, megabytes: int) -> Obj:
    """A pod that fills a volume of its own, then sleeps."""
    script = f"dd if=/dev/zero of=/scratch/f bs=1M count={megabytes} 2>/dev/null; touch /scratch/done; sleep 3600"
    mounted = shell(script, volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}])
    return pod(name, container=mounted, volumes=[{"name": "scratch", "emptyDir": {}}])


async def written(host: PodHost, name: str) -> None:
    """Returns once the container has said that it is done."""
    async with asyncio.timeout(PATIENCE):
        while "done" not in await host.output(name, "ls", "/scratch"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def container(stats: PodStats, name: str = "c") -> ContainerStats:
    return next(one for one in stats.containers if one.name == name)


def cpu_seconds(pid: int) -> float:
    """Of a process and the children it has waited for; the kernel counts these in hundredths."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / 100


async def test_figures_are_those_of_the_kernel(host: PodHost) -> None:
    burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/layer bs=1M count=3 2>/dev/null; "
    burn += "for i in 1 2 3 4 5 6 7 8 9; do echo a line of nine; done; sync; echo done; sleep 3600"
    limits = {"limits": {"memory": "64Mi"}, "requests": {"memory": "64Mi"}}
    await host.create(pod("figures", container=shell(burn, resources=limits)))
    await host.running("figures")
    collector = collector_of(host, host.root)
    tenants = manager_of(host).tenants()
    async with asyncio.timeout(PATIENCE):  # whoever looked into the container would be measured, too
        while b"done" not in await host.runtime.log_tail(tenants[0].containers[0].id, 1):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    (stats,) = await collector.with_disk(await collector.use_of(tenants, network=True), tenants, max_age=0)
    one = container(stats)
    assert one.cpu is not None
    assert one.memory is not None
    assert one.rootfs is not None
    assert one.logs is not None
    seconds = cpu_seconds(tenants[0].containers[0].pid)
    # What starts a container counts, too: the slower a machine, the more.
    assert seconds - 0.1 <= one.cpu.total / 1e9 <= 2 * seconds + 0.5
    assert 0 < one.memory.working_set <= one.memory.usage < 64 * MIB
    assert one.memory.available == 64 * MIB - one.memory.working_set
    sized = await host.runtime.engine.call("GET", f"/containers/{one.id}/json", params={"size": "1"})
    assert sized["SizeRw"] >= 3 * MIB
    assert 3 * MIB <= (one.rootfs.used or 0) < 3 * MIB + 256 * 1024
    assert (one.logs.used or 0) > 0
    assert stats.ephemeral is not None
    assert (stats.ephemeral.used or 0) >= (one.rootfs.used or 0)
    node = await collector.node()
    assert node.memory is not None
    assert node.memory.available is not None
    assert node.memory.available > 0
    assert node.image_filesystem is not None


async def test_a_full_disk_is_freed_by_the_pod_that_filled_it(small_host: PodHost) -> None:
    host = small_host
    collector = collector_of(host, host.root)
    eviction, told = eviction_of(host, collector, nodefs_available="20%")
    await host.create(writing("modest", 1))
    await host.running("modest")
    assert await eviction.look() == []
    assert eviction.conditions == ()
    await host.create(writing("greedy", 42))
    greedy = await host.running("greedy")
    await written(host, "greedy")
    assert await eviction.look() == [greedy["metadata"]["uid"]]
    assert eviction.conditions == ("DiskPressure",)
    failed = await host.until("greedy", lambda status: status["phase"] == "Failed")
    status = failed["status"]
    assert status["reason"] == "Evicted"
    assert status["message"].startswith(
        "The node was low on resource: ephemeral-storage. Threshold quantity: 10066329, available: "
    )
    (disruption,) = [one for one in status["conditions"] if one["type"] == "DisruptionTarget"]
    assert (disruption["status"], disruption["reason"]) == ("True", "TerminationByKubelet")
    assert [reason for _, reason, _ in told.events] == ["EvictionThresholdMet", "Evicted"]
    assert eviction.objection(pod("late")) is not None
    async with asyncio.timeout(PATIENCE):
        while True:
            evicted = await eviction.look()
            assert evicted == []
            if eviction.conditions == ():
                break
            await asyncio.sleep(0.1)
    assert (await host.running("modest"))["status"]["phase"] == "Running"


async def ended_containers(host: PodHost, uid: str) -> list[str]:
    """Names of a pod's containers, but for the sandbox, which goes by itself."""
    return [one.name for one in await host.runtime.inspect_all() if one.pod_uid == uid and not one.is_sandbox]


async def test_what_pods_that_are_over_have_left_goes_first(host: PodHost) -> None:
    await host.create(pod("over", container=shell("exit 0"), restartPolicy="Never"))
    over = await host.until("over", lambda status: status["phase"] == "Succeeded")
    uid = over["metadata"]["uid"]
    assert await ended_containers(host, uid)
    # The disk of the engine is never so free, so this is met whatever the machine.
    eviction, told = eviction_of(host, collector_of(host, host.root), imagefs_available="99.9%")
    assert await eviction.look() == []
    assert await ended_containers(host, uid) == []
    assert [reason for _, reason, _ in told.events] == ["EvictionThresholdMet"]
    kept = await host.get("over")
    assert kept is not None
    assert kept["status"]["phase"] == "Succeeded"
    assert kept["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
