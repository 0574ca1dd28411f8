"""The cgroup tree as files, on both versions and for both drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from agents.resources.cgroups import Cgroups, Settings
from agents.resources.limits import UNLIMITED, Limits, Rules
from agents.resources.paths import Driver, Layout
from agents.resources.quality import qos_class
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from tests.support.patience import PATIENCE
from tests.unit.resources.kernel import MadeUpTree, Told
from tests.unit.resources.pods import pod, same, sizes

GI = 1 << 30
SURE = pod(same(cpu="500m", memory="1Gi"), uid="aa-1")
SOME = pod(sizes({"cpu": "250m"}), uid="bb-2")
REST = pod({}, uid="cc-3")


def text(tree: MadeUpTree, path: str, controller: str, file: str) -> str:
    return (tree.layout.directory(path, controller) / file).read_text()


@pytest.mark.parametrize(
    ("subject", "cgroupfs", "systemd"),
    [
        (SURE, "/r/kubepods/podaa-1/x", "/r.slice/r-kubepods.slice/r-kubepods-podaa_1.slice/docker-x.scope"),
        (
            SOME,
            "/r/kubepods/burstable/podbb-2/x",
            "/r.slice/r-kubepods.slice/r-kubepods-burstable.slice/r-kubepods-burstable-podbb_2.slice/docker-x.scope",
        ),
    ],
)
def test_names_are_those_of_a_kubelet(subject: Obj, cgroupfs: str, systemd: str) -> None:
    assert Layout(root="/r").container_cgroup(subject, "x") == cgroupfs
    by_systemd = Layout(Driver.SYSTEMD, 2, "/r")
    assert by_systemd.container_cgroup(subject, "x") == systemd
    assert by_systemd.parent(by_systemd.pod_name(subject)) == systemd.split("/")[-2]
    by_cgroupfs = Layout(root="/r")
    assert by_cgroupfs.parent(by_cgroupfs.pod_name(subject)) == cgroupfs.removesuffix("/x")


def test_roots() -> None:
    assert Layout().pod_cgroup(REST) == "/kubepods/besteffort/podcc-3"
    assert Layout(root="/a/b").pods_name == ("a", "b", "kubepods")
    systemd = Layout(Driver.SYSTEMD, 2, "my_lab-one.slice")
    assert systemd.parent(systemd.pod_name(REST)) == "my_lab-one-kubepods-besteffort-podcc_3.slice"
    flat = Layout(root="/a", by_quality=False)
    assert flat.container_cgroup(REST, "x") == "/a/x"
    assert Layout(root="/a").spare_parent() == "/a/kubepods/spare"


@pytest.mark.parametrize("version", [1, 2])
def test_cgroups_are_made_limited_listed_and_removed(tmp_path: Path, version: int) -> None:
    tree = MadeUpTree(Layout(version=version, root="/r", mount=tmp_path / "cgroup"))
    name = tree.layout.pod_name(SURE)
    assert not tree.exists(name)
    tree.create(name, Limits(512, 50_000, 100_000, GI, 64, {"2MB": 0}))
    assert tree.exists(name)
    path = tree.layout.path(name)
    if version == 1:
        assert text(tree, path, "cpu", "cpu.shares") == "512"
        assert text(tree, path, "cpu", "cpu.cfs_quota_us") == "50000"
        assert text(tree, path, "memory", "memory.limit_in_bytes") == str(GI)
        assert text(tree, path, "hugetlb", "hugetlb.2MB.limit_in_bytes") == "0"
    else:
        assert text(tree, path, "", "cpu.weight") == "59"
        assert text(tree, path, "", "cpu.max") == "50000 100000"
        assert text(tree, path, "", "hugetlb.2MB.rsvd.max") == "0"
        assert "+memory" in text(tree, "/r/kubepods", "", "cgroup.subtree_control")
    assert text(tree, path, "pids", "pids.max") == "64"
    assert tree.read(name) == (Limits(cpu_quota=50_000, memory=GI), 0)
    tree.change(name, Limits(cpu_quota=UNLIMITED))
    assert tree.read(name) == (Limits(cpu_quota=UNLIMITED, memory=GI), 0)
    tree.create((*name, "container"), Limits())
    assert tree.pods("Guaranteed") == {"aa-1"}
    assert tree.pods("Burstable") == set()
    tree.remove(name)
    assert not tree.is_anywhere(name)
    tree.remove(name)
    assert tree.read(name) is None


def test_removal_looks_at_hierarchies_in_which_only_the_runtime_made_something(tmp_path: Path) -> None:
    tree = MadeUpTree(Layout(root="/r", mount=tmp_path / "cgroup"))
    name = tree.layout.pod_name(SOME)
    left = tree.layout.directory(tree.layout.path(name), "freezer")
    left.mkdir(parents=True)
    assert tree.pods("Burstable") == {"bb-2"}
    tree.remove(name)
    assert not left.exists()
    assert left.parent.exists()


def test_a_tree_that_somebody_took_away_is_made_again(tmp_path: Path) -> None:
    tree = MadeUpTree(Layout(version=2, root="/r", mount=tmp_path / "cgroup"))
    tree.create(tree.layout.pod_name(SURE), Limits(pids=1))
    tree.remove(("r",))
    tree.create(tree.layout.pod_name(SURE), Limits(pids=2))
    assert text(tree, tree.layout.pod_cgroup(SURE), "", "pids.max") == "2"


def test_systemd_is_told_what_the_files_say(tmp_path: Path) -> None:
    units = Told()
    tree = MadeUpTree(Layout(Driver.SYSTEMD, 2, "/r", mount=tmp_path / "cgroup"), units)
    name = tree.layout.pod_name(SOME)
    tree.create(name, Limits(1024, 25_500, 100_000, GI, 64))
    what, unit, properties = units.calls.pop()
    assert (what, unit) == ("start", "r-kubepods-burstable-podbb_2.slice")
    assert properties["Wants"] == ["r-kubepods-burstable.slice"]
    assert properties["DefaultDependencies"] is False
    limits = {"CPUWeight": 100, "CPUQuotaPerSecUSec": 260_000, "MemoryMax": GI, "TasksMax": 64}
    assert limits.items() <= properties.items()
    assert text(tree, tree.layout.path(name), "", "cpu.max") == "25500 100000"
    tree.change(name, Limits(cpu_quota=UNLIMITED))
    assert units.calls.pop() == ("change", unit, {"CPUQuotaPerSecUSec": (1 << 64) - 1})
    assert tree.pods("Burstable") == {"bb-2"}
    tree.remove(name)
    assert units.calls.pop() == ("stop", unit, {})
    assert tree.pods("Burstable") == set()


class Host:
    """The room on made-up files, with the pods a test says."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.trees: list[MadeUpTree] = []
        self.directory = directory
        self.pods: Iterable[Obj] = ()
        self.clock = VirtualClock()
        self.events: list[tuple[bool, str, str]] = []
        self.cgroups = Cgroups(
            settings,
            clock=self.clock,
            tell=lambda *event: self.events.append(event),
            make_tree=self._make,
        )

        async def detect() -> tuple[str, str]:
            return "cgroupfs", "1"

        self.cgroups.serve(detect, lambda: self.pods)

    def _make(self, layout: Layout) -> MadeUpTree:
        tree = MadeUpTree(
            Layout(layout.driver, layout.version, layout.root, layout.by_quality, self.directory / "cgroup")
        )
        self.trees.append(tree)
        return tree

    async def until(self, true: Callable[[], bool]) -> None:
        """Let time pass, and threads do their work."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                await self.clock.advance(0.1)

    def text(self, path: str, controller: str, file: str) -> str:
        return text(self.trees[0], path, controller, file)


async def test_a_pods_cgroup_comes_before_its_containers_and_goes_with_it(tmp_path: Path) -> None:
    host = Host(tmp_path, Settings(root="/r", rules=Rules(pids=64), whole=Limits(4096, memory=GI)))
    assert await host.cgroups.prepare(SOME) == "/r/kubepods/burstable/podbb-2"
    assert host.text("/r/kubepods/burstable/podbb-2", "pids", "pids.max") == "64"
    assert host.text("/r/kubepods/besteffort", "cpu", "cpu.shares") == "2"
    assert host.text("/r/kubepods", "cpu", "cpu.shares") == "4096"
    assert await host.cgroups.current(SOME) == (Limits(cpu_quota=UNLIMITED, memory=UNLIMITED), 0)
    await host.cgroups.remove(SOME)
    assert not host.trees[0].is_anywhere(host.trees[0].layout.pod_name(SOME))
    # One of an agent before this one, of whose pod only the uid is known.
    host.trees[0].create(host.trees[0].layout.pod_name(SURE), Limits())
    assert qos_class({"metadata": {"uid": "aa-1"}}) == "BestEffort"
    await host.cgroups.remove({"metadata": {"uid": "aa-1"}})
    assert not host.trees[0].pods("Guaranteed")


async def test_what_belongs_to_no_pod_is_removed(tmp_path: Path) -> None:
    host = Host(tmp_path, Settings(root="/r"))
    for one in (SURE, SOME, REST):
        await host.cgroups.prepare(one)
    await host.cgroups.reconcile(lambda: {"bb-2"})
    tree = host.trees[0]
    assert [tree.pods(one) for one in ("Guaranteed", "Burstable", "BestEffort")] == [set(), {"bb-2"}, set()]


async def test_the_burstable_class_weighs_what_its_pods_ask_for(tmp_path: Path) -> None:
    host = Host(tmp_path, Settings(root="/r", whole=Limits(memory=GI)))
    host.pods = [SURE, SOME, pod(sizes({"cpu": "1"})), REST]
    await host.cgroups.prepare(SURE)
    running = asyncio.create_task(host.cgroups.run())
    try:
        await host.until(lambda: host.text("/r/kubepods/burstable", "cpu", "cpu.shares") == "1280")
        await host.until(lambda: host.text("/r/kubepods", "memory", "memory.limit_in_bytes") == str(GI))
        await host.until(lambda: bool(host.events))
        assert host.events == [(False, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")]
        host.pods = []
        host.cgroups.poke()
        await host.until(lambda: host.text("/r/kubepods/burstable", "cpu", "cpu.shares") == "2")
    finally:
        running.cancel()


async def test_without_classes_nothing_is_made(tmp_path: Path) -> None:
    host = Host(tmp_path, Settings(root="/r", by_quality=False, kill_together=False))
    assert await host.cgroups.prepare(SURE) == "/r"
    await host.cgroups.remove(SURE)
    await host.cgroups.reconcile(set)
    await host.cgroups.started(SURE, SURE["spec"]["containers"][0], "x")
    assert not host.trees
