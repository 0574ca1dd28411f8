"""From Services and EndpointSlices to what this host does with packets. Pure; every backend renders the same model.

Facts follow kube-proxy (k8s.io/kubernetes ``pkg/proxy``): which Services are served, which endpoints a traffic policy
or a topology hint lets this host use, when terminating ones are the fallback, and when a packet is refused or dropped
because there is none. A Service of both address families gives the ports of each, and nothing crosses between them.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from orca.api.objects import Obj, labels, name, namespace

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
NOT_OURS = frozenset({"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"})
"""Labels of Services and EndpointSlices that kube-proxy does not look at: of another proxy, of no address."""
DEFAULT_AFFINITY_SECONDS = 10800
PROTOCOLS = ("TCP", "UDP", "SCTP")

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
_ADDRESS_TYPES = {4: "IPv4", 6: "IPv6"}


def family_of(address: str) -> Family:
    """The address family of an address or network in text form."""
    return 6 if ":" in address else 4


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One address and port that answers; ``local``: on this host, ``unplaced``: nobody has said on which host."""

    ip: str
    port: int
    local: bool = False
    unplaced: bool = False

    @property
    def may_be_here(self) -> bool:
        """Whether packets from this address may start on this host: it could be its own client (hairpin)."""
        return self.local or self.unplaced

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service as this host serves it in one address family, that of ``cluster_ip``.

    All addresses and networks in it are of that family, in canonical form, sorted. ``cluster`` are the endpoints for
    traffic policy Cluster, as far as topology hints give them to this host, and ``local`` those for policy Local; both
    may be empty. ``anywhere`` says whether any endpoint exists at all: without one packets are rejected, with one that
    this host may not use they are dropped. ``affinity_seconds`` 0 means no session affinity. ``serving``, of UDP only,
    are the addresses of all endpoints that serve, also while they terminate and whatever policies and hints say: flows
    that lead there go on, as connections of TCP do.
    """

    service: str
    port_name: str
    protocol: str
    port: int
    cluster_ip: str
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    affinity_seconds: int = 0
    internal_local: bool = False
    external_local: bool = False
    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    anywhere: bool = False
    serving: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        return family_of(self.cluster_ip)

    @property
    def label(self) -> str:
        """ "namespace/name:port", without ":port" when the port has no name; names chains and comments."""
        return f"{self.service}:{self.port_name}" if self.port_name else self.service

    @property
    def internal(self) -> tuple[Endpoint, ...]:
        """Endpoints for the cluster IP."""
        return self.local if self.internal_local else self.cluster

    @property
    def external(self) -> tuple[Endpoint, ...]:
        """Endpoints for packets from outside the cluster."""
        return self.local if self.external_local else self.cluster

    @property
    def externally_reachable(self) -> bool:
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def reachable(self) -> bool:
        """Whether this host can send anything of this port anywhere."""
        return bool(self.cluster or self.local)


@dataclass(frozen=True, slots=True)
class _Candidate:
    endpoint: Endpoint
    ready: bool
    fallback: bool
    """Serving although it is being terminated: used when nothing is ready."""
    zones: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    """Zones and nodes that hints give the endpoint to."""


def served(service: Obj) -> bool:
    """Whether a Service is this proxy's: not headless, no ExternalName, not left to another proxy."""
    spec = service.get("spec") or {}
    return spec.get("type") != "ExternalName" and bool(cluster_ips(service)) and NOT_OURS.isdisjoint(labels(service))


def cluster_ips(service: Obj) -> dict[Family, str]:
    """The cluster IP of each family the Service has one of; none for a headless one."""
    spec = service.get("spec") or {}
    found: dict[Family, str] = {}
    for ip in (*(spec.get("clusterIPs") or ()), spec.get("clusterIP")):
        if ip and ip != "None" and (address := _address(ip)):
            found.setdefault(family_of(address), address)
    return found


def service_key_of(endpoint_slice: Obj) -> str:
    """ "namespace/name" of the Service an EndpointSlice belongs to, "" when it says none."""
    owner = labels(endpoint_slice).get(SERVICE_NAME_LABEL)
    return f"{namespace(endpoint_slice)}/{owner}" if owner else ""


def service_ports(service: Obj, slices: Iterable[Obj], node_name: str, zone: str = "") -> tuple[ServicePort, ...]:
    """The model of one Service from its EndpointSlices, as seen from the host ``node_name`` in ``zone`` ("": none)."""
    if not served(service):
        return ()
    slices = [one for one in slices if NOT_OURS.isdisjoint(labels(one))]
    ips = cluster_ips(service)
    return tuple(
        port
        for family in FAMILIES
        if family in ips
        for port in _ports_of(service, ips[family], [s for s in slices if _is_of(s, family)], node_name, zone)
    )


def uses_hints(slices: Iterable[Obj]) -> bool:
    """Whether where this host stands makes a difference for the Service of these slices."""
    return any(endpoint.get("hints") for one in slices for endpoint in one.get("endpoints") or ())


def _is_of(endpoint_slice: Obj, family: Family) -> bool:
    return bool(endpoint_slice.get("addressType") == _ADDRESS_TYPES[family])


def _ports_of(service: Obj, cluster_ip: str, slices: list[Obj], node_name: str, zone: str) -> Iterable[ServicePort]:
    spec = service["spec"]
    family = family_of(cluster_ip)
    external_type = spec.get("type") in ("NodePort", "LoadBalancer")
    load_balancer = spec.get("type") == "LoadBalancer"
    external_ips = _addresses(spec.get("externalIPs"), family)
    external_policy_local = bool(external_type or external_ips) and spec.get("externalTrafficPolicy") == "Local"
    internal_local = spec.get("internalTrafficPolicy") == "Local"
    balancers = _load_balancer_ips(service, family) if load_balancer else ()
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        if protocol not in PROTOCOLS:
            continue
        node_port = int(port.get("nodePort") or 0) if external_type else 0
        external = bool(node_port or external_ips or balancers)
        external_local = external_policy_local and external
        candidates = _candidates(slices, port.get("name") or "", protocol, node_name)
        anywhere = bool(_usable(candidates))
        # Policy Local from outside still needs them: pods and the host itself are not outside.
        cluster = _near(candidates, node_name, zone) if not internal_local or external else ()
        local = _usable([c for c in candidates if c.endpoint.local]) if internal_local or external_local else ()
        yield ServicePort(
            service=f"{namespace(service)}/{name(service)}",
            port_name=port.get("name") or "",
            protocol=protocol,
            port=int(port["port"]),
            cluster_ip=cluster_ip,
            node_port=node_port,
            external_ips=external_ips,
            load_balancer_ips=balancers,
            source_ranges=_networks(spec.get("loadBalancerSourceRanges"), family) if load_balancer else (),
            affinity_seconds=_affinity(spec),
            internal_local=internal_local,
            external_local=external_local,
            cluster=cluster,
            local=local,
            anywhere=anywhere,
            serving=tuple(dict.fromkeys(c.endpoint.ip for c in candidates)) if protocol == "UDP" else (),
        )


def _candidates(slices: Iterable[Obj], port_name: str, protocol: str, node_name: str) -> list[_Candidate]:
    """Endpoints that may get traffic of a port, each address once, sorted."""
    found: dict[tuple[str, int], _Candidate] = {}
    for one in slices:
        numbers = [
            int(port["port"])
            for port in one.get("ports") or ()
            if (port.get("name") or "") == port_name
            and (port.get("protocol") or "TCP") == protocol
            and port.get("port")
        ]
        for number in numbers:
            for entry in one.get("endpoints") or ():
                candidate = _candidate(entry, number, node_name)
                if candidate is None:
                    continue
                # While an address moves between slices it is in both: the ready one counts.
                known = found.get((candidate.endpoint.ip, number))
                if known is None or (candidate.ready and not known.ready):
                    found[(candidate.endpoint.ip, number)] = candidate
    return sorted(found.values(), key=lambda candidate: candidate.endpoint)


def _candidate(entry: Obj, number: int, node_name: str) -> _Candidate | None:
    """None for an endpoint that gets no traffic."""
    # Of several addresses only the first counts; what others mean is not defined.
    address = _address(next(iter(entry.get("addresses") or ()), ""))
    conditions = entry.get("conditions") or {}
    ready = conditions.get("ready") is not False
    fallback = conditions.get("serving") is not False and conditions.get("terminating") is True
    if not address or not (ready or fallback):
        return None
    where = entry.get("nodeName") or ""
    hints = entry.get("hints") or {}
    return _Candidate(
        Endpoint(address, number, local=where == node_name, unplaced=not where),
        ready,
        fallback,
        frozenset(str(zone.get("name")) for zone in hints.get("forZones") or ()),
        frozenset(str(node.get("name")) for node in hints.get("forNodes") or ()),
    )


def _usable(candidates: Iterable[_Candidate]) -> tuple[Endpoint, ...]:
    """The ready ones, else those that still serve while they terminate."""
    candidates = list(candidates)
    ready = tuple(c.endpoint for c in candidates if c.ready)
    return ready or tuple(c.endpoint for c in candidates if c.fallback)


def _near(candidates: Iterable[_Candidate], node_name: str, zone: str) -> tuple[Endpoint, ...]:
    """`_usable` ones, of these the ones hinted for this node, else for its zone, where every ready one has such hints
    and one of them is meant (kube-proxy's ``topology.go``); else all."""
    candidates = list(candidates)
    ready = [c for c in candidates if c.ready]
    choices: tuple[tuple[str, Callable[[_Candidate], frozenset[str]]], ...] = (
        (node_name, lambda c: c.nodes),
        (zone, lambda c: c.zones),
    )
    for here, hinted in choices:
        if all(hinted(c) for c in ready) and (near := tuple(c.endpoint for c in ready if here in hinted(c))):
            return near
    return _usable(candidates)


def _affinity(spec: Obj) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS)


def _load_balancer_ips(service: Obj, family: Family) -> tuple[str, ...]:
    """Ingress addresses that shall be short cut on the host (``ipMode: Proxy`` wants packets at the balancer)."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return _addresses((entry.get("ip") for entry in ingress if entry.get("ipMode") != "Proxy"), family)


def _address(text: str) -> str:
    """In canonical form, "" for what is no address. The common case must be cheap: there are many endpoints."""
    kind = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(kind, socket.inet_pton(kind, text))
    except (OSError, ValueError):
        try:
            # Zeros in front and addresses that were accepted by older servers.
            return "" if "%" in text else str(ipaddress.ip_address(text))
        except ValueError:
            return ""


def _addresses(addresses: Iterable[str | None] | None, family: Family) -> tuple[str, ...]:
    found = {_address(address) for address in addresses or () if address and family_of(address) == family}
    return tuple(sorted(found - {""}))


def _networks(ranges: Iterable[str] | None, family: Family) -> tuple[str, ...]:
    """Source ranges in the form rules are written in; what is not a range is no range."""
    found = set()
    for text in ranges or ():
        try:
            network = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            continue
        if network.version == family and "%" not in text:
            found.add(str(network))
    return tuple(sorted(found))
