"""What is wrong between Services and the holders of their addresses and node ports, and what is done about it."""

import ipaddress
from datetime import UTC, datetime
from typing import Any

from orca.api.builtin import IPADDRESSES
from orca.api.objects import Obj
from orca.server.holdings import FAMILY, MANAGED_BY, NODE_PORTS, OURS
from orca.server.repair import Finding, Mend, judge

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NETWORKS = [ipaddress.ip_network("10.96.0.0/16")]


def service(name: str, address: str, port: int = 0) -> Obj:
    spec: Obj = {"type": "NodePort", "clusterIP": address, "clusterIPs": [address], "ports": []}
    if port:
        spec["ports"] = [{"port": 80, "nodePort": port}]
    return {"metadata": {"name": name, "namespace": "d"}, "spec": spec}


def holder(held: str, owner: str = "", *, made: str = "2025-01-01T00:00:00Z", **labels: str) -> Obj:
    metadata: Obj = {"name": held, "creationTimestamp": made, "labels": {FAMILY: "IPv4", MANAGED_BY: OURS, **labels}}
    parent = {"group": "", "resource": "services", "namespace": "d", "name": owner}
    return {"metadata": metadata, "spec": {"parentRef": parent if owner else {"resource": "gateways"}}}


def found(services: list[Obj], addresses: list[Obj], ports: list[Obj] | None = None) -> list[Finding]:
    holders: dict[Any, list[Obj]] = {IPADDRESSES: addresses, NODE_PORTS: ports or []}
    return judge(services, holders, networks=NETWORKS, ports=(30000, 32767), now=NOW)


def only(services: list[Obj], addresses: list[Obj], ports: list[Obj] | None = None) -> tuple[Mend, str, str]:
    (one,) = found(services, addresses, ports)
    return one.mend, one.reason, one.message


A = service("a", "10.96.0.1")


def test_what_agrees_is_left_alone() -> None:
    assert found([service("a", "10.96.0.1", 30080)], [holder("10.96.0.1", "a")], [holder("30080", "a")]) == []
    # Somebody else's, and one whose Service is being written.
    strange = holder("10.96.0.9", **{MANAGED_BY: "somebody"})
    fresh = holder("10.96.0.8", "new", made="2025-12-31T23:59:30Z")
    assert found([], [strange, fresh]) == []


def test_addresses() -> None:
    text = "Cluster IP [IPv4]: 10.96.0.1 is not allocated; repairing"
    assert only([A], []) == (Mend.MAKE, "ClusterIPNotAllocated", text)
    text = "the ClusterIP [IPv4]: 10.96.0.1 for Service d/a has a wrong reference; repairing"
    for wrong in (holder("10.96.0.1", "gone"), holder("10.96.0.1")):
        assert only([A], [wrong]) == (Mend.RENEW, "ClusterIPNotAllocated", text)
    assert only([A], [holder("10.96.0.1", "a", **{FAMILY: "IPv6"})])[:2] == (Mend.RENEW, "")
    text = "Cluster IP [IPv4]:10.96.0.1 was assigned to multiple services; please recreate service"
    both = [A, service("b", "10.96.0.1")]
    assert only(both, [holder("10.96.0.1", "b")]) == (Mend.NOTHING, "ClusterIPAlreadyAllocated", text)
    text = "Cluster IP [IPv4]: 192.0.2.1 is not within any configured Service CIDR; please recreate service"
    assert only([service("a", "192.0.2.1")], [holder("192.0.2.1", "a")]) == (
        Mend.NOTHING,
        "ClusterIPOutOfRange",
        text,
    )
    assert only([service("a", "nonsense")], [])[:2] == (Mend.NOTHING, "ClusterIPNotValid")


def test_addresses_nobody_has() -> None:
    text = "IPAddress: 10.96.0.2 for Service d/gone appears to have leaked: cleaning up"
    assert only([], [holder("10.96.0.2", "gone")]) == (Mend.FREE, "IPAddressNotAllocated", text)
    text = "IPAddress: 10.96.0.2 for Service d/a has a wrong reference; cleaning up"
    assert only([A], [holder("10.96.0.1", "a"), holder("10.96.0.2", "a")]) == (
        Mend.FREE,
        "IPAddressWrongReference",
        text,
    )
    assert only([], [holder("10.96.0.2")])[:2] == (Mend.FREE, "IPAddressNotAllocated")


def test_ports() -> None:
    own = [holder("10.96.0.1", "a")]
    assert only([service("a", "10.96.0.1", 30080)], own) == (
        Mend.MAKE,
        "PortNotAllocated",
        "Port 30080 is not allocated; repairing",
    )
    assert only([service("a", "10.96.0.1", 80)], own, [holder("80", "a")]) == (
        Mend.NOTHING,
        "PortOutOfRange",
        "Port 80 is not within the port range 30000-32767; please recreate service",
    )
    both = [service("a", "10.96.0.1", 30080), service("b", "10.96.0.2", 30080)]
    assert only(both, [*own, holder("10.96.0.2", "b")], [holder("30080", "a")]) == (
        Mend.NOTHING,
        "PortAlreadyAllocated",
        "Port 30080 was assigned to multiple services; please recreate service",
    )
    assert only([], [], [holder("30080", "gone")])[:2] == (Mend.FREE, "")
