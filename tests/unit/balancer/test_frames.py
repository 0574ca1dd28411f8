"""ARP and neighbour discovery as bytes; the wanted bytes were written down from the RFCs."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

import pytest

from agents.balancer.frames import Claim, Question, announcement, answer, neighbour_filter, probe, read, solicited_node
from agents.balancer.interfaces import interface_for

OWN, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
BROADCAST = b"\xff" * 6


def arp(to: bytes, source: bytes, operation: int, sender: str, target: str, target_mac: bytes = bytes(6)) -> bytes:
    def packed(text: str) -> bytes:
        return bytes(map(int, text.split(".")))

    head = to + source + bytes.fromhex("0806 0001 0800 06 04") + operation.to_bytes(2)
    return (head + source + packed(sender) + target_mac + packed(target)).ljust(60, b"\0")


def test_a_question_is_answered_to_whoever_asked() -> None:
    asked = read(arp(BROADCAST, OTHER, 1, "192.0.2.1", "192.0.2.10"))
    assert asked == (Claim("192.0.2.1", OTHER), Question("192.0.2.10", OTHER, "192.0.2.1"))
    assert answer(Question("192.0.2.10", OTHER, "192.0.2.1"), OWN) == arp(
        OTHER, OWN, 2, "192.0.2.10", "192.0.2.1", OTHER
    )


def test_a_probe_claims_nothing_and_is_answered() -> None:
    made = probe("192.0.2.10", OWN)
    assert made == arp(BROADCAST, OWN, 1, "0.0.0.0", "192.0.2.10")
    assert read(made) == (Question("192.0.2.10", OWN),)


def test_gratuitous_arp_claims_and_asks_nobody() -> None:
    request, reply = announcement("192.0.2.10", OWN)
    assert read(request) == read(reply) == (Claim("192.0.2.10", OWN),)
    assert request[:6] == reply[:6] == BROADCAST


@pytest.mark.parametrize("cut", [0, 13, 20, 41])
def test_what_is_broken_says_nothing(cut: int) -> None:
    assert read(arp(BROADCAST, OTHER, 1, "192.0.2.1", "192.0.2.10")[:cut]) == ()
    assert read(probe("2001:db8::10", OWN)[:cut]) == ()


def _checksum_is_right(frame: bytes) -> bool:
    packet = frame[14:]
    body = packet[40:]
    data = packet[8:40] + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def test_neighbours_are_answered_and_told() -> None:
    asked = probe("2001:db8::10", OTHER)
    assert asked[:6] == bytes.fromhex("3333ff000010")
    assert read(asked) == (Question("2001:db8::10", OTHER),)
    for question, to, flags in (
        (Question("2001:db8::10", OTHER, "2001:db8::1"), OTHER, 0x60),
        (Question("2001:db8::10", OTHER), bytes.fromhex("333300000001"), 0x20),
    ):
        frame = answer(question, OWN)
        assert frame[:6] == to
        assert frame[14 + 44] == flags
        assert read(frame) == (Claim("2001:db8::10", OWN),)
        assert _checksum_is_right(frame)
    (told,) = announcement("2001:db8::10", OWN)
    assert read(told) == (Claim("2001:db8::10", OWN),)
    assert all(_checksum_is_right(frame) for frame in (asked, told))


def test_a_neighbour_from_beyond_a_router_is_not_believed() -> None:
    frame = bytearray(answer(Question("2001:db8::10", OTHER, "2001:db8::1"), OWN))
    frame[14 + 7] = 254
    assert read(bytes(frame)) == ()


def _passes(frame: bytes) -> bool:
    """The filter, run as the kernel does."""
    program, position, accumulator = neighbour_filter(), 0, 0
    while True:
        code, if_true, if_false, operand = program[position]
        position += 1
        if code == 0x30:
            if operand >= len(frame):
                return False
            accumulator = frame[operand]
        elif code == 0x15:
            position += if_true if accumulator == operand else if_false
        else:
            return operand > 0


def test_the_filter_lets_neighbours_through_and_nothing_else() -> None:
    assert _passes(probe("2001:db8::10", OWN))
    assert _passes(announcement("2001:db8::10", OWN)[0])
    other = bytearray(probe("2001:db8::10", OWN))
    other[14 + 6] = 6
    assert not _passes(bytes(other))
    echo = bytearray(probe("2001:db8::10", OWN))
    echo[14 + 40] = 128
    assert not _passes(bytes(echo))


def test_the_group_of_an_address() -> None:
    assert solicited_node(IPv6Address("2001:db8::ab12:3456")) == IPv6Address("ff02::1:ff12:3456")


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010000C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth1\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
orca0\t000BF40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth2\t007100CB\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ROUTES6 = """20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db8000000000000000000000001 00000400 00000001 00000000 00000003     eth0
20010db8000000000000000000000005 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001     eth9
"""  # noqa: E501


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("192.0.2.10", "eth0"),
        ("198.51.100.9", "eth1"),
        ("203.0.113.9", "eth0"),
        ("10.244.11.3", "eth0"),
        ("2001:db8::10", "eth1"),
        ("2001:db8:1::10", "eth0"),
    ],
)
def test_an_address_is_announced_where_the_host_reaches_it(address: str, interface: str) -> None:
    assert interface_for(address, ROUTES, ROUTES6) == interface


def test_without_a_route_there_is_no_place() -> None:
    assert interface_for("192.0.2.10", ROUTES.splitlines()[0], "") == ""
