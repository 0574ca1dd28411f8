"""Which cpus are taken, and who has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.resources.cpus import Cpu, CpuSet, NotEnoughCpus, Topology, format_cpus, parse_cpus, read_topology, take
from agents.resources.handout import (
    FILE,
    CpuHandout,
    CpusRefused,
    CpuStateError,
    Policy,
    other_policy,
    reserved_cpus,
    whole_cpus,
)
from orca.api.objects import Obj
from tests.unit.resources.pods import pod, same, sizes

TWO_SOCKETS = Topology(tuple(Cpu(number, number // 2, number // 8, number // 8) for number in range(16)))
"""Two sockets of four cores of two threads."""
PLAIN = Topology(tuple(Cpu(number, number, 0, 0) for number in range(4)))


@pytest.mark.parametrize(
    ("text", "cpus"), [("", set()), ("0", {0}), ("0-3,8", {0, 1, 2, 3, 8}), ("5,1-2", {1, 2, 5}), ("7-7", {7})]
)
def test_sets_as_the_kernel_writes_them(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text) == cpus
    assert parse_cpus(format_cpus(cpus)) == cpus


def test_a_set_is_written_as_short_as_can_be() -> None:
    assert format_cpus({3, 0, 1, 2, 8, 10, 11}) == "0-3,8,10-11"
    with pytest.raises(ValueError):
        parse_cpus("3-1")


@pytest.mark.parametrize(
    ("free", "count", "expected"),
    [
        ("0-15", 8, "0-7"),
        ("0-15", 16, "0-15"),
        ("0-15", 2, "0-1"),
        ("1-15", 2, "2-3"),  # a whole core, in the fuller socket
        ("1-15", 1, "1"),  # the rest of a core that is broken into
        ("1-15", 8, "8-15"),
        ("0-15", 3, "0-2"),
        ("0,2,4,9-15", 4, "10-13"),
        ("0,2,4,8-15", 3, "8-10"),  # whole cores before rests
    ],
)
def test_cpus_are_taken_close_together(free: str, count: int, expected: str) -> None:
    assert format_cpus(take(TWO_SOCKETS, parse_cpus(free), count)) == expected


def test_no_more_than_there_are() -> None:
    with pytest.raises(NotEnoughCpus):
        take(PLAIN, {0, 1}, 3)


def test_the_topology_is_read_from_sysfs(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "online").write_text("0-3\n")
    (tmp_path / "node" / "node1").mkdir(parents=True)
    (tmp_path / "node" / "node1" / "cpulist").write_text("2-3\n")
    for cpu, siblings, socket in ((0, "0-1", 0), (1, "0-1", 0), (2, "2-3", 1), (3, "2-3", 1)):
        directory = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(siblings)
        (directory / "physical_package_id").write_text(str(socket))
    assert read_topology(tmp_path).cpus == (Cpu(0, 0, 0, 0), Cpu(1, 0, 0, 0), Cpu(2, 2, 1, 1), Cpu(3, 2, 1, 1))
    assert read_topology().all, "this host has cpus"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (pod(same(cpu="2", memory="1Gi")), 2),
        (pod(same(cpu="2500m", memory="1Gi")), 0),
        (pod(same(cpu="2")), 0),
        (pod(sizes({"cpu": "1", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi"})), 0),
        (pod(same(cpu="1", memory="1Gi"), resources=same(cpu="2", memory="2Gi")), 0),
    ],
)
def test_who_is_entitled_to_cpus_alone(subject: Obj, expected: int) -> None:
    assert whole_cpus(subject, subject["spec"]["containers"][0]) == expected


def handout(directory: Path, topology: Topology = PLAIN, reserved: str = "0", **options: bool) -> CpuHandout:
    return CpuHandout(Policy(topology, parse_cpus(reserved), **options), directory)


async def test_cpus_go_from_the_shared_to_one_and_back(tmp_path: Path) -> None:
    cpus = handout(tmp_path)
    sure, rest = pod(same(cpu="2", memory="1Gi"), uid="sure"), pod({}, uid="rest")
    assert not cpus.allocate(rest)
    assert cpus.cpus_of(rest) == {"a": "0-3"}
    assert cpus.allocate(sure)
    assert not cpus.allocate(sure), "what it has stays"
    assert cpus.cpus_of(sure) == {"a": "1-2"}
    assert cpus.cpus_of(rest) == {"a": "0,3"}
    assert cpus.exclusive("sure") == {"a"}
    with pytest.raises(CpusRefused) as refused:
        cpus.allocate(pod(same(cpu="2", memory="1Gi"), uid="more"))
    assert refused.value.reason == "UnexpectedAdmissionError"
    assert str(refused.value) == (
        "Allocate failed due to not enough cpus available to satisfy request: requested=2, available=1, "
        "which is unexpected"
    )
    await cpus.save()
    found = json.loads((tmp_path / FILE).read_text())
    assert found["policyName"] == "static"
    assert found["defaultCpuSet"] == "0,3"
    assert found["entries"] == {"sure": {"a": "1-2"}}
    again = handout(tmp_path)
    assert again.cpus_of(sure) == {"a": "1-2"}
    assert again.retain({"rest"})
    assert again.cpus_of(rest) == {"a": "0-3"}
    assert cpus.release("sure")
    assert not cpus.release("sure")


def test_what_init_containers_had_serves_again_and_what_sidecars_have_does_not(tmp_path: Path) -> None:
    one, two = same(cpu="1", memory="1Mi"), same(cpu="2", memory="1Mi")
    cpus = handout(tmp_path, TWO_SOCKETS)
    assert cpus.allocate(pod(two, one, init=((two, False), (one, True))))
    had = cpus.cpus_of(pod(two, one, init=((two, False), (one, True))))
    sets: dict[str, CpuSet] = {name: parse_cpus(text) for name, text in had.items()}
    assert sets["i1"] <= sets["i0"], "the sidecar starts when the init container has ended"
    assert not sets["i1"] & (sets["a"] | sets["b"])
    assert not sets["a"] & sets["b"]
    assert len(sets["i0"] | sets["a"] | sets["b"] | sets["i1"]) == 4


def test_options(tmp_path: Path) -> None:
    cpus = handout(tmp_path, TWO_SOCKETS, "0-1", whole_cores=True, strict=True)
    assert cpus.cpus_of(pod({})) == {"a": "2-15"}
    with pytest.raises(CpusRefused, match="SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2") as no:
        cpus.allocate(pod(same(cpu="3", memory="1Gi")))
    assert no.value.reason == "SMTAlignmentError"
    cpus.allocate(pod(same(cpu="12", memory="1Gi"), uid="most"))
    with pytest.raises(CpusRefused, match="available physical CPUs = 2, requested CPUs = 4, CPUs per core = 2"):
        cpus.allocate(pod(same(cpu="4", memory="1Gi"), uid="more"))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state | {"policyName": "none"},
        lambda state: state | {"defaultCpuSet": "0-2"},
        lambda state: {},
        lambda state: state | {"entries": {"x": {"a": "9"}}},
    ],
)
async def test_a_state_that_does_not_fit_is_refused(tmp_path: Path, change: object) -> None:
    await handout(tmp_path).save()
    assert other_policy(tmp_path) == "static"
    state = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(change(state)))  # type: ignore[operator]
    with pytest.raises(CpuStateError, match="delete the CPU manager checkpoint file"):
        handout(tmp_path)


async def test_a_host_with_other_cpus_than_before_is_refused(tmp_path: Path) -> None:
    await handout(tmp_path, TWO_SOCKETS).save()
    with pytest.raises(
        CpuStateError, match='current set of available CPUs "0-3" doesn\'t match with CPUs in state "0-15"'
    ):
        handout(tmp_path)


def test_reserved_cpus() -> None:
    assert reserved_cpus(PLAIN, parse_cpus("1,3"), 0) == {1, 3}
    assert reserved_cpus(PLAIN, frozenset(), 1001) == {0, 1}
    with pytest.raises(CpuStateError, match="greater than zero"):
        reserved_cpus(PLAIN, frozenset(), 0)
    with pytest.raises(CpuStateError, match="9 are not online"):
        reserved_cpus(PLAIN, parse_cpus("0,9"), 0)
    with pytest.raises(CpuStateError, match="unable to reserve"):
        reserved_cpus(PLAIN, frozenset(), 9000)
