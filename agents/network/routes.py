"""Which pod range is behind which node, and which way packets take to it: straight over a common segment, or in a
tunnel (vxlan). Pure.

Both hosts of a pair come to the same answer, since each knows what the other sees: a node tells in annotations which
segments it is on, what it wants, and where its end of the tunnel is. The way is direct when each has the other's
address on one of its segments and neither insists on the tunnel.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agents.network.ranges import family_of
from orca.api.objects import Obj, meta, name

VNI = 28515
"""Of our tunnel: other networks on the same hosts (flannel has 1) keep theirs."""
PORT = 8472

_PREFIX = "network.orca.io/"
BACKEND_TYPE, BACKEND_DATA = f"{_PREFIX}backend-type", f"{_PREFIX}backend-data"
PUBLIC_IP, SEGMENTS = f"{_PREFIX}public-ip", f"{_PREFIX}segments"
ANNOTATIONS = (BACKEND_TYPE, BACKEND_DATA, PUBLIC_IP, SEGMENTS)


class NetworkBackend(StrEnum):
    """What a host wants of its ways to others (``--network-backend``)."""

    AUTO = "auto"
    DIRECT = "direct"
    VXLAN = "vxlan"


@dataclass(frozen=True, slots=True)
class NodeRoute:
    """Packets for ``cidr`` go to ``via``, the address of ``node``; in the tunnel, to that end of it."""

    node: str
    cidr: str
    via: str
    tunnel: bool = False


@dataclass(frozen=True, slots=True)
class TunnelPeer:
    """Another end of the tunnel: its address on the network below, and its hardware and IP addresses within."""

    node: str
    hardware: str
    underlay: str
    gateways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """All ways to other nodes; sorted, so that equal plans are equal."""

    routes: tuple[NodeRoute, ...] = ()
    peers: tuple[TunnelPeer, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    """Node -> why (a part of) its pods cannot be reached."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a host is to others: its addresses, the segments it is on (ranges), what it wants, its end of the tunnel.

    ``segments`` None and ``hardware`` "" mean that it has not told (yet).
    """

    addresses: tuple[str, ...]
    segments: tuple[str, ...] | None = None
    backend: NetworkBackend = NetworkBackend.AUTO
    hardware: str = ""
    public_ip: str = ""

    def of(self, family: int) -> str:
        """Its address of family 4 or 6, "" when there is none."""
        return next((ip for ip in self.addresses if family_of(ip) == family), "")

    @property
    def underlay(self) -> str:
        """The address that the tunnel ends at."""
        return self.public_ip or self.of(4) or self.of(6)


def tunnel_hardware(node: str) -> str:
    """The hardware address of a node's end of the tunnel: the same whenever the device is made anew."""
    digest = hashlib.sha256(f"orca vxlan {node}".encode()).digest()
    return "0e:" + digest[:5].hex(":")


def tunnel_overhead(underlay: str) -> int:
    """Bytes that the tunnel adds to a packet: Ethernet 14, vxlan 8, UDP 8, and IP 20 or 40."""
    return 70 if family_of(underlay) == 6 else 50


def published(own: Standing) -> dict[str, str]:
    """The annotations by which others know how to reach this host's pods."""
    return {
        BACKEND_TYPE: own.backend.value,
        BACKEND_DATA: json.dumps({"VNI": VNI, "VtepMAC": own.hardware}, separators=(",", ":")),
        PUBLIC_IP: own.underlay,
        SEGMENTS: ",".join(own.segments or ()),
    }


def standing_of(node: Obj) -> Standing:
    """What another node tells of itself; what cannot be read counts as not told."""
    told = meta(node).get("annotations") or {}
    addresses = internal_ips(node)
    try:
        data = json.loads(told.get(BACKEND_DATA) or "{}")
        hardware = str(data["VtepMAC"]) if data.get("VNI") == VNI else ""
        segments = tuple(str(ipaddress.ip_network(one)) for one in told[SEGMENTS].split(",") if one)
        backend = NetworkBackend(told.get(BACKEND_TYPE) or "auto")
        public_ip = str(ipaddress.ip_address(told[PUBLIC_IP]))
        if hardware != tunnel_hardware(name(node)):
            # Every host's follows from its name: one that claims another's would get what is sent to that one's pods.
            hardware = ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Standing(addresses)
    return Standing(addresses, segments, backend, hardware, public_ip)


def internal_ips(node: Obj) -> tuple[str, ...]:
    """The node's InternalIPs in the order it tells them, one a family at most."""
    found: dict[int, str] = {}
    for entry in (node.get("status") or {}).get("addresses") or ():
        address = entry.get("address") or ""
        if entry.get("type") == "InternalIP" and _is_ip(address):
            found.setdefault(family_of(address), str(ipaddress.ip_address(address)))
    return tuple(found.values())


def pod_cidrs(node: Obj) -> tuple[str, ...]:
    """The node's pod ranges, the primary one first; none while it has none."""
    spec = node.get("spec") or {}
    listed = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return tuple(str(ipaddress.ip_network(cidr, strict=False)) for cidr in listed)


def plan_routes(nodes: Iterable[Obj], own_name: str, own: Standing, families: Iterable[int] = (4,)) -> RoutePlan:
    """A way to every other node that has told its ranges and address.

    Of nodes whose ranges overlap the older one is believed, and before all others this one: whoever has a Node of their
    own could otherwise have the packets for everybody's pods.
    """
    allowed = frozenset(families)
    nodes = list(nodes)
    ranges = _Ranges()
    for node in nodes:
        if name(node) == own_name:
            for cidr in pod_cidrs(node):
                ranges.take(cidr, own_name)
    routes: dict[str, NodeRoute] = {}
    peers: dict[str, TunnelPeer] = {}
    problems: dict[str, str] = {}
    for node in sorted(nodes, key=lambda node: (meta(node).get("creationTimestamp") or "", name(node))):
        other, their_name = standing_of(node), name(node)
        if their_name == own_name or not other.addresses:
            continue
        gateways = []
        for cidr in pod_cidrs(node):
            network = ipaddress.ip_network(cidr)
            if network.version not in allowed:
                continue
            if holder := ranges.take(cidr, their_name):
                problems[their_name] = f"no way to the pods of node {their_name}: {cidr} overlaps the range of {holder}"
                continue
            if on_one_segment(own, other, network.version):
                routes[str(network)] = NodeRoute(their_name, str(network), other.of(network.version))
            elif problem := _tunnel_problem(own, other, network.version):
                problems[their_name] = f"no way to the pods of node {their_name}: {problem}"
            else:
                gateway = str(network.network_address)
                gateways.append(gateway)
                routes[str(network)] = NodeRoute(their_name, str(network), gateway, tunnel=True)
        if gateways:
            peers[their_name] = TunnelPeer(their_name, other.hardware, other.underlay, tuple(gateways))
    return RoutePlan(
        tuple(sorted(routes.values(), key=lambda route: route.cidr)),
        tuple(peers[one] for one in sorted(peers)),
        problems,
    )


class _Ranges:
    """Ranges that do not overlap, and whose they are."""

    def __init__(self) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._taken: dict[int, list[tuple[int, str]]] = {4: [], 6: []}
        """In the order of the starts: the last address, and the node."""

    def take(self, cidr: str, node: str) -> str:
        """ "" when it is the node's now, else the node that has a part of it."""
        network = ipaddress.ip_network(cidr)
        starts, taken = self._starts[network.version], self._taken[network.version]
        first, last = int(network.network_address), int(network.broadcast_address)
        at = bisect_right(starts, last)
        if at and taken[at - 1][0] >= first:
            return taken[at - 1][1]
        starts.insert(at, first)
        taken.insert(at, (last, node))
        return ""


def on_one_segment(own: Standing, other: Standing, family: int) -> bool:
    """Whether packets of a family go straight from one host to the other."""
    mine, theirs = own.of(family), other.of(family)
    if not mine or not theirs or NetworkBackend.VXLAN in (own.backend, other.backend):
        return False
    # One that has not told its segments yet is believed to see what we see.
    return _within(theirs, own.segments or ()) and (other.segments is None or _within(mine, other.segments))


def _tunnel_problem(own: Standing, other: Standing, family: int) -> str:
    """Why there is no tunnel between two hosts that are not on one segment, "" when there can be one."""
    where = other.of(family) or other.underlay
    if NetworkBackend.DIRECT in (own.backend, other.backend):
        return f"{where} is not on a segment of this host, and --network-backend=direct allows no tunnel"
    if not other.hardware:
        return f"{where} is not on a segment of this host, and the node has not told its end of the tunnel yet"
    if family_of(other.underlay) != family_of(own.underlay):
        return f"{other.underlay} and {own.underlay} are of different families: the tunnel needs one"
    return ""


def _within(ip: str, ranges: Iterable[str]) -> bool:
    address = ipaddress.ip_address(ip)
    return any(address in ipaddress.ip_network(one) for one in ranges)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
