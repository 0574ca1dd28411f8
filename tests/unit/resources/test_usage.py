"""cgroup files of both versions come to the same figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.resources.usage import V1, V2, Hierarchy, find_hierarchy, parse_pressure
from tests.unit.stats import trees
from tests.unit.stats.trees import CONTAINER, MIB, V2_POD

LOCATION = f"{V2_POD}/{CONTAINER}"


@pytest.fixture(params=["v1", "v2"])
def hierarchy(request: pytest.FixtureRequest, tmp_path: Path) -> Hierarchy:
    return V1(trees.v1(tmp_path)) if request.param == "v1" else V2(trees.v2(tmp_path))


def test_both_versions_are_known_by_their_files(tmp_path: Path) -> None:
    assert find_hierarchy(trees.v2(tmp_path / "two")).version == 2
    assert find_hierarchy(trees.v1(tmp_path / "one")).version == 1


def test_use_is_told_alike(hierarchy: Hierarchy) -> None:
    usage = hierarchy.usage(LOCATION)
    assert usage is not None
    assert usage.cpu == 4_000_000_000
    assert (usage.memory, usage.working_set, usage.rss) == (10 * MIB, 8 * MIB, 3 * MIB)
    assert (usage.limit, usage.swap, usage.swap_limit) == (64 * MIB, MIB, 16 * MIB)
    assert (usage.page_faults, usage.major_page_faults) == (11, 2)
    assert (usage.pids, usage.pids_limit) == (5, None)


def test_details_are_told_alike(hierarchy: Hierarchy) -> None:
    details = hierarchy.details(LOCATION)
    assert (details.user, details.system) == (3_000_000_000, 1_000_000_000)
    assert (details.periods, details.throttled_periods, details.throttled) == (10, 4, 500_000_000)
    assert (details.quota, details.period) == (50000, 100000)
    assert (details.cache, details.mapped_file, details.peak) == (5 * MIB, MIB, 20 * MIB)
    assert (details.failures, details.oom_kills) == (7, 1)
    assert dict(details.disk)["8:0"] == (4096, 8192, 1, 2)


def test_a_group_that_is_gone_has_no_use(hierarchy: Hierarchy) -> None:
    assert hierarchy.usage("/kubepods/podgone") is None
    assert hierarchy.details("/kubepods/podgone").disk == ()


def test_no_limit_is_no_number(tmp_path: Path) -> None:
    trees.v1(tmp_path / "one")
    trees.write(tmp_path / "one", {"memory/free/memory.usage_in_bytes": "5\n"})
    # Those above it have one, which is not this one's.
    trees.write(tmp_path / "one", {"memory/free/memory.limit_in_bytes": "9223372036854771712\n"})
    trees.write(tmp_path / "one", {"memory/free/memory.stat": f"hierarchical_memory_limit {64 * MIB}\n"})
    usage = V1(tmp_path / "one").usage("/free")
    assert usage is not None
    assert usage.limit is None
    usage = V2(trees.v2(tmp_path / "two")).usage("/kubepods")
    assert usage is not None
    assert usage.limit is None


def test_weight_and_shares_are_the_same_wish(tmp_path: Path) -> None:
    assert V1(trees.v1(tmp_path / "1")).details(LOCATION).shares == 512
    # 512 shares become a weight of 20, which stands for 500 to 526 of them
    assert 490 < V2(trees.v2(tmp_path / "2")).details(LOCATION).shares < 530


def test_a_process_is_found_in_its_group(tmp_path: Path) -> None:
    two = V2(tmp_path)
    assert two.locate("0::/kubepods/pod1/abc\n") == "/kubepods/pod1/abc"
    assert two.locate("0::/../../outside\n") is None
    one = V1(tmp_path)
    assert one.locate("3:memory:/a/b\n2:cpu,cpuacct:/a/b\n1:name=systemd:/other\n0::/\n") == "/a/b"
    assert one.locate("0::/\n") is None


def test_controllers_that_place_a_process_apart_are_read_apart(tmp_path: Path) -> None:
    trees.write(tmp_path, {"memory/m/memory.usage_in_bytes": "7\n", "cpuacct/c/cpuacct.usage": "9\n"})
    one = V1(tmp_path)
    location = one.locate("4:memory:/m\n2:cpuacct:/c\n")
    assert location is not None
    usage = one.usage(location)
    assert usage is not None
    assert (usage.memory, usage.cpu) == (7, 9)


def test_pressure(tmp_path: Path) -> None:
    pressure = V2(trees.v2(tmp_path)).pressure(LOCATION, "cpu")
    assert pressure is not None
    assert (pressure.some.total, pressure.some.avg10, pressure.full.avg10) == (2_000_000, 1.5, 0.5)
    only_some = parse_pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")
    assert only_some is not None
    assert (only_some.some.total, only_some.full.total) == (5, 0)
    assert parse_pressure("") is None
    assert parse_pressure("nonsense here\n") is None


def test_this_host_has_one_of_them() -> None:
    usage = find_hierarchy().usage("")
    assert usage is not None
    assert usage.cpu > 0
