"""Which addresses a lab gets, beside other labs and whatever else this machine uses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from orca.lab import layout
from orca.lab.layout import Lab, LabError, plan
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


def test_hosts_take_the_segments_in_turn() -> None:
    lab = Lab("far", 7, 4, segments=2, dual_stack=True)
    assert [host.address for host in lab.hosts] == ["172.30.7.10", "172.30.7.138", "172.30.7.11", "172.30.7.139"]
    assert [host.gateway for host in lab.hosts[:2]] == ["172.30.7.1", "172.30.7.129"]
    assert [host.address6 for host in lab.hosts[:2]] == ["fd30:7:1::a", "fd30:7:2::b"]
    assert lab.bridges == ("orca-far", "orca-s1.7")
    assert Lab("one", 7, 1).bridges == ("orca-one",)
    text = rules(lab)
    for one, other in ("orca-far", "orca-s1.7"), ("orca-s1.7", "orca-far"):
        for foreign in ("ip saddr != 172.30.7.0/24", "ip daddr != 172.30.7.0/24", "meta nfproto ipv6"):
            assert f'iifname "{one}" oifname {{ "{other}" }} {foreign} drop' in text
    assert 'iifname { "orca-far", "orca-s1.7" } oifname != { "orca-far", "orca-s1.7" } drop' in text


@pytest.mark.parametrize("segments", [0, layout.MAX_SEGMENTS + 1])
def test_segments_that_cannot_be(segments: int) -> None:
    with pytest.raises(LabError, match="1 to 8 segments"):
        plan("far", 3, nat=False, segments=segments)


@pytest.mark.parametrize("segments", range(1, layout.MAX_SEGMENTS + 1))
def test_every_host_has_an_address_of_its_segment(segments: int) -> None:
    lab = Lab("far", 7, layout.MAX_HOSTS, segments=segments)
    addresses = {host.address for host in lab.hosts}
    assert len(addresses) == layout.MAX_HOSTS
    for host in lab.hosts:
        assert IPv4Address(host.address) in list(lab.segment_range(host.segment).hosts())[1:]
