"""Which remembered UDP flows lead nowhere."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agents.proxy.conntrack import Flow, dead, missed, read_entry, stale, unanswered
from agents.proxy.model import Endpoint, ServicePort

FLOWS = [Flow("10.96.0.9", 53, "10.244.2.2"), Flow("172.31.0.11", 30053, "10.244.2.2")]
DNS = ServicePort("default/dns", "", "UDP", 53, "10.96.0.9", node_port=30053, cluster=(Endpoint("10.244.2.2", 5353),))
HOST = "172.31.0.11"


def is_here(address: str) -> bool:
    return address == HOST


def tlv(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def entry(protocol: int) -> bytes:
    def side(kind: int, source: str, destination: str, ports: tuple[int, int]) -> bytes:
        addresses = tlv(0x8001, tlv(1, socket.inet_aton(source)) + tlv(2, socket.inet_aton(destination)))
        numbers = tlv(2, struct.pack(">H", ports[0])) + tlv(3, struct.pack(">H", ports[1]))
        return tlv(0x8000 | kind, addresses + tlv(0x8002, tlv(1, bytes([protocol])) + numbers))

    return side(1, "10.244.1.5", "10.96.0.9", (4444, 53)) + side(2, "10.244.2.2", "10.244.1.5", (5353, 4444))


def tcp_state(number: int) -> bytes:
    return tlv(0x8004, tlv(0x8001, tlv(1, bytes([number]))))


def test_entries_of_the_kernel() -> None:
    found = read_entry(entry(17))
    assert found
    assert found[0] == FLOWS[0]
    assert found[1] == entry(17)[: len(found[1])], "named by the question's side"
    for state, is_open in ((1, False), (2, True), (3, True), (4, False), (5, False)):
        tcp = read_entry(entry(6) + tcp_state(state))
        assert tcp
        assert tcp[0] == Flow("10.96.0.9", 53, "10.244.2.2", 6, is_open, asked=state == 1)
    assert read_entry(entry(132)) is None


def test_what_a_server_has_not_answered_is_forgotten_and_nothing_else() -> None:
    def tcp(server: str, **more: bool) -> Flow:
        return Flow("10.96.0.9", 53, server, 6, **more)

    asked = tcp("10.244.2.2", asked=True)
    others = [tcp("10.244.2.2", open=True), tcp("10.244.2.2"), tcp("10.244.2.3", asked=True), FLOWS[0]]
    direct = Flow("10.244.2.2", 80, "10.244.2.2", 6, asked=True)
    assert unanswered([asked, direct, *others], {"10.244.2.2"}) == [asked]


def test_entries_of_ipv6() -> None:
    def side(kind: int, source: str, destination: str) -> bytes:
        packed = [socket.inet_pton(socket.AF_INET6, ip) for ip in (source, destination)]
        numbers = tlv(1, bytes([17])) + tlv(2, struct.pack(">H", 4444)) + tlv(3, struct.pack(">H", 53))
        return tlv(0x8000 | kind, tlv(0x8001, tlv(3, packed[0]) + tlv(4, packed[1])) + tlv(0x8002, numbers))

    found = read_entry(side(1, "fd00::5", "fd00:10:96::9") + side(2, "fd00::2:2", "fd00::5"))
    assert found
    assert found[0] == Flow("fd00:10:96::9", 53, "fd00::2:2")
    six = ServicePort("default/dns", "", "UDP", 53, "fd00:10:96::9", cluster=(Endpoint("fd00::2:3", 5353),))
    assert stale([found[0]], [six, DNS], is_here) == [found[0]]


@given(st.binary(max_size=300))
def test_garbage_is_no_entry(data: bytes) -> None:
    read_entry(data)


def test_flows_to_living_endpoints_stay() -> None:
    assert stale(FLOWS, [DNS], is_here) == []


def test_flows_to_gone_endpoints_go() -> None:
    moved = ServicePort(
        "default/dns", "", "UDP", 53, "10.96.0.9", node_port=30053, cluster=(Endpoint("10.244.1.7", 1),)
    )
    assert len(stale(FLOWS, [moved], is_here)) == 2
    none = ServicePort("default/dns", "", "UDP", 53, "10.96.0.9", node_port=30053)
    assert len(stale(FLOWS, [none], is_here)) == 2


def test_untranslated_flow_to_a_service_that_has_endpoints_now() -> None:
    early = Flow("10.96.0.9", 53, "10.96.0.9")
    assert stale([early], [DNS], is_here) == [early]
    assert stale([early], [ServicePort("default/dns", "", "UDP", 53, "10.96.0.9")], is_here) == []


def test_flows_go_on_as_long_as_their_endpoint_serves() -> None:
    """Whatever takes it out of the rules of this host: its end, a hint, a policy."""
    ending = replace(DNS, cluster=(Endpoint("10.244.1.7", 5353),), serving=("10.244.1.7", "10.244.2.2"))
    assert stale(FLOWS, [ending], is_here) == []
    assert stale(FLOWS, [replace(ending, serving=("10.244.1.7",))], is_here) == sorted(FLOWS)


def test_what_asked_a_node_port_before_it_was_one() -> None:
    early, elsewhere = Flow(HOST, 30053, HOST), Flow("192.0.2.1", 30053, "192.0.2.1")
    assert stale([early, elsewhere], [DNS], is_here) == [early]


def test_node_ports_of_both_families_are_two() -> None:
    six = replace(DNS, cluster_ip="fd00:10:96::9", cluster=(Endpoint("fd00::2:2", 5353),))
    flows = [*FLOWS, Flow("fd00::b", 30053, "fd00::2:2")]
    assert stale(flows, [DNS, six], is_here) == []
    assert stale(flows, [six, DNS], is_here) == []


def test_connections_that_no_rule_has_seen_begin_anew() -> None:
    def tcp(destination: str, server: str = "", port: int = 80, **more: bool) -> Flow:
        return Flow(destination, port, server or destination, 6, **more)

    web = ServicePort("default/web", "", "TCP", 80, "10.96.0.9", node_port=30080, cluster=(Endpoint("10.244.2.2", 80),))
    passed = [tcp("10.96.0.9", asked=True), tcp(HOST, port=30080, asked=True)]
    others = [
        tcp("10.96.0.9"),
        tcp("10.96.0.9", open=True),
        tcp("10.96.0.9", "10.244.2.2", asked=True),
        tcp("10.96.0.9", port=81, asked=True),
        tcp("192.0.2.1", port=30080, asked=True),
        Flow("10.96.0.9", 80, "10.96.0.9"),
    ]
    assert missed([*passed, *others], [web, DNS], is_here) == sorted(passed)
    own = replace(web, external_ips=(HOST,), cluster=(Endpoint(HOST, 8080),))
    assert missed([tcp(HOST, asked=True)], [own], is_here) == [], "the host itself is the endpoint"


def test_flows_of_others_stay() -> None:
    others = [
        Flow("8.8.8.8", 30053, "8.8.8.8"),
        Flow("10.96.0.9", 54, "10.244.9.9"),
        Flow("10.96.0.10", 53, "10.96.0.10"),
    ]
    assert stale(others, [DNS], is_here) == []


def test_udp_rules_do_not_touch_tcp() -> None:
    web = ServicePort("default/web", "", "TCP", 53, "10.96.0.9")
    assert stale(FLOWS, [web], is_here) == []
    assert stale([Flow("10.96.0.9", 53, "10.244.9.9", 6)], [DNS], is_here) == []


def test_only_unused_translated_tcp_flows_to_gone_pods_are_dead() -> None:
    half_closed = Flow("10.96.0.9", 80, "10.244.2.2", 6)
    others = [
        Flow("10.96.0.9", 80, "10.244.2.2", 6, True),
        Flow("10.96.0.9", 80, "10.244.2.3", 6),
        Flow("10.244.2.2", 80, "10.244.2.2", 6),
        Flow("10.96.0.9", 80, "10.244.2.2", 17),
    ]
    assert dead([half_closed, *others], {"10.244.2.2"}) == [half_closed]
