"""What NetworkPolicies mean, a second time: straight from the API's words, on plain objects, slow and simple.

It shares no code with what is tested.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

Obj = dict[str, Any]


@dataclass
class World:
    """All there is. ``pods`` have ``status.podIPs``."""

    pods: list[Obj] = field(default_factory=list)
    policies: list[Obj] = field(default_factory=list)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)


def selected(selector: Obj, labels: dict[str, str]) -> bool:
    for name, value in (selector.get("matchLabels") or {}).items():
        if labels.get(name) != value:
            return False
    for wanted in selector.get("matchExpressions") or []:
        has, value = wanted["key"] in labels, labels.get(wanted["key"])
        if wanted["operator"] == "Exists" and not has:
            return False
        if wanted["operator"] == "DoesNotExist" and has:
            return False
        if wanted["operator"] == "In" and value not in wanted["values"]:
            return False
        if wanted["operator"] == "NotIn" and has and value in wanted["values"]:
            return False
    return True


def owner(world: World, address: str) -> Obj | None:
    """The pod with a network of its own that has the address, None when there is none."""
    for pod in world.pods:
        if pod["spec"].get("hostNetwork") or pod["status"].get("phase") in ("Succeeded", "Failed"):
            continue
        if any(entry["ip"] == address for entry in pod["status"].get("podIPs", [])):
            return pod
    return None


def allowed(world: World, source: str, target: str, protocol: str, port: int) -> bool:
    """Whether a connection between two addresses may be."""
    client, server = owner(world, source), owner(world, target)
    if client is not None and client is server:
        return True
    return one_end(world, client, "Egress", target, server, protocol, port, server) and one_end(
        world, server, "Ingress", source, client, protocol, port, server
    )


def one_end(
    world: World,
    pod: Obj | None,
    direction: str,
    peer_address: str,
    peer: Obj | None,
    protocol: str,
    port: int,
    server: Obj | None,
) -> bool:
    if pod is None:
        return True
    isolated = False
    for policy in world.policies:
        spec = policy["spec"]
        types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
        if policy["metadata"]["namespace"] != pod["metadata"]["namespace"] or direction not in types:
            continue
        if not selected(spec.get("podSelector", {}), pod["metadata"].get("labels", {})):
            continue
        isolated = True
        for rule in spec.get(direction.lower()) or []:
            peers = rule.get("from" if direction == "Ingress" else "to") or []
            if peers and not any(is_peer(world, policy, one, peer_address, peer) for one in peers):
                continue
            ports = rule.get("ports") or []
            if ports and not any(is_port(one, protocol, port, server) for one in ports):
                continue
            return True
    return not isolated


def is_peer(world: World, policy: Obj, wanted: Obj, address: str, pod: Obj | None) -> bool:
    if "ipBlock" in wanted:
        found = ipaddress.ip_address(address)
        block = ipaddress.ip_network(wanted["ipBlock"]["cidr"])
        outside = [ipaddress.ip_network(one) for one in wanted["ipBlock"].get("except") or []]
        return found in block and not any(found in one for one in outside)
    if pod is None:
        return False
    space = pod["metadata"]["namespace"]
    if "namespaceSelector" in wanted:
        if not selected(wanted["namespaceSelector"], world.namespaces[space]):
            return False
    elif space != policy["metadata"]["namespace"]:
        return False
    return selected(wanted.get("podSelector", {}), pod["metadata"].get("labels", {}))


def is_port(wanted: Obj, protocol: str, port: int, server: Obj | None) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    number = wanted.get("port")
    if number is None:
        return True
    if isinstance(number, int):
        return number <= port <= wanted.get("endPort", number)
    return server is not None and any(
        one.get("name") == number and one.get("protocol", "TCP") == protocol and one["containerPort"] == port
        for container in server["spec"]["containers"]
        for one in container.get("ports") or []
    )
