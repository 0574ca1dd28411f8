"""How full the volumes of claims are, and file systems that do not answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.pods.ports import Tenant
from agents.resources.usage import V2
from agents.runtime.tally import OperationTally
from agents.server.metrics import Facts, families
from agents.static.starts import Starts
from agents.stats import claims
from agents.stats.claims import ClaimMeter, ClaimUse
from agents.stats.disk import filesystem
from agents.stats.model import Filesystem
from agents.stats.summary import summary_json
from orca.api.objects import Obj
from tests.unit.stats import trees
from tests.unit.stats.test_collector import Host

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PREFIX = "kubelet_volume_stats_"
DATA = {"name": "data", "persistentVolumeClaim": {"claimName": "shared"}}
OWN = {"name": "own", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}


def pod(name: str, *volumes: Obj) -> Obj:
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"}, "spec": {"volumes": list(volumes)}}


@pytest.fixture
def tenants(tmp_path: Path) -> list[Tenant]:
    """Two pods with the same claim; one has a claim of its own, the other one that is not mounted yet."""
    paths = {"data": str(tmp_path), "own": str(tmp_path), "scratch": str(tmp_path)}
    return [
        Tenant(pod("a", DATA, OWN, {"name": "scratch", "emptyDir": {}}), volumes=paths),
        Tenant(pod("b", DATA, OWN), volumes={"data": str(tmp_path)}),
    ]


def exposed(uses: list[ClaimUse]) -> dict[tuple[str, str, str], float]:
    """(metric, namespace, claim) -> value."""
    facts = Facts("n", "v", 0.0, [], 0, OperationTally(), Starts(), claims=uses)
    return {
        (sample.name.removeprefix(PREFIX), sample.labels["namespace"], sample.labels["persistentvolumeclaim"]): (
            sample.value
        )
        for family in families(facts)
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


async def test_a_claim_is_as_full_as_its_file_system(tenants: list[Tenant], tmp_path: Path) -> None:
    uses = await ClaimMeter().measure(tenants, NOW)
    found = {(use.pod_uid, use.volume, use.claim) for use in uses}
    assert found == {("uid-a", "data", "shared"), ("uid-a", "own", "a-own"), ("uid-b", "data", "shared")}
    series, there = exposed(uses), os.statvfs(tmp_path)
    names = {"capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"}
    assert set(series) == {(name, "shop", claim) for name in names for claim in ("shared", "a-own")}
    assert series["capacity_bytes", "shop", "shared"] == there.f_blocks * there.f_frsize
    assert 0 < series["used_bytes", "shop", "shared"] <= there.f_blocks * there.f_frsize
    assert series["inodes", "shop", "a-own"] == there.f_files


async def test_a_summary_names_the_claim(tmp_path: Path) -> None:
    host = Host(tmp_path, V2(trees.v2(tmp_path / "cgroup")))
    (tenant,) = host.tenants
    tenant.pod["spec"]["volumes"].append(DATA)
    host.tenants = [replace(tenant, volumes={**tenant.volumes, "data": str(tmp_path)})]
    (told,) = summary_json(await host.collector.summary())["pods"]
    scratch, data = told["volume"]
    assert data["name"] == "data"
    assert data["pvcRef"] == {"name": "shared", "namespace": "default"}
    there = os.statvfs(tmp_path)
    assert data["capacityBytes"] == there.f_blocks * there.f_frsize
    assert "pvcRef" not in scratch


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """Until it is set, one file system does not answer."""
    event = threading.Event()
    yield event
    event.set()


async def test_what_does_not_answer_is_left_out_and_asked_once(
    tenants: list[Tenant], tmp_path: Path, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def look(path: str, now: datetime) -> Filesystem | None:
        asked.append(path)
        if path == "/dead":
            stuck.wait()
        return filesystem(tmp_path, now)

    monkeypatch.setattr(claims, "ANSWER_SECONDS", 0.05)
    tenants[1] = replace(tenants[1], volumes={"own": "/dead", "data": str(tmp_path)})
    meter = ClaimMeter(look)
    for _ in range(2):
        # The file systems that answer may need more than that on a busy machine: then they are asked again.
        uses = await meter.measure(tenants, NOW)
        assert "b-own" not in {use.claim for use in uses}
    assert asked.count("/dead") == 1
    stuck.set()
    monkeypatch.setattr(claims, "ANSWER_SECONDS", 60.0)
    assert {"b-own", "shared"} <= {use.claim for use in await meter.measure(tenants, NOW)}
