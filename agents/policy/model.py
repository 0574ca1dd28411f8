"""Policies and pods as rules are made of them. Pure.

Reference: ``networking.k8s.io/v1`` NetworkPolicy. What is read here has its defaults and was validated by the API.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from orca.api.objects import Obj, key, labels, namespace
from orca.api.podphase import is_finished
from orca.api.selectors import EVERYTHING, Selector, from_label_selector

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
INGRESS, EGRESS = "Ingress", "Egress"
DNS_NAMESPACE = "kube-system"
DNS_LABELS = {"k8s-app": "kube-dns"}


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """Ports ``first`` to ``last`` of a protocol; all of them when ``first`` is 0."""

    protocol: str
    first: int = 0
    last: int = 0

    def covers(self, protocol: str, port: int) -> bool:
        """Whether a connection to that port is meant."""
        return protocol == self.protocol and (self.first == 0 or self.first <= port <= self.last)

    def __str__(self) -> str:
        if self.first == 0:
            return self.protocol
        return f"{self.protocol} {self.first}" + (f"-{self.last}" if self.last != self.first else "")


@dataclass(frozen=True, slots=True, order=True)
class NamedPort:
    """A port by the name that the pod which is connected to gives it."""

    protocol: str
    name: str

    def __str__(self) -> str:
        return f"{self.protocol} {self.name}"


@dataclass(frozen=True, slots=True)
class Block:
    """An ``ipBlock``."""

    network: Network
    excepted: tuple[Network, ...] = ()

    def contains(self, address: Address) -> bool:
        """Whether the address is in the block and in none of what is excepted."""
        return address in self.network and not any(address in one for one in self.excepted)

    def __str__(self) -> str:
        text = " ".join(("except", *map(str, self.excepted))) if self.excepted else ""
        return f"{self.network} {text}".strip()


@dataclass(frozen=True, slots=True)
class PodPeer:
    """Pods of one namespace, or of those that a selector of namespaces means."""

    pods: Selector
    namespace: str = ""
    namespaces: Selector = EVERYTHING
    """Counts when ``namespace`` is ""."""

    def covers_namespace(self, name: str, its_labels: Mapping[str, str] | None) -> bool:
        """``its_labels``: None for a namespace that is not known."""
        if self.namespace:
            return name == self.namespace
        return self.namespaces.empty or (its_labels is not None and self.namespaces.matches(its_labels))

    def __str__(self) -> str:
        pods = str(self.pods) or "all pods"
        if self.namespace:
            return f"{pods} in {self.namespace}"
        return f"{pods} in namespaces {self.namespaces}" if not self.namespaces.empty else f"{pods} in all namespaces"


ALL_PODS = PodPeer(EVERYTHING)


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of ``ingress`` or ``egress``: a connection with one of the peers to one of the ports is allowed."""

    peers: frozenset[PodPeer] = frozenset()
    blocks: frozenset[Block] = frozenset()
    anybody: bool = False
    """No peers are named: every address is meant."""
    ports: frozenset[Ports] = frozenset()
    named: frozenset[NamedPort] = frozenset()

    @property
    def any_port(self) -> bool:
        """No ports are named: everything is meant, whatever its protocol."""
        return not self.ports and not self.named


@dataclass(frozen=True, slots=True)
class Policy:
    """A NetworkPolicy. A direction that it does not concern is None; one without rules allows nothing."""

    key: str
    namespace: str
    pods: Selector
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None

    def rules(self, direction: str) -> tuple[Rule, ...] | None:
        """Those of ``Ingress`` or ``Egress``."""
        return self.ingress if direction == INGRESS else self.egress

    def selects(self, pod: Pod) -> bool:
        """Whether the pod is isolated by this policy."""
        return pod.namespace == self.namespace and self.pods.matches(pod.labels)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that has a network of its own. ``ports`` are those with names: (protocol, name) -> numbers."""

    key: str
    namespace: str
    labels: Mapping[str, str] = field(hash=False)
    addresses: tuple[str, ...]
    ports: Mapping[NamedPort, tuple[int, ...]] = field(default_factory=dict, hash=False)


def policy_of(obj: Obj) -> Policy:
    """A NetworkPolicy of the API. Raises ValueError, KeyError or TypeError for what cannot be understood."""
    spec, own = obj.get("spec") or {}, namespace(obj)
    types = spec.get("policyTypes") or ([INGRESS, EGRESS] if spec.get("egress") else [INGRESS])
    return Policy(
        key=key(obj),
        namespace=own,
        # v1.36 lets podSelector be absent, which means the same as an empty one.
        pods=from_label_selector(spec.get("podSelector") or {}),
        ingress=tuple(_rules(spec.get("ingress"), "from", own)) if INGRESS in types else None,
        egress=tuple(_rules(spec.get("egress"), "to", own)) if EGRESS in types else None,
    )


def _rules(rules: Iterable[Obj] | None, peers: str, own: str) -> Iterator[Rule]:
    for rule in rules or ():
        pods, blocks = set(), set()
        for peer in rule.get(peers) or ():
            if block := peer.get("ipBlock"):
                blocks.add(Block(_network(block["cidr"]), tuple(map(_network, block.get("except") or ()))))
            else:
                pods.add(_pod_peer(peer, own))
        ports, named = set(), set()
        for port in rule.get("ports") or ():
            protocol, number = port.get("protocol") or "TCP", port.get("port")
            if isinstance(number, str):
                named.add(NamedPort(protocol, number))
            elif number is None:
                ports.add(Ports(protocol))
            else:
                ports.add(Ports(protocol, int(number), int(port.get("endPort") or number)))
        yield Rule(frozenset(pods), frozenset(blocks), not rule.get(peers), frozenset(ports), frozenset(named))


def _pod_peer(peer: Obj, own: str) -> PodPeer:
    pods = from_label_selector(peer["podSelector"]) if peer.get("podSelector") is not None else EVERYTHING
    if peer.get("namespaceSelector") is None:
        return PodPeer(pods, own)
    return PodPeer(pods, namespaces=from_label_selector(peer["namespaceSelector"]))


def _network(text: str) -> Network:
    return ipaddress.ip_network(_canonical(text), strict=False)


def _canonical(text: str) -> str:
    """Old objects may hold IPv4 with leading zeros, which always counted as decimal."""
    address, slash, length = text.partition("/")
    if ":" not in address:
        address = ".".join(str(int(part)) for part in address.split("."))
    return f"{address}{slash}{length}"


def pod_of(obj: Obj, addresses: Iterable[str] | None = None) -> Pod | None:
    """A pod of the API, None when no policy concerns it: it uses its host's network or has ended.

    ``addresses`` are those it is known to have; without them its status says.
    """
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if spec.get("hostNetwork") or is_finished(obj):
        return None
    if addresses is None:
        listed = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
        addresses = [address for address in listed if address]
    return Pod(key(obj), namespace(obj), labels(obj), tuple(addresses), _named_ports(spec))


def _named_ports(spec: Obj) -> Mapping[NamedPort, tuple[int, ...]]:
    found: dict[NamedPort, tuple[int, ...]] = {}
    for container in (*_sidecars(spec), *(spec.get("containers") or ())):
        for port in container.get("ports") or ():
            if port.get("name"):
                named = NamedPort(sys.intern(port.get("protocol") or "TCP"), sys.intern(port["name"]))
                number = int(port["containerPort"])
                found[named] = tuple(dict.fromkeys((*found.get(named, ()), number)))
    return found


def _sidecars(spec: Obj) -> Iterator[Obj]:
    return (one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always")


def slim(obj: Obj) -> Obj:
    """What `pod_of` reads of a pod, and what tells it from others: a tenth of the memory."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    ports = [
        {"name": port["name"], "containerPort": port["containerPort"], "protocol": port.get("protocol") or "TCP"}
        for container in (*_sidecars(spec), *(spec.get("containers") or ()))
        for port in container.get("ports") or ()
        if port.get("name")
    ]
    kept: Obj = {
        "metadata": {
            "name": metadata["name"],
            "namespace": sys.intern(metadata.get("namespace") or ""),
            "uid": metadata.get("uid") or "",
            "resourceVersion": metadata.get("resourceVersion") or "",
            "labels": {sys.intern(k): sys.intern(v) for k, v in (metadata.get("labels") or {}).items()},
        },
        "status": {"phase": sys.intern(status.get("phase") or "Pending"), "podIPs": status.get("podIPs") or ()},
    }
    if not kept["status"]["podIPs"] and status.get("podIP"):
        kept["status"]["podIPs"] = ({"ip": status["podIP"]},)
    if ports or spec.get("hostNetwork"):
        kept["spec"] = {"containers": [{"ports": ports}], "hostNetwork": bool(spec.get("hostNetwork"))}
    return kept


def dns_pod(addresses: Iterable[str]) -> Pod:
    """The cluster's DNS as policies may select it. Every host answers it itself, at an address of the service range;
    on other clusters these are pods, which have this namespace, label and ports since policies are written."""
    ports = {NamedPort("UDP", "dns"): (53,), NamedPort("TCP", "dns-tcp"): (53,)}
    return Pod(f"{DNS_NAMESPACE}/kube-dns", DNS_NAMESPACE, DNS_LABELS, tuple(addresses), ports)
