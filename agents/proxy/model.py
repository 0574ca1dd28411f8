"""From Services and EndpointSlices to what this host does with packets. Pure; every backend renders the same model.

Facts follow kube-proxy: which Services are served, which endpoints a traffic policy may use, when terminating ones are
the fallback, and when a packet is refused or dropped because there is none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from orca.api.objects import Obj, labels, name, namespace

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
DEFAULT_AFFINITY_SECONDS = 10800
PROTOCOLS = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One address and port that answers; ``local``: on this host."""

    ip: str
    port: int
    local: bool = False

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service as this host serves it.

    ``cluster`` are the endpoints for traffic policy Cluster and ``local`` those for policy Local; both may be empty.
    ``anywhere`` says whether any endpoint exists at all: without one packets are rejected, with one that this host may
    not use they are dropped. ``affinity_seconds`` 0 means no session affinity.
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


def served(service: Obj) -> bool:
    """Whether a Service is this proxy's: not headless, no ExternalName, not left to another proxy."""
    spec = service.get("spec") or {}
    return spec.get("type") != "ExternalName" and bool(_cluster_ip(spec)) and OTHER_PROXY_LABEL not in labels(service)


def service_key_of(endpoint_slice: Obj) -> str:
    """ "namespace/name" of the Service an EndpointSlice belongs to, "" when it says none."""
    owner = labels(endpoint_slice).get(SERVICE_NAME_LABEL)
    return f"{namespace(endpoint_slice)}/{owner}" if owner else ""


def service_ports(service: Obj, slices: Iterable[Obj], node_name: str) -> tuple[ServicePort, ...]:
    """The model of one Service from its EndpointSlices, as seen from the host ``node_name``."""
    if not served(service):
        return ()
    spec = service["spec"]
    slices = list(slices)
    external_type = spec.get("type") in ("NodePort", "LoadBalancer")
    load_balancer = spec.get("type") == "LoadBalancer"
    external_ips = _ipv4(spec.get("externalIPs"))
    external_local = bool(external_type or external_ips) and spec.get("externalTrafficPolicy") == "Local"
    internal_local = spec.get("internalTrafficPolicy") == "Local"
    found = []
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        if protocol not in PROTOCOLS:
            continue
        candidates = _candidates(slices, port.get("name") or "", protocol, node_name)
        cluster = _usable(candidates)
        local = _usable([c for c in candidates if c.endpoint.local])
        node_port = int(port.get("nodePort") or 0) if external_type else 0
        balancers = _load_balancer_ips(service) if load_balancer else ()
        external = bool(node_port or external_ips or balancers)
        found.append(
            ServicePort(
                service=f"{namespace(service)}/{name(service)}",
                port_name=port.get("name") or "",
                protocol=protocol,
                port=int(port["port"]),
                cluster_ip=_cluster_ip(spec),
                node_port=node_port,
                external_ips=external_ips,
                load_balancer_ips=balancers,
                source_ranges=_networks(spec.get("loadBalancerSourceRanges")) if load_balancer else (),
                affinity_seconds=_affinity(spec),
                internal_local=internal_local,
                external_local=external_local,
                # Policy Local from outside still needs them: pods and the host itself are not outside.
                cluster=cluster if not internal_local or external else (),
                local=local if internal_local or external_local else (),
                anywhere=bool(cluster),
            )
        )
    return tuple(found)


def _candidates(slices: Iterable[Obj], port_name: str, protocol: str, node_name: str) -> list[_Candidate]:
    """Endpoints that may get traffic of a port, each address once, sorted."""
    found: dict[tuple[str, int], _Candidate] = {}
    for one in slices:
        if one.get("addressType") != "IPv4":
            continue
        numbers = [
            int(port["port"])
            for port in one.get("ports") or ()
            if (port.get("name") or "") == port_name
            and (port.get("protocol") or "TCP") == protocol
            and port.get("port")
        ]
        for number in numbers:
            for entry in one.get("endpoints") or ():
                addresses = entry.get("addresses") or ()
                if not addresses:
                    continue
                conditions = entry.get("conditions") or {}
                ready = conditions.get("ready") is not False
                fallback = conditions.get("serving") is not False and conditions.get("terminating") is True
                endpoint = Endpoint(str(addresses[0]), number, entry.get("nodeName") == node_name)
                # While an address moves between slices it is in both: the ready one counts.
                known = found.get((endpoint.ip, number))
                if (ready or fallback) and (known is None or (ready and not known.ready)):
                    found[(endpoint.ip, number)] = _Candidate(endpoint, ready, fallback)
    return sorted(found.values(), key=lambda candidate: candidate.endpoint)


def _usable(candidates: Iterable[_Candidate]) -> tuple[Endpoint, ...]:
    """The ready ones, else those that still serve while they terminate."""
    candidates = list(candidates)
    ready = tuple(c.endpoint for c in candidates if c.ready)
    return ready or tuple(c.endpoint for c in candidates if c.fallback)


def _cluster_ip(spec: Obj) -> str:
    """The IPv4 cluster IP, "" for a headless Service or one of IPv6 only."""
    for ip in (spec.get("clusterIP"), *(spec.get("clusterIPs") or ())):
        if ip and ip != "None" and ":" not in ip:
            return str(ip)
    return ""


def _affinity(spec: Obj) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS)


def _load_balancer_ips(service: Obj) -> tuple[str, ...]:
    """Ingress addresses that shall be short cut on the host (``ipMode: Proxy`` wants packets at the balancer)."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return _ipv4(entry.get("ip") for entry in ingress if entry.get("ipMode") != "Proxy")


def _ipv4(addresses: Iterable[str | None] | None) -> tuple[str, ...]:
    return tuple(sorted({address for address in addresses or () if address and ":" not in address}))


def _networks(ranges: Iterable[str] | None) -> tuple[str, ...]:
    """IPv4 source ranges in the form rules are written in; what is not a range is no range."""
    found = set()
    for text in ranges or ():
        try:
            found.add(str(ipaddress.IPv4Network(text.strip(), strict=False)))
        except ValueError:
            continue
    return tuple(sorted(found))
