"""Which addresses a lab gets, beside other labs and whatever else this machine uses."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from orca.lab import layout
from orca.lab.layout import LabError, plan
from orca.lab.network import numbers_within, rules


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layout, "STATE_ROOT", tmp_path)
    return tmp_path


def test_the_default_lab_has_number_0_and_others_the_lowest_free_one() -> None:
    plan("lab", 3, nat=False).save()
    plan("one", 3, nat=False).save()
    assert plan("lab", 3, nat=False).number == 0
    assert plan("two", 3, nat=False).number == 2
    assert plan("one", 3, nat=False).number == 1


def test_addresses_that_the_machine_uses_are_left_alone() -> None:
    plan("one", 3, nat=False).save()
    assert plan("two", 3, nat=False, in_use={1: "orca-one", 2: "orca-elsewhere", 3: "docker0"}).number == 4
    with pytest.raises(LabError, match="docker0 uses"):
        plan("lab", 3, nat=False, in_use={0: "docker0"})
    with pytest.raises(LabError, match="no free lab number"):
        plan("two", 3, nat=False, in_use=dict.fromkeys(range(256), "wide"))


def test_a_lab_whose_record_is_lost_gets_the_number_of_its_bridge() -> None:
    assert plan("two", 3, nat=False, in_use={7: "orca-two"}).number == 7
    assert plan("lab", 3, nat=False, in_use={0: "orca-lab"}).number == 0


@pytest.mark.parametrize(
    ("reached", "numbers"),
    [
        ("172.30.4.0/24", [4]),
        ("172.30.4.7/32", [4]),
        ("172.30.4.0/22", [4, 5, 6, 7]),
        ("172.30.0.0/16", list(range(256))),
        ("172.16.0.0/12", []),
        ("10.0.0.0/8", []),
    ],
)
def test_numbers_that_a_route_takes(reached: str, numbers: list[int]) -> None:
    assert list(numbers_within(IPv4Network(reached))) == numbers


def test_rules_of_a_lab_leave_other_networks_alone() -> None:
    text = rules(plan("two", 3, nat=False, in_use={1: "eth1"}))
    assert "172.30.2.0/24" in text
    assert "172.30.0.0/16" not in text


@pytest.mark.parametrize(("name", "size"), [("a-name-too-long", 3), ("Upper", 3), ("two", 0), ("two", 101)])
def test_impossible_labs_are_refused(name: str, size: int) -> None:
    with pytest.raises(LabError):
        plan(name, size, nat=False)


def test_another_size_than_what_is_up_is_refused() -> None:
    plan("two", 3, nat=False).save()
    with pytest.raises(LabError, match="up with 3 hosts"):
        plan("two", 4, nat=False)
