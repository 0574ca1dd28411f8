"""One service port as what it adds to the table of its family. Pure."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from agents.network.nftables.sets import LONGEST_COMMENT, Element, SetType, pack
from agents.network.nftables.statements import (
    by_chance,
    immediate,
    member,
    protocol,
    remember,
    set_mark,
    translate_to,
)
from agents.network.nftables.wire import Rule
from agents.proxy.backend import MASQUERADE_MARK, HostView
from agents.proxy.model import Endpoint, Family, ServicePort
from agents.proxy.nftables.layout import (
    NODE_KEY,
    affinity_set,
    choosing_chain,
    data_types,
    key_types,
    masquerade_internal,
    outside_local,
)

_ORDER: Literal["little", "big"] = "little" if sys.byteorder == "little" else "big"
"""Numbers are as the host has them."""

Place = tuple[str, bytes]
"""(set or map, key)"""


@dataclass(slots=True)
class Fragment:
    """What one service port, or several, add. An element that several name is there as long as one of them is."""

    elements: dict[Place, Element] = field(default_factory=dict)
    shared: dict[Place, Element] = field(default_factory=dict)
    """Elements that other services may have too."""
    chains: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    sets: dict[str, SetType] = field(default_factory=dict)

    def add(self, other: Fragment) -> None:
        self.elements.update(other.elements)
        self.shared.update(other.shared)
        self.chains.update(other.chains)
        self.sets.update(other.sets)


def frontends(port: ServicePort) -> tuple[bytes, ...]:
    """Where a service port is reached, as keys: of addresses, then of the node port."""
    types = key_types(port.family)
    addresses = dict.fromkeys((port.cluster_ip, *port.external_ips, *port.load_balancer_ips))
    found = [pack(types, address, port.protocol, port.port) for address in addresses]
    if port.node_port:
        found.append(pack(NODE_KEY, port.protocol, port.node_port))
    return tuple(found)


def render(port: ServicePort, host: HostView, *, taken: Collection[bytes] = ()) -> Fragment:
    """Everything of one service port but for frontends that are ``taken`` by another."""
    return _Renderer(port, host, taken).fragment()


class _Renderer:
    def __init__(self, port: ServicePort, host: HostView, taken: Collection[bytes]) -> None:
        self.port, self.host, self.taken = port, host, taken
        self.family: Family = port.family
        self.types, self.to = key_types(self.family), data_types(self.family)
        self.found = Fragment()
        self.label = port.label[:LONGEST_COMMENT]
        self.written: set[bytes] = set()
        self.packed = {endpoint: pack(self.to, endpoint.ip, endpoint.port) for endpoint in (*port.cluster, *port.local)}

    @cached_property
    def name(self) -> str:
        """Of chains of the service's own; few have any."""
        port = self.port
        digest = _digest(f"{port.label}/{port.protocol}")
        return f"{digest}/{port.service}/{port.protocol.lower()}/{port.port_name}"

    def fragment(self) -> Fragment:
        port = self.port
        self._cluster_ip()
        for address in (*port.external_ips, *port.load_balancer_ips):
            self._external(address)
        if port.source_ranges and port.reachable:
            for address in port.load_balancer_ips:
                self._source_ranges(address)
        if port.node_port:
            self._node_port()
        for endpoint in self.packed:
            if endpoint.may_be_here:
                ip = pack(self.types[:1], endpoint.ip)
                self.found.shared[("hairpin", ip + ip)] = Element(ip + ip)
        if port.affinity_seconds and self.found.chains:
            self._affinity_endpoints()
        return self.found

    def _cluster_ip(self) -> None:
        port = self.port
        key = pack(self.types, port.cluster_ip, port.protocol, port.port)
        ip = pack(self.types[:1], port.cluster_ip)
        if self._is_taken(key):
            return
        self.found.shared[("cluster-ips", ip)] = Element(ip)
        endpoints = port.internal
        if not endpoints:
            self._refuse("no-endpoint-services", key)
        elif port.affinity_seconds:
            chosen = self._affinity("local" if port.internal_local else "cluster", endpoints)
            rules = (*masquerade_internal(self.host, self.family), (immediate(f"goto {chosen}"),))
            self._lead("service-ips", key, f"internal-{self.name}", rules)
        elif port.internal_local:
            self._choose("service-ips", key, f"cluster-ip-local-{len(endpoints)}")
            self._list("local-endpoints", key, endpoints)
        else:
            self._choose("service-ips", key, f"cluster-ip-{len(endpoints)}")
            self._list("cluster-endpoints", key, endpoints)

    def _external(self, address: str) -> None:
        key = pack(self.types, address, self.port.protocol, self.port.port)
        if not self._is_taken(key):
            self._from_outside(key, "service-ips", "no-endpoint-services", "external", "")

    def _node_port(self) -> None:
        key = pack(NODE_KEY, self.port.protocol, self.port.node_port)
        if not self._is_taken(key):
            self._from_outside(key, "service-nodeports", "no-endpoint-nodeports", "node-port", "nodeport-")

    def _from_outside(self, key: bytes, dispatch: str, refusals: str, kind: str, prefix: str) -> None:
        port = self.port
        if not port.external:
            self._refuse(refusals, key)
        if not port.reachable:
            return
        if port.affinity_seconds:
            self._lead(dispatch, key, f"external-{self.name}", self._affinity_from_outside())
        elif port.external_local:
            self._choose(dispatch, key, f"{kind}-local-{len(port.cluster)}-{len(port.local)}")
            self._list(f"{prefix}cluster-endpoints", key, port.cluster)
            self._list(f"{prefix}local-endpoints", key, port.local)
        else:
            self._choose(dispatch, key, f"{kind}-{len(port.cluster)}")
            self._list(f"{prefix}cluster-endpoints", key, port.cluster)

    def _is_taken(self, key: bytes) -> bool:
        """By another service, or written already: an address may be named twice."""
        if key in self.taken or key in self.written:
            return True
        self.written.add(key)
        return False

    def _choose(self, dispatch: str, key: bytes, chain: str) -> None:
        self._lead(dispatch, key, chain, choosing_chain(chain, self.host, self.family))

    def _lead(self, dispatch: str, key: bytes, chain: str, rules: tuple[Rule, ...]) -> None:
        self.found.chains[chain] = rules
        self.found.elements[(dispatch, key)] = Element(key, f"goto {chain}", self.label)

    def _list(self, endpoints_map: str, key: bytes, endpoints: tuple[Endpoint, ...]) -> None:
        for number, endpoint in enumerate(endpoints):
            numbered = key + number.to_bytes(4, _ORDER)
            self.found.elements[(endpoints_map, numbered)] = Element(numbered, self.packed[endpoint])

    def _refuse(self, refusals: str, key: bytes) -> None:
        """Reject when there is no endpoint at all, drop when there is one that this host may not use."""
        what = "drop" if self.port.anywhere else "goto refused"
        self.found.elements[(refusals, key)] = Element(key, what, self.label)

    def _source_ranges(self, address: str) -> None:
        port = self.port
        key = pack(self.types, address, port.protocol, port.port)
        if key in self.taken:
            return
        self.found.elements[("firewall-ips", key)] = Element(key, comment=self.label)
        networks = [ipaddress.ip_network(text) for text in port.source_ranges]
        if self.host.node_in(port.source_ranges):
            # Where a balancer's address is on this host, the host's own packets to it come from it.
            networks.append(ipaddress.ip_network(address))
        # Ranges within ranges are no ranges of a set.
        for network in ipaddress.collapse_addresses(networks):  # type: ignore[type-var]
            first, last = key + network.network_address.packed, key + network.broadcast_address.packed
            self.found.elements[("source-ranges", first)] = Element(first, until=last)

    # --- session affinity: chains of the service's own, as each endpoint remembers its clients -----------------------

    def _affinity(self, which: str, endpoints: tuple[Endpoint, ...]) -> str:
        """The chain that sends known clients where they were, and others by chance."""
        chain = f"{which}-{self.name}"
        known = tuple(
            (member(self.family, ("saddr",), self._affinity_set(each)), immediate(f"goto {self._endpoint_chain(each)}"))
            for each in endpoints
        )
        by_lot = tuple(
            (
                *((by_chance(len(endpoints) - position),) if position < len(endpoints) - 1 else ()),
                immediate(f"goto {self._endpoint_chain(each)}"),
            )
            for position, each in enumerate(endpoints)
        )
        self.found.chains[chain] = (*known, *by_lot)
        return chain

    def _affinity_from_outside(self) -> tuple[Rule, ...]:
        port = self.port
        anywhere = immediate(f"goto {self._affinity('cluster', port.cluster)}")
        if not port.external_local:
            return ((set_mark(MASQUERADE_MARK),), (anywhere,))
        near = ((immediate(f"goto {self._affinity('local', port.local)}"),),) if port.local else ()
        return (*outside_local(self.host, self.family, anywhere), *near)

    def _affinity_endpoints(self) -> None:
        for endpoint in self.packed:
            clients = self._affinity_set(endpoint)
            self.found.sets[clients] = affinity_set(self.family, self.port.affinity_seconds)
            translation = translate_to(self.family, endpoint.ip, endpoint.port)
            self.found.chains[self._endpoint_chain(endpoint)] = (
                (remember(self.family, clients),),
                (protocol(self.port.protocol), translation),
            )

    def _endpoint_chain(self, endpoint: Endpoint) -> str:
        where = endpoint.ip.replace(":", ".")
        return f"endpoint-{_digest(f'{self.name} {endpoint}')}/{self.port.service}/{where}/{endpoint.port}"

    def _affinity_set(self, endpoint: Endpoint) -> str:
        # The time is in the name: that of a set cannot be changed.
        return f"clients-{_digest(f'{self.name} {endpoint}')}-{self.port.affinity_seconds}"


def _digest(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:8]


def merged(ports: Collection[ServicePort], host: HostView, taken: Collection[bytes] = ()) -> Fragment:
    """All ports of one service in one family together."""
    if len(ports) == 1:
        (port,) = ports
        return render(port, host, taken=taken)
    found = Fragment()
    for port in ports:
        found.add(render(port, host, taken=taken))
    return found
