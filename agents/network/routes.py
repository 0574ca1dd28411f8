"""Which pod range is behind which node. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from orca.api.objects import Obj, name


@dataclass(frozen=True, slots=True)
class NodeRoute:
    """Packets for ``cidr`` go to ``via``, the address of ``node``."""

    node: str
    cidr: str
    via: str


def internal_ip(node: Obj) -> str:
    """The node's first IPv4 InternalIP, "" when it has none yet."""
    for entry in (node.get("status") or {}).get("addresses") or ():
        if entry.get("type") == "InternalIP" and _is_ipv4(entry.get("address", "")):
            return str(entry["address"])
    return ""


def pod_cidr(node: Obj) -> str:
    """The node's IPv4 pod range, "" when it has none yet."""
    spec = node.get("spec") or {}
    for cidr in (spec.get("podCIDR"), *(spec.get("podCIDRs") or ())):
        if cidr and ":" not in cidr:
            return str(cidr)
    return ""


def plan_routes(nodes: Iterable[Obj], own_name: str) -> tuple[NodeRoute, ...]:
    """A route for every other node that has told its range and address; sorted, so that equal plans are equal."""
    found: dict[str, NodeRoute] = {}
    for node in sorted(nodes, key=name):
        cidr, via = pod_cidr(node), internal_ip(node)
        if name(node) != own_name and cidr and via:
            found.setdefault(cidr, NodeRoute(name(node), str(ipaddress.IPv4Network(cidr)), via))
    return tuple(sorted(found.values(), key=lambda route: route.cidr))


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
