"""One service port as IPVS serves it: virtual servers, addresses of the host, entries of sets. Pure.

As kube-proxy has it: a virtual server for the cluster IP, each external and load balancer address, and each address of
the host that serves node ports. All but the latter are put on the device ``kube-ipvs0``, so that the kernel takes
packets for them as its own and shows them to IPVS. IPVS only translates destinations; who is refused, dropped or
masqueraded is said by a fixed handful of iptables rules over the sets (`agents.proxy.ipvs.rules`).

A virtual server cannot tell clients apart. With ``externalTrafficPolicy: Local`` it sends everybody to endpoints of
this host while there are any (as kube-proxy does in this mode); without any, pods and the host reach those of other
hosts and packets from outside are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agents.proxy.backend import HostView
from agents.proxy.model import Endpoint, Family, ServicePort

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "dh", "mh")
PERSISTENT = 0x1
"""``IP_VS_SVC_F_PERSISTENT``"""
HASH_PORTS = 0x10
"""``IP_VS_SVC_F_SCHED_MH_PORT``: connections of one client are spread."""

CLUSTER_IP = "CLUSTER-IP"
EXTERNAL_IP, EXTERNAL_IP_LOCAL = "EXTERNAL-IP", "EXTERNAL-IP-LOCAL"
LOAD_BALANCER, LOAD_BALANCER_LOCAL = "LOAD-BALANCER", "LOAD-BALANCER-LOCAL"
LOAD_BALANCER_FIREWALL, LOAD_BALANCER_SOURCES = "LOAD-BALANCER-FW", "LOAD-BALANCER-SOURCE-CIDR"
LOOP_BACK, IPVS_IPS = "LOOP-BACK", "IPVS-IPS"
NODE_PORT_PLACES = "NODE-PORT-PLACES"
NO_ENDPOINTS, NOT_HERE, NOT_HERE_EXTERNAL = "NO-ENDPOINTS", "NOT-HERE", "NOT-HERE-EXTERNAL"

SETS: dict[str, str] = {
    CLUSTER_IP: "hash:ip,port",
    EXTERNAL_IP: "hash:ip,port",
    EXTERNAL_IP_LOCAL: "hash:ip,port",
    LOAD_BALANCER: "hash:ip,port",
    LOAD_BALANCER_LOCAL: "hash:ip,port",
    LOAD_BALANCER_FIREWALL: "hash:ip,port",
    LOAD_BALANCER_SOURCES: "hash:ip,port,net",
    LOOP_BACK: "hash:ip,port,ip",
    IPVS_IPS: "hash:ip",
    # What of the model is refused or dropped although an address is there.
    NO_ENDPOINTS: "hash:ip,port",
    NOT_HERE: "hash:ip,port",
    NOT_HERE_EXTERNAL: "hash:ip,port",
    # No rule needs it: that a virtual server at an address of the host is ours.
    NODE_PORT_PLACES: "hash:ip,port",
    # A set of ports knows no SCTP.
    **{f"NODE-PORT{local}-{protocol}": kind
       for local in ("", "-LOCAL")
       for protocol, kind in (("TCP", "bitmap:port"), ("UDP", "bitmap:port"), ("SCTP-HASH", "hash:ip,port"))},
}  # fmt: skip
"""What follows ``KUBE-`` (``KUBE-6-`` for IPv6) in a set's name, and its type."""
SERVING = (CLUSTER_IP, EXTERNAL_IP, EXTERNAL_IP_LOCAL, LOAD_BALANCER, LOAD_BALANCER_LOCAL)
"""Sets whose entries are virtual servers on addresses of services."""

_LONGEST = 31
"""Characters of a set's name (``IPSET_MAXNAMELEN``)."""


def set_name(family: Family, name: str) -> str:
    return f"{'KUBE-6-' if family == 6 else 'KUBE-'}{name}"[:_LONGEST]


@dataclass(frozen=True, slots=True, order=True)
class VirtualKey:
    """What a packet has to be addressed to. ``protocol`` in capitals as the API writes it."""

    protocol: str
    address: str
    port: int


Server = tuple[str, int]
"""Address and port of a real server."""


@dataclass(frozen=True, slots=True)
class Virtual:
    """A virtual server: ``timeout`` is that of persistence, in seconds, 0 for none."""

    scheduler: str
    flags: int = 0
    timeout: int = 0
    servers: frozenset[Server] = frozenset()


@dataclass(slots=True)
class Fragment:
    """What one service port needs. ``entries`` are (set, entry) in the form ``ipset save`` prints them."""

    virtuals: dict[VirtualKey, Virtual] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)
    entries: set[tuple[str, str]] = field(default_factory=set)


def render(port: ServicePort, host: HostView, own: Sequence[str], node_ports_at: Sequence[str]) -> Fragment:
    """``own``: addresses of this host's interfaces; ``node_ports_at``: those of them that serve node ports."""
    return _Renderer(port, host, own, node_ports_at).fragment()


class _Renderer:
    def __init__(self, port: ServicePort, host: HostView, own: Sequence[str], node_ports_at: Sequence[str]) -> None:
        self.port, self.host, self.own = port, host, own
        self.node_ports_at = node_ports_at
        self.made = Fragment()

    def fragment(self) -> Fragment:
        port = self.port
        self._serve(port.cluster_ip, port.port, port.internal)
        self._enter(CLUSTER_IP, port.cluster_ip)
        if not port.internal:
            self._enter(NOT_HERE if port.anywhere else NO_ENDPOINTS, port.cluster_ip)
        for address in port.external_ips:
            self._external(address, (EXTERNAL_IP, EXTERNAL_IP_LOCAL))
        for address in port.load_balancer_ips:
            self._external(address, (LOAD_BALANCER, LOAD_BALANCER_LOCAL))
            if port.source_ranges:
                self._source_ranges(address)
        if port.node_port:
            self._node_port()
        for endpoint in {*port.cluster, *port.local}:
            if endpoint.may_be_here:
                place = f"{endpoint.ip},{port.protocol.lower()}:{endpoint.port},{endpoint.ip}"
                self.made.entries.add((set_name(port.family, LOOP_BACK), place))
        return self.made

    @property
    def _outer(self) -> tuple[Endpoint, ...]:
        return self.port.external or (self.port.cluster if self.port.external_local else ())

    def _external(self, address: str, sets: tuple[str, str]) -> None:
        """``sets``: for policy Cluster and for policy Local."""
        self._serve(address, self.port.port, self._outer)
        self._enter(sets[0], address)
        if self.port.external_local:
            self._enter(sets[1], address)
        self._nowhere(address, self.port.port)

    def _node_port(self) -> None:
        port = self.port
        name = "SCTP-HASH" if port.protocol == "SCTP" else port.protocol
        sets = [f"NODE-PORT-{name}", *([f"NODE-PORT-LOCAL-{name}"] if port.external_local else [])]
        for address in self.node_ports_at:
            self._virtual(address, port.node_port, self._outer)
            self._enter(NODE_PORT_PLACES, address, port.node_port)
            self._nowhere(address, port.node_port)
        for each in sets:
            if port.protocol != "SCTP":
                self.made.entries.add((set_name(port.family, each), str(port.node_port)))
            else:
                for address in self.node_ports_at:
                    self._enter(each, address, port.node_port)

    def _nowhere(self, address: str, number: int) -> None:
        """Nobody is there for packets from outside: refuse when there is no endpoint at all, else drop."""
        if not self.port.anywhere:
            self._enter(NO_ENDPOINTS, address, number)
        elif not self.port.external:
            self._enter(NOT_HERE_EXTERNAL if self.port.cluster else NOT_HERE, address, number)

    def _source_ranges(self, address: str) -> None:
        self._enter(LOAD_BALANCER_FIREWALL, address)
        networks = list(self.port.source_ranges)
        if self.host.node_in(self.port.source_ranges):
            # What the host itself sends there carries the address of kube-ipvs0: the balancer's own.
            networks.append(address)
        for network in networks:
            for part in _set_networks(network):
                entry = f"{address},{self.port.protocol.lower()}:{self.port.port},{part}"
                self.made.entries.add((set_name(self.port.family, LOAD_BALANCER_SOURCES), entry))

    def _serve(self, address: str, number: int, endpoints: Iterable[Endpoint]) -> None:
        self._virtual(address, number, endpoints)
        if address not in self.own:
            # One that the host has already stays where it is, with all else that listens there.
            self.made.addresses.add(address)
            self.made.entries.add((set_name(self.port.family, IPVS_IPS), address))

    def _virtual(self, address: str, number: int, endpoints: Iterable[Endpoint]) -> None:
        port, scheduler = self.port, self.host.ipvs_scheduler
        flags = (PERSISTENT if port.affinity_seconds else 0) | (HASH_PORTS if scheduler == "mh" else 0)
        servers = frozenset((endpoint.ip, endpoint.port) for endpoint in endpoints)
        virtual = Virtual(scheduler, flags, port.affinity_seconds, servers)
        self.made.virtuals[VirtualKey(port.protocol, address, number)] = virtual

    def _enter(self, name: str, address: str, number: int = 0) -> None:
        entry = f"{address},{self.port.protocol.lower()}:{number or self.port.port}"
        self.made.entries.add((set_name(self.port.family, name), entry))


def _set_networks(network: str) -> tuple[str, ...]:
    """As a set holds them: no prefix of no bits, and none said of all bits."""
    address, _, bits = network.partition("/")
    if bits == "0":
        return ("::/1", "8000::/1") if ":" in address else ("0.0.0.0/1", "128.0.0.0/1")
    return (address,) if bits == ("128" if ":" in address else "32") else (network,)
