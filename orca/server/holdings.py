"""What a Service holds, and who holds what: addresses by IPAddresses, node ports by objects of their own. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from orca.api.builtin import IPADDRESSES
from orca.api.objects import Obj, labels
from orca.api.resources import Resource

Holding = tuple[Resource, str]
"""(who holds it, the address or port)."""

NODE_PORTS = Resource(
    group="orca",
    version="v1",
    plural="nodeports",
    singular="nodeport",
    kind="NodePort",
    namespaced=False,
    definition="",
    storage="/registry/ranges/servicenodeports",
)
"""Who holds a node port: not served, only stored. Objects are named by the port; one holds it for all protocols."""

MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
FAMILY = "ipaddress.kubernetes.io/ip-family"
OURS = "ipallocator.k8s.io"


def is_managed(resource: Resource, holder: Obj) -> bool:
    """Whether a holder is one that allocation makes and takes away: people may keep IPAddresses of their own."""
    return resource is NODE_PORTS or labels(holder).get(MANAGED_BY) == OURS


def family_of(address: str) -> str:
    """``IPv4`` or ``IPv6``."""
    return f"IPv{ipaddress.ip_address(address).version}"


def _node_ports_of(spec: Obj) -> Iterator[tuple[str, int]]:
    for port in spec.get("ports") or ():
        if port.get("nodePort"):
            yield port.get("protocol") or "TCP", port["nodePort"]
    if spec.get("healthCheckNodePort"):
        yield "TCP", spec["healthCheckNodePort"]


def holdings(service: Obj) -> set[tuple[Resource, str]]:
    """Everything a Service holds."""
    spec = service.get("spec") or {}
    found = {(NODE_PORTS, str(port)) for _, port in _node_ports_of(spec)}
    if (spec.get("type") or "ClusterIP") != "ExternalName":
        listed = (address for address in spec.get("clusterIPs") or () if address and address != "None")
        found |= {(IPADDRESSES, _canonical(address)) for address in listed}
    return found


def _canonical(address: str) -> str:
    """One address has many spellings in IPv6, and one holder. What is no address is for validation to refuse."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def owner_of(holder: Obj) -> str:
    """``namespace/name`` of the Service that a holder is for, "" when it is for something else."""
    parent = (holder.get("spec") or {}).get("parentRef") or {}
    if parent.get("resource") != "services" or parent.get("group"):
        return ""
    return f"{parent.get('namespace', '')}/{parent.get('name', '')}"
