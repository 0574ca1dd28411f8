"""From what a pod asks for to what is written into its cgroup's files."""

from __future__ import annotations

import pytest

from agents.resources.limits import (
    UNLIMITED,
    Limits,
    Rules,
    Write,
    container_huge_pages,
    page_label,
    pod_limits,
    quota_of,
    shares_of,
    weight_of,
    writes,
)
from orca.api.objects import Obj
from tests.unit.resources.pods import pod, same, sizes

GI = 1 << 30


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (4, 2), (10, 4), (102, 17), (1024, 100), (2048, 174), (262144, 10000)]
)
def test_weights_of_version_2_meet_least_default_and_greatest(shares: int, weight: int) -> None:
    assert weight_of(shares) == weight


def test_units() -> None:
    assert [shares_of(milli) for milli in (0, 1, 100, 1000, 10**9)] == [2, 2, 102, 1024, 262144]
    assert [quota_of(milli) for milli in (0, 5, 100, 2500)] == [0, 1000, 10_000, 250_000]
    assert quota_of(500, 20_000) == 10_000
    assert [page_label(size) for size in (1 << 16, 1 << 21, 1 << 30)] == ["64KB", "2MB", "1GB"]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (pod({}), Limits(cpu_shares=2)),
        (pod(sizes({"cpu": "250m"})), Limits(cpu_shares=256)),
        (pod(same(cpu="500m", memory="1Gi"), same(cpu="1", memory="1Gi")), Limits(1536, 150_000, memory=2 * GI)),
        # One without a limit, and the pod has none.
        (pod(same(cpu="500m", memory="1Gi"), sizes({"cpu": "1"})), Limits(1536)),
        (pod(same(cpu="1"), init=((sizes({"memory": "1Gi"}), False),)), Limits(1024)),
        (pod({}, resources=same(cpu="2", memory="1Gi")), Limits(2048, 200_000, memory=GI)),
        (pod({}, {}, resources=sizes({"cpu": "1"}, {"memory": "1Gi"})), Limits(1024, memory=GI)),
    ],
)
def test_limits_of_a_pods_cgroup(subject: Obj, expected: Limits) -> None:
    assert pod_limits(subject, Rules()) == expected


def test_the_hosts_rules_change_them() -> None:
    subject = pod(same(cpu="500m", memory="1Gi"))
    assert pod_limits(subject, Rules(quota=False)).cpu_quota == UNLIMITED
    assert pod_limits(subject, Rules(), exclusive=True).cpu_quota == UNLIMITED
    limits = pod_limits(subject, Rules(period=20_000, pids=99, page_sizes=(2 << 20, GI)))
    assert limits == Limits(512, 10_000, 20_000, GI, 99, {"2MB": 0, "1GB": 0})


def test_huge_pages_are_limited_to_what_is_asked_for_and_others_to_none() -> None:
    subject = pod(same(cpu="1", memory="1Gi", **{"hugepages-2Mi": "8Mi"}))
    rules = Rules(page_sizes=(2 << 20, GI))
    assert pod_limits(subject, rules).huge_pages == {"2MB": 8 << 20, "1GB": 0}
    container = subject["spec"]["containers"][0]
    assert container_huge_pages(subject, container, rules).huge_pages == {"2MB": 8 << 20, "1GB": 0}
    assert container_huge_pages(subject, container, Rules()) == Limits()
    whole = pod({}, resources=same(cpu="1", **{"hugepages-2Mi": "6Mi"}))
    assert container_huge_pages(whole, whole["spec"]["containers"][0], rules).huge_pages == {"2MB": 6 << 20, "1GB": 0}


def test_files_of_version_1() -> None:
    limits = Limits(512, 50_000, 100_000, GI, 64, {"2MB": 4})
    assert writes(limits, 1) == [
        Write("cpu", "cpu.shares", "512"),
        Write("cpu", "cpu.cfs_period_us", "100000"),
        Write("cpu", "cpu.cfs_quota_us", "50000"),
        Write("memory", "memory.limit_in_bytes", str(GI)),
        Write("pids", "pids.max", "64"),
        Write("hugetlb", "hugetlb.2MB.limit_in_bytes", "4"),
        Write("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes", "4", optional=True),
    ]
    assert writes(Limits(cpu_quota=UNLIMITED), 1) == [Write("cpu", "cpu.cfs_quota_us", "-1")]


def test_files_of_version_2() -> None:
    limits = Limits(1024, 50_000, 100_000, GI, 64, {"1GB": 4})
    assert writes(limits, 2) == [
        Write("cpu", "cpu.weight", "100"),
        Write("cpu", "cpu.max", "50000 100000"),
        Write("memory", "memory.max", str(GI)),
        Write("pids", "pids.max", "64"),
        Write("hugetlb", "hugetlb.1GB.max", "4"),
        Write("hugetlb", "hugetlb.1GB.rsvd.max", "4", optional=True),
    ]
    assert writes(Limits(cpu_quota=UNLIMITED, memory=UNLIMITED), 2) == [
        Write("cpu", "cpu.max", "max 100000"),
        Write("memory", "memory.max", "max"),
    ]
