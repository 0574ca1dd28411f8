"""The allocator and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.network.addresses import Allocator, HostPort, Lease, LeaseFile, RangeExhausted, render


def make(cidr: str = "10.244.1.0/29") -> Allocator:
    return Allocator.over([cidr])


def test_gateway_network_and_broadcast_are_never_given_out() -> None:
    allocator = make()
    given_out = [allocator.allocate(str(number)).ips[0] for number in range(5)]
    assert given_out == [f"10.244.1.{last}" for last in (2, 3, 4, 5, 6)]
    with pytest.raises(RangeExhausted, match="all 5 addresses"):
        allocator.allocate("one more")


def test_freed_addresses_are_reused_last() -> None:
    allocator = make()
    first = allocator.allocate("a").ips
    allocator.release("a")
    assert allocator.allocate("b").ips != first


def test_same_pod_same_address() -> None:
    allocator = make()
    assert allocator.allocate("a").ips == allocator.allocate("a", name="x").ips


def test_address_of_a_former_range_is_replaced() -> None:
    allocator = make()
    allocator.adopt("a", Lease(("10.244.7.9",)))
    assert allocator.allocate("a").ips == ("10.244.1.2",)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=60))
def test_no_address_is_held_twice(steps: list[tuple[bool, int]]) -> None:
    allocator = make()
    for take, pod in steps:
        if take:
            try:
                allocator.allocate(str(pod))
            except RangeExhausted:
                assert len(allocator.leases) == 5
        else:
            allocator.release(str(pod))
        held = [ip for lease in allocator.leases.values() for ip in lease.ips]
        assert len(held) == len(set(held))
        assert all(allocator.contains(ip) for ip in held)


def test_file_gives_back_what_was_written(tmp_path: Path) -> None:
    file, allocator = LeaseFile(tmp_path / "deep" / "addresses.json"), make()
    allocator.allocate("a", name="web", host_ports=[HostPort(80, 8080, "TCP", "127.0.0.1")])
    allocator.allocate("b")
    file.write(render(allocator))
    assert file.read() == (allocator.leases, ("10.244.1.3",))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pods": {"a": {}}}', '{"pods": {"a": {"ip": 1}}}'])
def test_unreadable_file_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    assert LeaseFile(tmp_path / "f").read() == ({}, ())
    assert LeaseFile(tmp_path / "none").read() == ({}, ())


def test_host_port_of_a_container_port() -> None:
    assert HostPort.of({"hostPort": 80, "containerPort": 8080}) == HostPort(80, 8080, "TCP", "")
    assert HostPort.of({"hostPort": 80, "containerPort": 8080, "protocol": "UDP", "hostIP": "0.0.0.0"}) == HostPort(
        80, 8080, "UDP", ""
    )


def test_an_address_of_each_range() -> None:
    allocator = Allocator.over(["10.244.1.0/24", "fd00:10:244:1::/64"])
    assert allocator.gateways == ("10.244.1.1", "fd00:10:244:1::1")
    assert allocator.allocate("a").ips == ("10.244.1.2", "fd00:10:244:1::2")
    assert allocator.allocate("b").of(6) == "fd00:10:244:1::3"


def test_a_pod_from_before_the_second_range_keeps_what_it_has() -> None:
    allocator = Allocator.over(["10.244.1.0/24", "fd00:10:244:1::/64"], {"a": Lease(("10.244.1.9",))})
    assert allocator.allocate("a").ips == ("10.244.1.9",)
    assert allocator.serves(allocator.leases["a"])
    moved = Allocator.over(["10.244.1.0/24", "fd00:10:244:2::/64"], {"a": Lease(("10.244.1.9", "fd00:10:244:1::9"))})
    assert not moved.serves(moved.leases["a"])
    assert moved.allocate("a").ips == ("10.244.1.9", "fd00:10:244:2::2")


def test_files_of_hosts_with_one_family_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(
        '{"last": "10.2.3.4", "pods": {"u": {"ip": "10.2.3.4", "name": "n", "host_ports": []}}}'
    )
    assert LeaseFile(tmp_path / "f").read() == ({"u": Lease(("10.2.3.4",), "n")}, ("10.2.3.4",))


EVIL = "192.0.2.1/32 -j ACCEPT\n-A INPUT -j ACCEPT\n-A X -d 192.0.2.1"


@pytest.mark.parametrize("host_ip", [EVIL, "nonsense", "fe80::1%x -j ACCEPT", "10.0.0.1/8"])
def test_only_an_address_of_the_host_becomes_part_of_a_rule(host_ip: str) -> None:
    """The API takes any text."""
    with pytest.raises(ValueError, match="hostIP"):
        HostPort.of({"hostPort": 80, "containerPort": 8080, "hostIP": host_ip})
    with pytest.raises(ValueError, match="protocol"):
        HostPort.of({"hostPort": 80, "containerPort": 8080, "protocol": "tcp -j ACCEPT"})


def test_addresses_of_the_host_are_written_as_the_kernel_does() -> None:
    assert HostPort.of({"hostPort": 80, "containerPort": 80, "hostIP": "FD00:0::000A"}).host_ip == "fd00::a"
    assert HostPort.of({"hostPort": 80, "containerPort": 80, "hostIP": "::"}).host_ip == ""


def test_host_ports_on_disk_are_not_believed_either(tmp_path: Path) -> None:
    file = LeaseFile(tmp_path / "network" / "addresses.json")
    allocator = Allocator.over(["10.244.0.0/24"])
    allocator.allocate("a", host_ports=[HostPort(80, 8080, "TCP", EVIL)])
    file.write(render(allocator))
    assert file.read() == ({}, ())
