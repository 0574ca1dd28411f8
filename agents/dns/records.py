"""The records of one Service, as Kubernetes' DNS specification 1.1.0 and CoreDNS's kubernetes plugin have them. Pure.

<service>.<ns>.svc.<zone>                     A/AAAA of the cluster IPs, or of every ready endpoint (headless);
                                              CNAME (ExternalName); SRV of all ports
<hostname>.<service>.<ns>.svc.<zone>          A/AAAA of an endpoint; without a hostname it is called after its address
_<port>._<protocol>.<service>.<ns>.svc.<zone> SRV of a named port
<d>.<c>.<b>.<a>.in-addr.arpa                  PTR of cluster IPs, and of endpoints that have a hostname

Reference: coredns ``plugin/kubernetes``, kubernetes/dns ``docs/specification.md``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from agents.dns import wire
from orca.api.objects import Obj, name, namespace

RecordSets = dict[tuple[str, int], tuple[bytes, ...]]
"""(name, type) -> data of its records"""


def record_sets(service: Obj, slices: Iterable[Obj], zone: str) -> RecordSets:
    """All records that one Service and its EndpointSlices make, but for PTR."""
    found = _Collected()
    base = f"{name(service)}.{namespace(service)}.svc.{zone}".lower()
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        target = str(spec.get("externalName") or "").rstrip(".").lower()
        # An address is no name that an alias could lead to.
        if target and not _is_address(target):
            found.add(base, wire.CNAME, wire.name_data(target))
        return found.frozen()
    cluster_ips = addresses_of(service)
    for ip in cluster_ips:
        found.add(base, *wire.ip_data(ip))
        for port in spec.get("ports") or ():
            _add_srv(found, port, int(port["port"]), base, base)
    for endpoint, ports in ready_endpoints(slices):
        for ip in endpoint.get("addresses") or ():
            host = f"{endpoint.get('hostname') or _dashed(ip)}.{base}".lower()
            found.add(host, *wire.ip_data(ip))
            if cluster_ips:
                continue
            found.add(base, *wire.ip_data(ip))
            for port in ports:
                if port.get("port"):
                    _add_srv(found, port, int(port["port"]), host, base)
    return found.frozen()


def pointers(service: Obj, slices: Iterable[Obj], zone: str) -> dict[str, tuple[str, ...]]:
    """Reverse name -> names it leads to."""
    found: dict[str, list[str]] = {}
    base = f"{name(service)}.{namespace(service)}.svc.{zone}".lower()
    for ip in addresses_of(service):
        found.setdefault(reverse_name(ip), []).append(base)
    for endpoint, _ in ready_endpoints(slices):
        if endpoint.get("hostname"):
            for ip in endpoint.get("addresses") or ():
                found.setdefault(reverse_name(ip), []).append(f"{endpoint['hostname']}.{base}".lower())
    return {reverse: tuple(dict.fromkeys(names)) for reverse, names in found.items()}


def addresses_of(service: Obj) -> list[str]:
    """Its cluster IPs; none for a headless Service or an ExternalName."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    return [ip for ip in spec.get("clusterIPs") or (spec.get("clusterIP"),) if ip and ip != "None"]


def ready_endpoints(slices: Iterable[Obj]) -> Iterator[tuple[Obj, list[Obj]]]:
    """(endpoint, ports of its slice). ``publishNotReadyAddresses`` shows as ready in slices."""
    for endpoint_slice in slices:
        ports = list(endpoint_slice.get("ports") or ())
        if endpoint_slice.get("addressType") == "FQDN":
            continue
        for endpoint in endpoint_slice.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                yield endpoint, ports


def reverse_name(ip: str) -> str:
    return ipaddress.ip_address(ip).reverse_pointer


class _Collected:
    """Records without duplicates; weights of SRV share 100 among all that a name has, as CoreDNS's."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, int], dict[bytes, None]] = {}
        self._srv: dict[str, list[tuple[int, str]]] = {}

    def add(self, owner: str, kind: int, data: bytes) -> None:
        self._data.setdefault((owner, kind), {})[data] = None

    def add_srv(self, owner: str, port: int, target: str) -> None:
        self._srv.setdefault(owner, []).append((port, target))

    def frozen(self) -> RecordSets:
        for owner, entries in self._srv.items():
            weight = max(100 // len(entries), 1)
            for port, target in dict.fromkeys(entries):
                self.add(owner, wire.SRV, wire.srv_data(port, target, weight=weight))
        return {key: tuple(data) for key, data in self._data.items()}


def _add_srv(found: _Collected, port: Obj, number: int, target: str, base: str) -> None:
    found.add_srv(base, number, target)
    if port.get("name"):
        found.add_srv(f"_{port['name']}._{port.get('protocol') or 'TCP'}.{base}".lower(), number, target)


def _dashed(ip: str) -> str:
    return ip.replace(".", "-").replace(":", "-")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
