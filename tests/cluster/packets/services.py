"""The services of the table as objects of the API: every state of endpoints under every pair of traffic policies."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.proxy.model import Family
from tests.cluster.packets.topology import Topology

Obj = dict[str, Any]
READY = {"ready": True, "serving": True, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}
UNREADY = {"ready": False, "serving": False, "terminating": False}

STATES: dict[str, dict[str, dict[str, bool]]] = {
    "both": {"here": READY, "there": READY},
    "only-here": {"here": READY},
    "only-there": {"there": READY},
    "none": {},
    "unready": {"here": UNREADY, "there": GONE},
    "all-leaving": {"here": LEAVING, "there": LEAVING},
    "here-leaving": {"here": LEAVING, "there": READY},
}
"""State -> endpoint -> conditions."""
TARGET = 8080
STRAY = 8079
PORTS = {"TCP": 80, "UDP": 81, "SCTP": 82}


@dataclass(frozen=True, slots=True)
class Case:
    """One Service of type LoadBalancer with external IPs: one object is every way in at once."""

    name: str
    number: int
    state: str
    internal_local: bool = False
    external_local: bool = False
    affinity: bool = False
    source_ranges: tuple[str, ...] = ()

    @property
    def endpoints(self) -> Mapping[str, Mapping[str, bool]]:
        return STATES[self.state]

    def address(self, kind: str, family: Family) -> str:
        """``kind``: cluster, external or balancer."""
        block = {"cluster": 1, "external": 100, "balancer": 200}[kind]
        if family == 4:
            return f"10.96.1.{self.number}" if kind == "cluster" else f"198.51.100.{self.number + block - 100}"
        return f"fd00:10:96::1{self.number:02x}" if kind == "cluster" else f"2001:db8:100::{block:x}:{self.number:x}"

    def node_port(self, protocol: str) -> int:
        return {"TCP": 30100, "UDP": 30300, "SCTP": 30500}[protocol] + self.number


def cases() -> list[Case]:
    """All of them. Numbers are below 100: addresses of documentation ranges follow from them."""
    number = itertools.count(1)
    found = [
        Case(f"{state}-{'l' if internal else 'c'}{'l' if external else 'c'}", next(number), state, internal, external)
        for state in STATES
        for internal in (False, True)
        for external in (False, True)
    ]
    found.append(Case("sticky", next(number), "both", affinity=True))
    found.append(Case("sticky-local", next(number), "both", external_local=True, affinity=True))
    # The pods of host-1 and host-1 itself, of both families.
    allowed = ("10.244.1.0/24", "172.31.0.11/32", "fd00:10:244:1::/64", "fd00:31::11/128")
    found.append(Case("ranges", next(number), "both", source_ranges=allowed))
    found.append(Case("ranges-local", next(number), "both", external_local=True, source_ranges=allowed))
    found.append(Case("ranges-all", next(number), "both", source_ranges=("0.0.0.0/0", "::/0")))
    return found


def objects(case: Case, topology: Topology, protocols: tuple[str, ...]) -> list[Obj]:
    """The Service and its EndpointSlices."""
    families: tuple[Family, ...] = (4, 6)
    spec: Obj = {
        "type": "LoadBalancer",
        "clusterIP": case.address("cluster", 4),
        "clusterIPs": [case.address("cluster", family) for family in families],
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack",
        "externalIPs": [case.address("external", family) for family in families],
        "internalTrafficPolicy": "Local" if case.internal_local else "Cluster",
        "externalTrafficPolicy": "Local" if case.external_local else "Cluster",
        "ports": [
            {"name": p.lower(), "protocol": p, "port": PORTS[p], "targetPort": TARGET, "nodePort": case.node_port(p)}
            for p in protocols
        ],
    }
    if case.affinity:
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}
    if case.source_ranges:
        spec["loadBalancerSourceRanges"] = list(case.source_ranges)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": case.name, "namespace": "default"},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": case.address("balancer", f)} for f in families]}},
    }
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{case.name}-{family}",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": case.name},
            },
            "addressType": f"IPv{family}",
            "ports": [{"name": p.lower(), "protocol": p, "port": TARGET} for p in protocols],
            "endpoints": [
                {
                    "addresses": [topology.places[name].ips[family]],
                    "nodeName": topology.places[name].host,
                    "conditions": dict(conditions),
                }
                for name, conditions in case.endpoints.items()
            ],
        }
        for family in families
    ]
    return [service, *slices]
