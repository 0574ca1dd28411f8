"""Pods and the host measured on made-up trees, and what the pages make of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agents.pods.ports import Tenant
from agents.probes.outcome import Outcome
from agents.probes.tally import Probed, Tally
from agents.resources.usage import V1, V2, Hierarchy
from agents.runtime.errors import EngineUnavailable
from agents.runtime.model import CONTAINER_NAME, ContainerInfo
from agents.stats.collector import Collector, Engine
from agents.stats.groups import Machine
from agents.stats.pages import StatsPages
from agents.stats.summary import summary_json
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from tests.unit.stats import trees
from tests.unit.stats.trees import CONTAINER, GIB, MIB, POD, V2_POD


def info(tmp_path: Path, clock: VirtualClock, **changes: object) -> ContainerInfo:
    layer, logs = tmp_path / "layer", tmp_path / "logs"
    layer.mkdir(exist_ok=True)
    logs.mkdir(exist_ok=True)
    (layer / "written").write_bytes(b"w" * 65536)
    (logs / "c-json.log").write_bytes(b"l" * 8192)
    fields: dict[str, object] = {
        "id": CONTAINER,
        "name": "k8s_app_web",
        "state": "running",
        "labels": {CONTAINER_NAME: "app"},
        "image": "busybox:latest",
        "image_id": "sha256:1",
        "pid": 42,
        "exit_code": 0,
        "oom_killed": False,
        "error": "",
        "created_at": None,
        "started_at": clock.now() - timedelta(seconds=8),
        "finished_at": None,
        "layer": str(layer),
        "log_path": str(logs / "c-json.log"),
    }
    return ContainerInfo(**{**fields, **changes})  # type: ignore[arg-type]


class Host:
    def __init__(self, tmp_path: Path, hierarchy: Hierarchy) -> None:
        self.clock = VirtualClock()
        self.root = tmp_path / "root"
        self.volume = tmp_path / "volume"
        for directory in (self.root / "pods" / POD, self.volume):
            directory.mkdir(parents=True)
        (self.volume / "data").write_bytes(b"d" * 131072)
        self.pod: Obj = {
            "metadata": {"name": "web", "namespace": "default", "uid": POD},
            "spec": {"containers": [{"name": "app"}], "volumes": [{"name": "scratch", "emptyDir": {}}]},
            "status": {"startTime": "2026-01-01T00:00:00Z"},
        }
        volumes = {"scratch": str(self.volume)}
        self.tenants = [Tenant(self.pod, None, (info(tmp_path, self.clock),), volumes)]
        self.engine_up = True
        self.engine_hangs = False
        self.sizes_asked = 0
        self.collector = Collector(
            node_name="host-1",
            root=self.root,
            tenants=lambda: self.tenants,
            engine=Engine(self._storage, self._images, self._layer),
            clock=self.clock,
            pods_cgroup=lambda: "/kubepods",
            hierarchy=hierarchy,
            proc=trees.proc(tmp_path / "proc"),
        )

    async def _storage(self) -> str:
        if self.engine_hangs:
            await asyncio.Event().wait()
        if not self.engine_up:
            raise EngineUnavailable("down")
        return str(self.root)

    async def _images(self) -> int:
        return 1234

    async def _layer(self, container_id: str) -> int:
        self.sizes_asked += 1
        return 777


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, V2(trees.v2(tmp_path / "cgroup")))


async def test_a_summary_has_what_the_kernel_tells(host: Host) -> None:
    document = summary_json(await host.collector.summary())
    (pod,) = document["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": POD}
    assert pod["cpu"]["usageCoreNanoSeconds"] == 4_000_000_000
    assert pod["memory"]["availableBytes"] == 56 * MIB
    assert pod["process_stats"] == {"process_count": 5}
    assert pod["network"]["name"] == "eth0"
    assert pod["network"]["rxBytes"] == 10
    (container,) = pod["containers"]
    assert container["memory"]["workingSetBytes"] == 8 * MIB
    assert container["cpu"]["usageNanoCores"] == 500_000_000  # 4 s of cpu in the 8 s since its start
    assert container["cpu"]["psi"]["some"]["total"] == 2_000_000
    (volume,) = pod["volume"]
    assert volume["name"] == "scratch"
    assert 131072 <= volume["usedBytes"] < 200_000
    assert volume["usedBytes"] + 65536 < pod["ephemeral-storage"]["usedBytes"] < 400_000
    node = document["node"]
    assert node["nodeName"] == "host-1"
    # version 2 has no use of its root: what is not free, less inactive pages of files
    assert node["memory"]["usageBytes"] == 4 * GIB
    assert node["memory"]["availableBytes"] == 5 * GIB
    assert node["rlimit"]["maxpid"] == 3000
    assert node["rlimit"]["curproc"] == 300
    assert node["runtime"]["imageFs"]["usedBytes"] == 1234
    assert node["network"]["name"] == "ens3"
    assert {one["name"] for one in node["systemContainers"]} == {"kubelet", "pods"}


async def test_version_1_counts_its_root(tmp_path: Path) -> None:
    host = Host(tmp_path, V1(trees.v1(tmp_path / "cgroup")))
    trees.write(tmp_path / "proc", {"42/cgroup": f"2:cpuacct,cpu:{V2_POD}/{CONTAINER}\n"})
    document = summary_json(await host.collector.summary(only_cpu_and_memory=True))
    assert document["node"]["memory"]["workingSetBytes"] == 2 * GIB
    assert "fs" not in document["node"]
    (pod,) = document["pods"]
    assert pod["memory"]["workingSetBytes"] == 8 * MIB
    assert "volume" not in pod


async def test_cpu_is_what_was_used_between_two_looks(host: Host, tmp_path: Path) -> None:
    await host.collector.summary(only_cpu_and_memory=True)
    await host.clock.advance(10)
    trees.write(tmp_path / "cgroup", {f"{V2_POD}/{CONTAINER}/cpu.stat": "usage_usec 6000000\n"})
    summary = await host.collector.summary(only_cpu_and_memory=True)
    cpu = summary.pods[0].containers[0].cpu
    assert cpu is not None
    assert cpu.nano_cores == 200_000_000
    again = await host.collector.summary(only_cpu_and_memory=True)
    assert again is summary  # asked within the same second


async def test_a_host_without_its_engine_is_measured_all_the_same(host: Host) -> None:
    host.engine_up = False
    node = await host.collector.node()
    assert node.memory is not None
    assert node.image_filesystem is None
    host.engine_up = True
    assert (await host.collector.node()).image_filesystem is not None


async def test_a_hung_engine_does_not_keep_the_host_from_being_measured(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.stats.collector.ENGINE_SECONDS", 0.01)
    host.engine_hangs = True
    node = await host.collector.node()
    assert node.memory is not None
    assert (await host.collector.summary()).pods


async def test_layers_without_a_directory_are_asked_for_seldom(host: Host, tmp_path: Path) -> None:
    host.tenants = [Tenant(host.pod, None, (info(tmp_path, host.clock, layer=""),), {})]
    for _ in range(5):
        stats = await host.collector.with_disk(await host.collector.use_of(host.tenants), host.tenants, max_age=5)
        await host.clock.advance(10)
    rootfs = stats[0].containers[0].rootfs
    assert rootfs is not None
    assert rootfs.used == 777
    assert host.sizes_asked == 1


async def test_a_process_that_the_runtime_has_not_moved_yet_is_not_taken_for_its_container(
    host: Host, tmp_path: Path
) -> None:
    trees.write(tmp_path / "proc", {"42/cgroup": "0::/system.slice/docker.service\n"})
    (pod,) = await host.collector.use_of(host.tenants)
    assert pod.containers[0].memory is None
    trees.proc(tmp_path / "proc")
    (pod,) = await host.collector.use_of(host.tenants)
    assert pod.containers[0].memory is not None


async def test_what_is_gone_is_forgotten(host: Host) -> None:
    await host.collector.summary()
    host.tenants = []
    await host.clock.advance(2)
    summary = await host.collector.summary()
    assert summary.pods == ()
    meter = host.collector.meter
    assert set(meter._samples) == {"node", "pods", "agent"}  # nothing else may grow with the pods that were here
    assert meter._locations == {}
    assert host.collector._ledger._trees == {}


# --- pages


def pages(host: Host, tally: Tally | None = None) -> StatsPages:
    return StatsPages(
        host.collector,
        tally=lambda: tally or (),
        machine=lambda: Machine(cores=2, memory=GIB, swap=0, boot_id="b"),
        version=lambda: {"kernelVersion": "6", "dockerVersion": "20"},
    )


async def scrape(page: StatsPages, path: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    response = await page.routes()[path](None)  # type: ignore[arg-type]
    assert response.headers["Content-Type"].startswith("text/plain")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(response.body.decode()):  # type: ignore[attr-defined]
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def test_resource_metrics(host: Host) -> None:
    series = await scrape(pages(host), "/metrics/resource")
    labels = {"container": "app", "pod": "web", "namespace": "default"}
    assert series["container_cpu_usage_seconds_total"] == [(labels, 4.0)]
    assert series["container_memory_working_set_bytes"] == [(labels, 8 * MIB)]
    assert series["pod_memory_working_set_bytes"] == [({"pod": "web", "namespace": "default"}, 8 * MIB)]
    assert series["node_memory_working_set_bytes"] == [({}, 3 * GIB)]
    assert series["container_swap_limit_bytes"] == [(labels, 16 * MIB)]
    assert series["resource_scrape_error"] == [({}, 0)]
    assert series["container_start_time_seconds"][0][1] == pytest.approx(host.clock.now().timestamp() - 8)


async def test_cadvisor_metrics(host: Host) -> None:
    series = await scrape(pages(host), "/metrics/cadvisor")
    ids = {labels["id"] for labels, _ in series["container_cpu_usage_seconds_total"]}
    assert ids == {"/", "/kubepods", V2_POD, f"{V2_POD}/{CONTAINER}"}
    of_container = [
        (labels, value)
        for labels, value in series["container_memory_working_set_bytes"]
        if labels["container"] == "app"
    ]
    ((labels, value),) = of_container
    assert value == 8 * MIB
    assert (labels["pod"], labels["namespace"], labels["image"]) == ("web", "default", "busybox:latest")
    ((labels, value),) = series["container_network_receive_bytes_total"]
    assert (labels["pod"], labels["interface"], value) == ("web", "eth0", 10)
    assert series["container_fs_usage_bytes"][0][1] >= 65536
    assert series["container_cpu_cfs_throttled_seconds_total"][0][1] == 0.5
    assert {labels["failure_type"] for labels, _ in series["container_memory_failures_total"]} == {
        "pgfault",
        "pgmajfault",
    }
    assert any(value == 2.0 for _, value in series["container_pressure_cpu_waiting_seconds_total"])
    assert series["machine_cpu_cores"][0][1] == 2
    assert series["cadvisor_version_info"][0][0] == {"kernelVersion": "6", "dockerVersion": "20"}


async def test_probe_metrics(host: Host) -> None:
    tally = Tally()
    probed = Probed("readiness", "app", "web", "default", POD)
    for outcome, seconds in ((Outcome(True), 0.003), (Outcome(True), 0.2), (Outcome(False, "no"), 1.0)):
        tally.count(probed, outcome, seconds)
    series = await scrape(pages(host, tally), "/metrics/probes")
    counts = {labels["result"]: value for labels, value in series["prober_probe_total"]}
    assert counts == {"successful": 2, "failed": 1}
    labels = series["prober_probe_total"][0][0]
    assert labels["probe_type"] == "Readiness"
    assert labels["pod_uid"] == POD
    buckets = {labels["le"]: value for labels, value in series["prober_probe_duration_seconds_bucket"]}
    assert (buckets["0.005"], buckets["0.1"], buckets["0.25"], buckets["+Inf"]) == (1, 1, 2, 2)
    tally.forget(POD)
    assert "prober_probe_total" not in await scrape(pages(host, tally), "/metrics/probes")
