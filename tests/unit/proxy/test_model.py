"""Services + EndpointSlices → model: which services, which endpoints, which policy."""

from __future__ import annotations

from typing import Any

import pytest

from agents.proxy.model import Endpoint, ServicePort, service_key_of, service_ports
from tests.unit.proxy.objects import endpoint, endpoint_slice, service

NEAR, FAR = endpoint("10.244.1.2", "host-1"), endpoint("10.244.2.2", "host-2")
A, B = Endpoint("10.244.1.2", 8080, True), Endpoint("10.244.2.2", 8080, False)


def model(obj: dict[str, Any], *slices: dict[str, Any]) -> ServicePort:
    (port,) = service_ports(obj, slices, "host-1")
    return port


def test_cluster_ip() -> None:
    port = model(service(), endpoint_slice(FAR, NEAR))
    assert port.label == "default/web:http"
    assert (port.cluster_ip, port.port, port.protocol) == ("10.96.0.50", 80, "TCP")
    assert port.cluster == (A, B)
    assert port.local == ()
    assert not port.externally_reachable


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"clusterIP": "", "clusterIPs": []},
        {"type": "ExternalName", "externalName": "example.com"},
    ],
)
def test_not_served(spec: dict[str, Any]) -> None:
    assert service_ports(service(**spec), [endpoint_slice(NEAR)], "host-1") == ()


@pytest.mark.parametrize("label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])
def test_left_to_another_proxy(label: str) -> None:
    other = service()
    other["metadata"]["labels"] = {label: "cilium"}
    assert service_ports(other, [], "host-1") == ()
    foreign = endpoint_slice(NEAR)
    foreign["metadata"]["labels"][label] = ""
    assert model(service(), foreign).cluster == ()


def test_ports_match_by_name_and_protocol() -> None:
    ports = [
        {"name": "a", "port": 53, "protocol": "TCP"},
        {"name": "b", "port": 53, "protocol": "UDP"},
        {"name": "c", "port": 99, "protocol": "SCTP"},
    ]
    target = [{"name": "a", "port": 1053, "protocol": "TCP"}, {"name": "b", "port": 2053, "protocol": "UDP"}]
    a, b, c = service_ports(service(ports=ports), [endpoint_slice(NEAR, ports=target)], "host-1")
    assert a.cluster == (Endpoint("10.244.1.2", 1053, True),)
    assert b.cluster == (Endpoint("10.244.1.2", 2053, True),)
    assert c.cluster == ()
    assert not c.anywhere


def test_unnamed_port() -> None:
    port = model(service(ports=[{"port": 80}]), endpoint_slice(NEAR, ports=[{"name": "", "port": 8080}]))
    assert port.label == "default/web"
    assert port.cluster == (A,)


def test_one_named_port_with_different_numbers_in_two_slices() -> None:
    other = endpoint_slice(FAR, name="web-2", ports=[{"name": "http", "port": 9090, "protocol": "TCP"}])
    assert model(service(), endpoint_slice(NEAR), other).cluster == (A, Endpoint("10.244.2.2", 9090))


def test_address_in_two_slices_counts_once_and_ready_wins() -> None:
    leaving = endpoint("10.244.1.2", ready=False, serving=True, terminating=True)
    port = model(service(), endpoint_slice(leaving), endpoint_slice(NEAR, name="web-2"))
    assert port.cluster == (A,)


@pytest.mark.parametrize(
    ("conditions", "used"),
    [
        ({}, True),
        ({"ready": True}, True),
        ({"ready": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, True),
        ({"ready": False, "serving": False, "terminating": True}, False),
        ({"ready": False, "serving": True, "terminating": False}, False),
    ],
)
def test_conditions_of_the_only_endpoint(conditions: dict[str, bool], used: bool) -> None:
    only = {"addresses": ["10.244.1.2"], "nodeName": "host-1", "conditions": conditions}
    assert bool(model(service(), endpoint_slice(only)).cluster) is used


def test_terminating_ones_only_while_nothing_is_ready() -> None:
    leaving = endpoint("10.244.1.2", ready=False, serving=True, terminating=True)
    assert model(service(), endpoint_slice(leaving, FAR)).cluster == (B,)
    gone = endpoint("10.244.2.2", "host-2", ready=False)
    assert model(service(), endpoint_slice(leaving, gone)).cluster == (A,)


def test_other_address_families_are_not_mixed_in() -> None:
    assert model(service(), endpoint_slice(endpoint("fd00::2"), kind="IPv6"), endpoint_slice(NEAR)).cluster == (A,)


def test_each_family_has_ports_of_its_own() -> None:
    both = service(
        clusterIP="10.96.0.50",
        clusterIPs=["10.96.0.50", "fd00:10:96::0:5"],
        type="LoadBalancer",
        ports=[{"name": "http", "port": 80, "nodePort": 30080}],
        externalIPs=["198.51.100.1", "2001:DB8::0001"],
        loadBalancerSourceRanges=["192.0.2.0/24", "2001:db8:1::/48"],
        status={"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"ip": "2001:db8::7"}]}},
    )
    slices = [endpoint_slice(NEAR), endpoint_slice(endpoint("fd00:10:244:1::2"), name="web-6", kind="IPv6")]
    four, six = service_ports(both, slices, "host-1")
    assert (four.family, four.cluster_ip, four.cluster) == (4, "10.96.0.50", (A,))
    assert (four.external_ips, four.load_balancer_ips) == (("198.51.100.1",), ("192.0.2.7",))
    assert four.source_ranges == ("192.0.2.0/24",)
    assert (six.family, six.cluster_ip) == (6, "fd00:10:96::5")
    assert six.cluster == (Endpoint("fd00:10:244:1::2", 8080, True),)
    assert (six.external_ips, six.load_balancer_ips) == (("2001:db8::1",), ("2001:db8::7",))
    assert six.source_ranges == ("2001:db8:1::/48",)
    assert str(six.cluster[0]) == "[fd00:10:244:1::2]:8080"
    assert six.node_port == four.node_port == 30080


def test_service_of_ipv6_only() -> None:
    obj = service(clusterIP="fd00::1", clusterIPs=["fd00::1"])
    port = model(obj, endpoint_slice(endpoint("fd00::2"), kind="IPv6"), endpoint_slice(NEAR))
    assert port.cluster == (Endpoint("fd00::2", 8080, True),)


def hinted(ip: str, node: str, *, zones: tuple[str, ...] = (), nodes: tuple[str, ...] = (), **conditions: bool) -> Any:
    hints = {"forZones": [{"name": zone} for zone in zones], "forNodes": [{"name": name} for name in nodes]}
    return {**endpoint(ip, node, **conditions), "hints": {key: value for key, value in hints.items() if value}}


def reached(*endpoints: dict[str, Any], zone: str = "z1") -> list[str]:
    (port,) = service_ports(service(), [endpoint_slice(*endpoints)], "host-1", zone)
    assert port.anywhere or not port.cluster
    return [each.ip for each in port.cluster]


def test_hints_keep_traffic_in_the_zone() -> None:
    one, two = hinted("10.0.0.1", "host-1", zones=("z1",)), hinted("10.0.0.2", "host-2", zones=("z2",))
    assert reached(one, two) == ["10.0.0.1"]
    assert reached(one, two, zone="z2") == ["10.0.0.2"]
    assert reached(one, two, zone="z3") == ["10.0.0.1", "10.0.0.2"], "nobody is hinted for this zone"
    assert reached(one, two, zone="") == ["10.0.0.1", "10.0.0.2"], "this node is in no zone"
    assert reached(one, endpoint("10.0.0.2", "host-2")) == ["10.0.0.1", "10.0.0.2"], "one has no hint"


def test_hints_of_endpoints_that_are_not_ready_do_not_count() -> None:
    one, two = hinted("10.0.0.1", "host-1", zones=("z1",)), hinted("10.0.0.2", "host-2", zones=("z2",))
    unready = endpoint("10.0.0.3", "host-3", ready=False)
    assert reached(one, two, unready) == ["10.0.0.1"]
    leaving = hinted("10.0.0.1", "host-1", zones=("z1",), ready=False, serving=True, terminating=True)
    assert reached(leaving, two) == ["10.0.0.2"], "a ready one elsewhere goes before one that ends here"
    far = hinted("10.0.0.2", "host-2", zones=("z2",), ready=False, serving=True, terminating=True)
    assert reached(leaving, far) == ["10.0.0.1", "10.0.0.2"], "hints mean nothing once all are ending"


def test_hints_for_the_node_go_before_those_for_the_zone() -> None:
    here = hinted("10.0.0.1", "host-1", zones=("z1",), nodes=("host-1",))
    near = hinted("10.0.0.2", "host-2", zones=("z1",), nodes=("host-2",))
    far = hinted("10.0.0.3", "host-3", zones=("z2",), nodes=("host-3",))
    assert reached(here, near, far) == ["10.0.0.1"]
    assert reached(near, far) == ["10.0.0.2"], "none for the node: then the zone"
    without = hinted("10.0.0.4", "host-1", zones=("z1",))
    assert reached(here, near, far, without) == ["10.0.0.1", "10.0.0.2", "10.0.0.4"], "one has no hint for a node"


def test_policy_local_does_not_care_about_hints() -> None:
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    one = hinted("10.244.1.2", "host-1", zones=("z2",))
    two = hinted("10.244.2.2", "host-2", zones=("z1",))
    obj = service(ports=ports, type="NodePort", externalTrafficPolicy="Local")
    (port,) = service_ports(obj, [endpoint_slice(one, two)], "host-1", "z1")
    assert (port.internal, port.external) == ((B,), (A,))


def test_endpoint_that_names_no_node_may_be_anywhere() -> None:
    port = model(service(), endpoint_slice(endpoint("10.0.0.1", "")))
    (only,) = port.cluster
    assert only.unplaced
    assert not only.local
    assert only.may_be_here


def test_node_port_and_policy_local() -> None:
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    spec = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    port = model(service(ports=ports, **spec), endpoint_slice(NEAR, FAR))
    assert port.node_port == 30080
    assert port.external_local
    assert port.external == (A,)
    assert port.internal == (A, B)


def test_policy_local_falls_back_to_a_local_terminating_endpoint() -> None:
    leaving = endpoint("10.244.1.2", ready=False, serving=True, terminating=True)
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    port = model(service(ports=ports, type="NodePort", externalTrafficPolicy="Local"), endpoint_slice(leaving, FAR))
    assert port.external == (A,)
    assert port.internal == (B,)


def test_udp_flows_stay_with_whoever_serves() -> None:
    leaving = endpoint("10.244.1.3", ready=False, serving=True, terminating=True)
    broken = endpoint("10.244.1.4", ready=False, serving=False)
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}]
    slices = endpoint_slice(NEAR, leaving, broken, FAR, ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}])
    port = model(service(ports=ports, internalTrafficPolicy="Local"), slices)
    assert [each.ip for each in port.internal] == ["10.244.1.2"]
    assert sorted(port.serving) == ["10.244.1.2", "10.244.1.3", "10.244.2.2"]
    assert model(service(), endpoint_slice(NEAR)).serving == (), "TCP needs none of it"


def test_internal_policy_local_without_local_endpoint() -> None:
    port = model(service(internalTrafficPolicy="Local"), endpoint_slice(FAR))
    assert port.internal == ()
    assert port.anywhere
    assert port.cluster == (), "nothing else may use them"


def test_load_balancer() -> None:
    status = {
        "loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}, {"hostname": "x"}]}
    }
    port = model(
        service(type="LoadBalancer", status=status, loadBalancerSourceRanges=[" 10.0.0.1/8", "nonsense"],
                externalIPs=["198.51.100.1", "fd00::9"], sessionAffinity="ClientIP")
    )  # fmt: skip
    assert port.load_balancer_ips == ("192.0.2.7",)
    assert port.source_ranges == ("10.0.0.0/8",)
    assert port.external_ips == ("198.51.100.1",)
    assert port.affinity_seconds == 10800


def test_addresses_of_a_former_load_balancer_are_not_used() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    assert not model(service(type="ClusterIP", ports=ports, status=status)).externally_reachable


def test_slice_names_its_service() -> None:
    assert service_key_of(endpoint_slice()) == "default/web"
    assert service_key_of({"metadata": {"name": "x", "namespace": "default"}}) == ""


def test_zones_of_addresses_are_any_text_and_reach_no_rule() -> None:
    six = {"clusterIP": "fd00::50", "clusterIPs": ["fd00::50"], "type": "LoadBalancer"}
    evil = "fe80::1% -j ACCEPT"
    port = model(service(**six, loadBalancerSourceRanges=[f"{evil}/128", "fd00:1::/64"], externalIPs=[evil]))
    assert (port.source_ranges, port.external_ips) == (("fd00:1::/64",), ())
