"""Which remembered UDP flows lead nowhere."""

from __future__ import annotations

from agents.proxy.conntrack import Flow, parse, stale
from agents.proxy.model import Endpoint, ServicePort

LISTED = """\
udp      17 27 src=10.244.1.5 dst=10.96.0.9 sport=4444 dport=53 src=10.244.2.2 dst=10.244.1.5 sport=5353 dport=4444 mark=0 use=1
udp      17 27 src=172.31.0.1 dst=172.31.0.11 sport=5 dport=30053 [UNREPLIED] src=10.244.2.2 dst=10.244.1.1 sport=5353 dport=9 mark=0 use=1
"""  # noqa: E501
DNS = ServicePort("default/dns", "", "UDP", 53, "10.96.0.9", node_port=30053, cluster=(Endpoint("10.244.2.2", 5353),))


def test_parse() -> None:
    assert parse(LISTED) == {Flow("10.96.0.9", 53, "10.244.2.2"), Flow("172.31.0.11", 30053, "10.244.2.2")}
    assert parse("garbage\n\nudp 17 src=1.2.3.4\n") == set()


def test_flows_to_living_endpoints_stay() -> None:
    assert stale(parse(LISTED), [DNS]) == []


def test_flows_to_gone_endpoints_go() -> None:
    moved = ServicePort(
        "default/dns", "", "UDP", 53, "10.96.0.9", node_port=30053, cluster=(Endpoint("10.244.1.7", 1),)
    )
    assert len(stale(parse(LISTED), [moved])) == 2
    none = ServicePort("default/dns", "", "UDP", 53, "10.96.0.9", node_port=30053)
    assert len(stale(parse(LISTED), [none])) == 2


def test_untranslated_flow_to_a_service_that_has_endpoints_now() -> None:
    early = Flow("10.96.0.9", 53, "10.96.0.9")
    assert stale([early], [DNS]) == [early]
    assert stale([early], [ServicePort("default/dns", "", "UDP", 53, "10.96.0.9")]) == []


def test_flows_of_others_stay() -> None:
    others = [
        Flow("8.8.8.8", 30053, "8.8.8.8"),
        Flow("10.96.0.9", 54, "10.244.9.9"),
        Flow("10.96.0.10", 53, "10.96.0.10"),
    ]
    assert stale(others, [DNS]) == []


def test_tcp_is_left_alone() -> None:
    web = ServicePort("default/web", "", "TCP", 53, "10.96.0.9")
    assert stale(parse(LISTED), [web]) == []
