"""The allocator and its file."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.network.addresses import Allocator, HostPort, Lease, LeaseFile, RangeExhausted, render


def make(cidr: str = "10.244.1.0/29") -> Allocator:
    return Allocator(ipaddress.IPv4Network(cidr))


def test_gateway_network_and_broadcast_are_never_given_out() -> None:
    allocator = make()
    given_out = [allocator.allocate(str(number)).ip for number in range(5)]
    assert given_out == [f"10.244.1.{last}" for last in (2, 3, 4, 5, 6)]
    with pytest.raises(RangeExhausted, match="all 5 addresses"):
        allocator.allocate("one more")


def test_freed_addresses_are_reused_last() -> None:
    allocator = make()
    first = allocator.allocate("a").ip
    allocator.release("a")
    assert allocator.allocate("b").ip != first


def test_same_pod_same_address() -> None:
    allocator = make()
    assert allocator.allocate("a").ip == allocator.allocate("a", name="x").ip


def test_address_of_a_former_range_is_replaced() -> None:
    allocator = make()
    allocator.adopt("a", Lease("10.244.7.9"))
    assert allocator.allocate("a").ip == "10.244.1.2"


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
        held = [lease.ip for lease in allocator.leases.values()]
        assert len(held) == len(set(held))
        assert all(allocator.contains(ip) for ip in held)


def test_file_gives_back_what_was_written(tmp_path: Path) -> None:
    file, allocator = LeaseFile(tmp_path / "deep" / "addresses.json"), make()
    allocator.allocate("a", name="web", host_ports=[HostPort(80, 8080, "TCP", "127.0.0.1")])
    allocator.allocate("b")
    file.write(render(allocator))
    assert file.read() == (allocator.leases, "10.244.1.3")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pods": {"a": {}}}', '{"pods": {"a": {"ip": 1}}}'])
def test_unreadable_file_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    assert LeaseFile(tmp_path / "f").read() == ({}, "")
    assert LeaseFile(tmp_path / "none").read() == ({}, "")


def test_host_port_of_a_container_port() -> None:
    assert HostPort.of({"hostPort": 80, "containerPort": 8080}) == HostPort(80, 8080, "TCP", "")
    assert HostPort.of({"hostPort": 80, "containerPort": 8080, "protocol": "UDP", "hostIP": "0.0.0.0"}) == HostPort(
        80, 8080, "UDP", ""
    )
