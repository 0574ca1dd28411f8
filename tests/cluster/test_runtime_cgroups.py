"""The cgroup tree of pods on a real engine: read back from the kernel while pods run, and gone with them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agents.resources.cgroups import Cgroups, Settings
from agents.resources.cpus import format_cpus, read_topology
from agents.resources.handout import CpuHandout, Policy
from agents.resources.limits import Limits, Rules
from agents.resources.paths import Layout, cgroup_version
from agents.resources.tree import Tree
from orca.api.builtin import PODS
from orca.api.objects import Obj
from orca.client.clock import SystemClock
from orca.lab import cgroups as lab_cgroups
from tests.cluster.podhost import NODE, PodHost, pod, pod_host, shell
from tests.support.engine import PrivateEngine
from tests.support.patience import PATIENCE

ROOT = f"/orca-test-{os.getpid()}"
VERSION = cgroup_version()
NODE_OBJECT: Obj = {
    "metadata": {"name": NODE},
    "status": {
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
    },
}
SETTINGS = Settings(
    root=ROOT, rules=Rules(pids=64), whole=Limits(cpu_shares=4096, memory=8 << 30, pids=10_000), kill_together=True
)

pytestmark = pytest.mark.skipif(VERSION == 1 and not Path("/sys/fs/cgroup/memory").is_dir(), reason="no cgroups here")


CPUS = read_topology()


def handout(directory: Path) -> CpuHandout:
    """The static policy, with the first cpu reserved."""
    return CpuHandout(Policy(CPUS, frozenset({min(CPUS.all)})), directory)


@pytest.fixture
async def host(engine: PrivateEngine) -> AsyncIterator[PodHost]:
    async with _host(engine) as made:
        yield made


@pytest.fixture
async def static_host(engine: PrivateEngine) -> AsyncIterator[PodHost]:
    """One that hands out cpus."""
    async with _host(engine, handout) as made:
        yield made


@asynccontextmanager
async def _host(engine: PrivateEngine, cpus: Callable[[Path], CpuHandout] | None = None) -> AsyncIterator[PodHost]:
    try:
        async with pod_host(engine, NODE_OBJECT, lambda: Cgroups(SETTINGS, clock=SystemClock()), cpus) as made:
            yield made
    finally:
        lab_cgroups.kill(ROOT.strip("/"))
        lab_cgroups.remove(ROOT.strip("/"))


LAYOUT = Layout(version=VERSION, root=ROOT)


@dataclass(frozen=True)
class Kernel:
    """A cgroup as the kernel has it: -1 for no limit."""

    shares: int
    quota: int
    memory: int
    pids: int


def kernel(path: str) -> Kernel:
    def read(controller: str, file: str) -> str:
        return (LAYOUT.directory(path, controller) / file).read_text().split()[0]

    def number(text: str) -> int:
        return -1 if text == "max" or int(text) > 1 << 60 else int(text)

    if VERSION == 2:
        names = (("cpu", "cpu.weight"), ("cpu", "cpu.max"), ("memory", "memory.max"), ("pids", "pids.max"))
    else:
        names = (
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.cfs_quota_us"),
            ("memory", "memory.limit_in_bytes"),
            ("pids", "pids.max"),
        )
    return Kernel(*(number(read(*one)) for one in names))


def everywhere(path: str) -> list[Path]:
    """Where a cgroup is still there."""
    mounts = [LAYOUT.mount] if VERSION == 2 else [one for one in LAYOUT.mount.iterdir() if not one.is_symlink()]
    return [base / path.strip("/") for base in mounts if (base / path.strip("/")).is_dir()]


def memberships(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


async def until(true: Any, *, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def sizes(**amounts: str) -> dict[str, str]:
    return dict(amounts)


async def test_a_pod_has_its_cgroup_by_class_with_limits_for_all_it_runs(host: PodHost) -> None:
    both = {"requests": sizes(cpu="500m", memory="32Mi"), "limits": sizes(cpu="500m", memory="32Mi")}
    guaranteed = pod("sure", container={"resources": both})
    guaranteed["spec"]["containers"].append({**guaranteed["spec"]["containers"][0], "name": "d"})
    burstable = pod("some", container={"resources": {"requests": sizes(cpu="250m")}})
    for one in (guaranteed, burstable, pod("rest")):
        await host.create(one)
    found = {name: await host.running(name) for name in ("sure", "some", "rest")}
    paths = {name: LAYOUT.pod_cgroup(one) for name, one in found.items()}
    assert paths["sure"] == f"{ROOT}/kubepods/pod{found['sure']['metadata']['uid']}"
    assert f"{ROOT}/kubepods/burstable/pod" in paths["some"]
    assert f"{ROOT}/kubepods/besteffort/pod" in paths["rest"]
    if VERSION == 1:
        assert kernel(paths["sure"]) == Kernel(1024, 100_000, 64 << 20, 64)
        assert kernel(paths["some"]) == Kernel(256, -1, -1, 64)
        assert kernel(paths["rest"]) == Kernel(2, -1, -1, 64)
        await until(lambda: kernel(f"{ROOT}/kubepods/burstable").shares == 256)
        assert kernel(f"{ROOT}/kubepods/besteffort").shares == 2
        await until(lambda: kernel(f"{ROOT}/kubepods").memory == 8 << 30)
        assert kernel(f"{ROOT}/kubepods").shares == 4096
    # Every container, and the sandbox too, is within.
    for info in await host.runtime.inspect_all():
        name = info.labels["io.kubernetes.pod.name"]
        membership = memberships(info.pid)
        assert f"{paths[name]}/{info.id}" in membership, (name, membership)
    # The class follows what its pods ask for; what is gone leaves nothing.
    await host.delete("some")
    await until(lambda: not everywhere(paths["some"]))
    if VERSION == 1:
        await until(lambda: kernel(f"{ROOT}/kubepods/burstable").shares == 2)
    await host.delete("sure")
    await host.delete("rest")
    await until(lambda: not everywhere(paths["sure"]) and not everywhere(paths["rest"]))


async def test_the_limit_on_processes_holds_for_the_whole_pod(host: PodHost) -> None:
    script = "(i=0; while [ $i -lt 80 ]; do sleep 3600 & i=$((i+1)); done); exec sleep 3600"
    await host.create(pod("fork", container=shell(script), restartPolicy="Never"))
    found = await host.until("fork", lambda status: "startTime" in status)
    path = LAYOUT.pod_cgroup(found)
    current = LAYOUT.directory(path, "pids") / "pids.current"
    await until(lambda: current.exists() and int(current.read_text()) > 60)
    shell_id = next(info.id for info in await host.runtime.inspect_all() if not info.is_sandbox)
    async with asyncio.timeout(PATIENCE):
        while b"can't fork" not in await host.runtime.log_tail(shell_id, 5):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert int(current.read_text()) <= 64
    await host.delete("fork")
    await until(lambda: not everywhere(path))


async def test_memory_of_the_pod_as_a_whole_is_limited_where_no_container_is(host: PodHost) -> None:
    """Two containers that together want more than the pod has: the kernel ends one, within the pod."""
    hungry = shell("x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 3600")
    both = pod("whole", container=hungry, restartPolicy="Never", resources={"limits": sizes(memory="64Mi", cpu="1")})
    both["spec"]["resources"]["requests"] = sizes(memory="64Mi", cpu="1")
    both["spec"]["containers"].append({**both["spec"]["containers"][0], "name": "d"})
    await host.create(both)
    found = await host.until("whole", lambda status: status.get("containerStatuses"))
    assert found["status"]["qosClass"] == "Guaranteed"
    path = LAYOUT.pod_cgroup(found)

    def limited() -> bool:
        try:
            found = kernel(path)
        except FileNotFoundError:
            return False  # made one controller after the other, and limited then
        return (found.memory, found.quota) == (64 << 20, 100_000)

    await until(limited)
    await host.delete("whole")


async def test_leftovers_of_a_crash_are_removed_with_their_processes(host: PodHost) -> None:
    await host.create(pod("stays"))
    kept = LAYOUT.pod_cgroup(await host.running("stays"))
    await host.stop_agent()
    lost = f"{ROOT}/kubepods/burstable/pod00000000-0000-0000-0000-000000000001"
    process = await asyncio.create_subprocess_exec("sleep", "600")
    for base in ("pids", "memory") if VERSION == 1 else ("",):
        directory = LAYOUT.directory(lost, base)
        directory.mkdir()
        (directory / "cgroup.procs").write_text(str(process.pid))
    await host.start_agent()
    assert await asyncio.wait_for(process.wait(), PATIENCE) == -9
    await until(lambda: not everywhere(lost))
    await host.running("stays")
    assert everywhere(kept)


async def test_a_resize_changes_the_pods_cgroup_with_its_containers(host: PodHost) -> None:
    """Up: from the pod down, as no child may have more than its parent; down: the other way."""
    before = {"requests": sizes(cpu="100m", memory="32Mi"), "limits": sizes(cpu="200m", memory="64Mi")}
    await host.create(pod("grow", container={"resources": before}))
    path = LAYOUT.pod_cgroup(await host.running("grow"))
    assert kernel(path).quota == 20_000
    for cpu, memory in (("600m", "256Mi"), ("100m", "48Mi")):
        found = await host.get("grow")
        assert found is not None
        after = {"requests": sizes(cpu="100m", memory="32Mi"), "limits": sizes(cpu=cpu, memory=memory)}
        spec = {**found["spec"], "containers": [{**found["spec"]["containers"][0], "resources": after}]}
        await host.client.update(PODS, {**found, "spec": spec})
        wanted = (int(cpu.removesuffix("m")) * 100, int(memory.removesuffix("Mi")) << 20)
        await until(lambda wanted=wanted: (kernel(path).quota, kernel(path).memory) == wanted)
        await host.until("grow", lambda status, after=after: status["containerStatuses"][0]["resources"] == after)
    # What an agent did not finish, the next one does.
    await host.stop_agent()
    (LAYOUT.directory(path, "cpu") / ("cpu.max" if VERSION == 2 else "cpu.cfs_quota_us")).write_text("50000")
    await host.start_agent()
    await until(lambda: kernel(path).quota == 10_000)
    assert (await host.running("grow"))["status"]["containerStatuses"][0]["restartCount"] == 0
    await host.delete("grow")


def allowed(pid: int) -> str:
    """Cpus on which a process may run."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))


async def runs_on(host: PodHost, name: str) -> str:
    infos = await host.runtime.inspect_all()
    info = next(one for one in infos if one.labels["io.kubernetes.pod.name"] == name and not one.is_sandbox)
    return allowed(info.pid)


@pytest.mark.skipif(len(CPUS.all) < 2, reason="one cpu cannot be shared out")
async def test_a_guaranteed_pod_has_whole_cpus_alone_while_it_runs(static_host: PodHost) -> None:
    host = static_host
    everything, alone = format_cpus(CPUS.all), format_cpus({sorted(CPUS.all)[1]})
    left = format_cpus(CPUS.all - {sorted(CPUS.all)[1]})
    await host.create(pod("shares"))
    await host.running("shares")
    assert await runs_on(host, "shares") == everything
    whole = {"requests": sizes(cpu="1", memory="16Mi"), "limits": sizes(cpu="1", memory="16Mi")}
    await host.create(pod("alone", container={"resources": whole}))
    path = LAYOUT.pod_cgroup(await host.running("alone"))
    assert await runs_on(host, "alone") == alone
    assert kernel(path).quota == -1, "no quota cuts the time of cpus that are nobody else's"
    await on(host, "shares", left)
    # Who comes when none is left is refused; what was handed out outlives the agent.
    many = len(CPUS.all)
    too_much = {kind: sizes(cpu=str(many), memory="16Mi") for kind in ("requests", "limits")}
    await host.create(pod("toomuch", container={"resources": too_much}))
    status = (await host.until("toomuch", lambda status: status["phase"] == "Failed"))["status"]
    assert status["reason"] in ("UnexpectedAdmissionError", "OutOfcpu")
    await host.stop_agent()
    await host.start_agent()
    await host.running("alone")
    assert await runs_on(host, "alone") == alone
    await host.delete("alone")
    await on(host, "shares", everything)
    assert (await host.running("shares"))["status"]["containerStatuses"][0]["restartCount"] == 0


async def on(host: PodHost, name: str, cpus: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (now := await runs_on(host, name)) != cpus:
        assert time.monotonic() < deadline, now
        await asyncio.sleep(0.05)


async def test_a_critical_pod_ends_others_that_are_in_its_way(host: PodHost) -> None:
    for name, cpu in (("small", "500m"), ("large", "3")):
        await host.create(pod(name, container={"resources": {"requests": sizes(cpu=cpu)}}))
        await host.running(name)
    await host.create(pod("plain", container={"resources": {"requests": sizes(cpu="1")}}))
    plain = (await host.until("plain", lambda status: status["phase"] == "Failed"))["status"]
    text = "Node didn't have enough resource: cpu, requested: 1000, used: 3500, capacity: 4000"
    assert (plain["reason"], plain["message"]) == ("OutOfcpu", f"Pod was rejected: {text}")
    assert ("Warning", "OutOfcpu", text) in [event[:3] for event in host.told.events]
    critical = {"resources": {"requests": sizes(cpu="3200m")}}
    await host.create(pod("critical", container=critical, priority=2_000_000_000))
    await host.running("critical")
    large = await host.get("large")
    assert large is not None
    assert large["status"]["phase"] == "Failed"
    assert (large["status"]["reason"], large["status"]["message"]) == (
        "Preempting",
        "Preempted in order to admit critical pod",
    )
    condition = next(one for one in large["status"]["conditions"] if one["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    assert ("Warning", "Preempting", "Preempted in order to admit critical pod") in [e[:3] for e in host.told.events]
    assert (await host.running("small"))["status"]["phase"] == "Running"


UNIFIED = Path("/sys/fs/cgroup") if VERSION == 2 else Path("/sys/fs/cgroup/unified")


@pytest.mark.skipif(not (UNIFIED / "cgroup.controllers").exists(), reason="no cgroup version 2 here")
def test_version_2_of_the_real_kernel() -> None:
    """Controllers are handed down, limits are taken, and what is in a cgroup dies with it."""
    control = UNIFIED / "cgroup.subtree_control"
    before = control.read_text().split()
    tree = Tree(Layout(version=2, root=ROOT, mount=UNIFIED))
    name = tree.layout.pod_name({"metadata": {"uid": "two"}, "spec": {"containers": [{"name": "c"}]}})
    try:
        tree.create(name, Limits(256, 50_000, memory=64 << 20, pids=64, huge_pages={"2MB": 4 << 20}))
        directory = tree.layout.directory(tree.layout.path(name))
        for controller, file, text in (
            ("cpu", "cpu.max", "50000 100000"),
            ("memory", "memory.max", str(64 << 20)),
            ("pids", "pids.max", "64"),
            ("hugetlb", "hugetlb.2MB.max", str(4 << 20)),
        ):
            if controller in tree.controllers:
                assert (directory / file).read_text().strip() == text
        assert tree.pods("BestEffort") == {"two"}
        leaf = directory / "container"
        leaf.mkdir()
        process = subprocess.Popen(["sleep", "600"])
        (leaf / "cgroup.procs").write_text(str(process.pid))
        tree.remove(name)
        assert process.wait(PATIENCE) == -9
        assert not directory.exists()
    finally:
        tree.remove(tree.layout.root_name)
        for controller in set(control.read_text().split()) - set(before):
            control.write_text(f"-{controller}")
