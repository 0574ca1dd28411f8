"""What of a host pods may have, and what was configured about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.config import Configuration, ConfigurationError
from agents.resources.configured import cgroup_settings, cpu_handout
from agents.resources.cpus import Cpu, Topology
from agents.resources.limits import Limits, Rules
from agents.resources.reservations import ReservationError, Reservations

GI, MI = 1 << 30, 1 << 20
HOST = {"cpu": 4000, "memory": 8 * GI, "ephemeral-storage": 100 * GI, "hugepages-2Mi": 64 * MI, "pid": 30_000}
CPUS = Topology(tuple(Cpu(number, number, 0, 0) for number in range(4)))


def test_allocatable_is_capacity_less_what_is_reserved_and_kept_free() -> None:
    kept = Reservations({"cpu": "100m", "memory": "1Gi"}, {"cpu": "200m", "ephemeral-storage": "1Gi", "pid": "1000"})
    assert kept.allocatable(HOST) == {
        "cpu": 3700,
        "memory": 7 * GI - 100 * MI - 64 * MI,
        "ephemeral-storage": 99 * GI - 10 * GI,
        "hugepages-2Mi": 64 * MI,
        "pid": 29_000,
    }
    assert kept.enforceable(HOST)["memory"] == 7 * GI - 64 * MI, "eviction acts before the kernel does"


def test_thresholds_may_be_amounts_or_shares() -> None:
    kept = Reservations(eviction={"memory.available": "5%", "nodefs.available": "2Gi", "nodefs.inodesFree": "5%"})
    assert kept.held_back(HOST) == {"memory": int(8 * GI * 0.05), "ephemeral-storage": 2 * GI}


def test_cpus_named_one_by_one_count_instead_of_amounts() -> None:
    kept = Reservations({"cpu": "3"}, {"cpu": "500m"}, cpus=1)
    assert kept.allocatable(HOST)["cpu"] == 3000


def test_nobody_reserves_more_than_there_is() -> None:
    Reservations({"memory": "7Gi"}).check(HOST)
    with pytest.raises(ReservationError, match='Resource "memory" has a reservation of 8694792192 but capacity of'):
        Reservations({"memory": "8Gi"}).check(HOST)
    assert Reservations({"memory": "9Gi"}).allocatable(HOST)["memory"] == 0


def settings(version: int = 1, **fields: object) -> object:
    return cgroup_settings(Configuration(**fields), root="", capacity=HOST, version=version)  # type: ignore[arg-type]


def test_what_is_configured_reaches_the_tree() -> None:
    found = cgroup_settings(Configuration(), root="/r", capacity=HOST, version=2)
    assert (found.root, found.by_quality, found.kill_together) == ("/r", True, True)
    assert found.rules == Rules(page_sizes=(2 * MI,))
    assert found.whole == Limits(cpu_shares=4096, memory=8 * GI - 64 * MI, pids=30_000)
    other = cgroup_settings(
        Configuration(
            cgroup_root="/pods",
            cgroups_per_qos=True,
            pod_pids_limit=128,
            cpu_cfs_quota=False,
            cpu_cfs_quota_period=0.02,
            single_process_oom_kill=True,
            system_reserved={"memory": "1Gi", "cpu": "500m"},
            system_reserved_cgroup="/system",
            kube_reserved={"cpu": "250m", "memory": "1Gi"},
            kube_reserved_cgroup="/agent",
            enforce_node_allocatable=("pods", "system-reserved", "kube-reserved-compressible"),
        ),
        root="",
        capacity=HOST,
        version=2,
    )
    assert (other.root, other.kill_together) == ("/pods", False)
    assert other.rules == Rules(quota=False, period=20_000, pids=128, page_sizes=(2 * MI,))
    assert other.whole == Limits(cpu_shares=3328, memory=6 * GI - 64 * MI, pids=30_000)
    assert other.reserved == (("/system", Limits(cpu_shares=512, memory=GI)), ("/agent", Limits(cpu_shares=256)))


def test_limits_of_all_pods_are_the_capacity_where_nothing_is_enforced() -> None:
    found = cgroup_settings(
        Configuration(system_reserved={"memory": "1Gi"}, enforce_node_allocatable=()), root="", capacity=HOST, version=1
    )
    assert found.whole.memory == 8 * GI


def test_what_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="invalid Node Allocatable configuration"):
        settings(kube_reserved={"cpu": "5"})
    with pytest.raises(ConfigurationError, match="singleProcessOOMKill"):
        settings(single_process_oom_kill=False)
    settings(version=2, single_process_oom_kill=False)
    for fields, text in (
        ({"cpu_manager_policy": "static"}, "greater than zero"),
        ({"cpu_manager_policy_options": {"full-pcpus-only": "true"}}, "takes no options"),
        ({"cpu_manager_policy_options": {"align-by-socket": "true"}}, "does not support 'align-by-socket'"),
        ({"cpu_manager_policy_options": {"full-pcpus-only": "perhaps"}}, "invalid boolean"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            cpu_handout(Configuration(**fields), tmp_path, lambda: CPUS)  # type: ignore[arg-type]


async def test_who_hands_out_cpus(tmp_path: Path) -> None:
    assert cpu_handout(Configuration(), tmp_path, lambda: CPUS) is None
    static = Configuration(
        cpu_manager_policy="static",
        reserved_system_cpus="3",
        cpu_manager_policy_options={"strict-cpu-reservation": "true"},
    )
    found = cpu_handout(static, tmp_path, lambda: CPUS)
    assert found is not None
    assert found.shared == {0, 1, 2}
    await found.save()
    with pytest.raises(
        ConfigurationError, match='configured policy "none" differs from state checkpoint policy "static"'
    ):
        cpu_handout(Configuration(), tmp_path, lambda: CPUS)
