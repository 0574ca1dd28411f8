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
        {"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]},
    ],
)
def test_not_served(spec: dict[str, Any]) -> None:
    assert service_ports(service(**spec), [endpoint_slice(NEAR)], "host-1") == ()


def test_left_to_another_proxy() -> None:
    other = service()
    other["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "cilium"}
    assert service_ports(other, [], "host-1") == ()


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
