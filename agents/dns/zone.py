"""The cluster's names in memory, as Kubernetes' DNS specification 1.1.0 has them. Pure; changed a Service at a time.

<service>.<ns>.svc.<zone>                     A/AAAA of the cluster IP, or of every ready endpoint (headless);
                                              CNAME (ExternalName)
<hostname>.<service>.<ns>.svc.<zone>          A/AAAA of an endpoint of a headless service
_<port>._<protocol>.<service>.<ns>.svc.<zone> SRV of a named port
<a>-<b>-<c>-<d>.<ns>.pod.<zone>               A of a pod
<d>.<c>.<b>.<a>.in-addr.arpa                  PTR
dns-version.<zone>                            TXT
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from agents.dns import wire
from agents.dns.wire import Answer, Query, Record
from orca.api.objects import Obj, name, namespace

TTL = 5
"""Seconds; as CoreDNS: short, since an answer cannot be taken back."""
SCHEMA_VERSION = "1.1.0"

Names = dict[tuple[str, int], tuple[bytes, ...]]
"""(name, type) -> data of its records"""


def service_names(service: Obj, slices: Iterable[Obj], zone: str) -> Names:
    """All records that one Service and its EndpointSlices make."""
    spec = service.get("spec") or {}
    base = f"{name(service)}.{namespace(service)}.svc.{zone}"
    found: dict[tuple[str, int], list[bytes]] = {}

    def add(owner: str, kind: int, data: bytes) -> None:
        known = found.setdefault((owner.lower(), kind), [])
        if data not in known:
            known.append(data)

    if spec.get("type") == "ExternalName":
        target = str(spec.get("externalName") or "").rstrip(".").lower()
        if target:
            add(base, wire.CNAME, wire.name_data(target))
        return _frozen(found)
    cluster_ips = [ip for ip in spec.get("clusterIPs") or (spec.get("clusterIP"),) if ip and ip != "None"]
    if cluster_ips:
        for ip in cluster_ips:
            add(base, *wire.ip_data(ip))
            add(reverse_name(ip), wire.PTR, wire.name_data(base))
        for port in spec.get("ports") or ():
            if port.get("name"):
                add(_srv_name(port, base), wire.SRV, wire.srv_data(int(port["port"]), base))
                add(base, wire.SRV, wire.srv_data(int(port["port"]), base))
        return _frozen(found)
    for endpoint_slice in slices:
        for endpoint in endpoint_slice.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for ip in endpoint.get("addresses") or ():
                host = f"{endpoint.get('hostname') or _dashed(ip)}.{base}"
                add(base, *wire.ip_data(ip))
                add(host, *wire.ip_data(ip))
                add(reverse_name(ip), wire.PTR, wire.name_data(host))
                for port in endpoint_slice.get("ports") or ():
                    if port.get("name") and port.get("port"):
                        add(_srv_name(port, base), wire.SRV, wire.srv_data(int(port["port"]), host))
                        add(base, wire.SRV, wire.srv_data(int(port["port"]), host))
    return _frozen(found)


def reverse_name(ip: str) -> str:
    return ipaddress.ip_address(ip).reverse_pointer


class Zone:
    """Names of the cluster and what to answer for them.

    ``addresses`` are the nameserver's own, ``local_ranges`` those whose reverse names are ours.
    """

    def __init__(
        self, domain: str = "cluster.local", *, addresses: Sequence[str] = (), local_ranges: Sequence[str] = ()
    ) -> None:
        self.domain = domain.strip(".").lower()
        self._ranges = [ipaddress.ip_network(each) for each in local_ranges]
        self._by_service: dict[str, Names] = {}
        self._records: dict[tuple[str, int], dict[str, tuple[bytes, ...]]] = {}
        self._exists: dict[str, int] = {}
        self.serial = 1
        self._put("", {(f"dns-version.{self.domain}", wire.TXT): (wire.txt_data(SCHEMA_VERSION),)})
        for address in addresses:
            kind, data = wire.ip_data(address)
            self._put(f"nameserver {address}", {(f"ns.dns.{self.domain}", kind): (data,)})

    def __repr__(self) -> str:
        return f"<Zone {self.domain} serial {self.serial}, {len(self._records)} record sets>"

    def replace(self, service_key: str, names: Names) -> bool:
        """Make these the records of a service (none: it is gone); returns whether anything changed."""
        if self._by_service.get(service_key, {}) == names:
            return False
        self._remove(service_key)
        if names:
            self._put(service_key, names)
        self.serial += 1
        return True

    def covers(self, name: str) -> bool:
        """Whether this zone, and nobody else, answers for a name."""
        if name == self.domain or name.endswith("." + self.domain):
            return True
        if name.endswith((".in-addr.arpa", ".ip6.arpa")):
            address = _address_of_reverse(name)
            return (name, wire.PTR) in self._records or (
                address is not None and any(address in each for each in self._ranges if each.version == address.version)
            )
        return False

    def lookup(self, name: str, kind: int) -> tuple[bytes, ...]:
        """Data of the records of a name, from every service that has some there."""
        sets = self._records.get((name, kind))
        if sets:
            return tuple(data for each in sets.values() for data in each)
        return self._pod(name) if kind == wire.A else ()

    def exists(self, name: str) -> bool:
        """Whether the name, or one below it, has any record: then a missing type is no NXDOMAIN."""
        return name in self._exists or name in self._standing() or bool(self._pod(name))

    def answer(self, query: Query, *, turn: int = 0) -> Answer:
        """The answer to a question that this zone covers. ``turn`` rotates several addresses.

        A CNAME to the outside stands alone in it: the caller looks up the rest (`outside_target`).
        """
        records = self._records_for(query.name, query.kind)
        if records:
            shift = turn % len(records)
            targets = dict.fromkeys(r.data[6:] for r in records if r.kind == wire.SRV)
            extra = tuple(self._addresses(target) for target in targets) if len(targets) <= 20 else ()
            return Answer(
                answers=(*records[shift:], *records[:shift]), additional=tuple(r for each in extra for r in each)
            )
        if alias := self.lookup(query.name, wire.CNAME):
            chain = (Record(query.name, wire.CNAME, TTL, alias[0]),)
            target = _text_of(alias[0])
            return Answer(answers=(*chain, *self._records_for(target, query.kind)))
        authority = (Record(self.domain, wire.SOA, TTL, self._soa()),)
        return Answer(wire.NOERROR if self.exists(query.name) else wire.NXDOMAIN, authority=authority)

    def outside_target(self, answer: Answer) -> str:
        """The name a CNAME of an answer leads to when that is not of this zone, else ""."""
        if len(answer.answers) == 1 and answer.answers[0].kind == wire.CNAME:
            target = _text_of(answer.answers[0].data)
            return "" if self.covers(target) else target
        return ""

    def _records_for(self, name: str, kind: int) -> tuple[Record, ...]:
        if name == self.domain and kind == wire.SOA:
            return (Record(name, wire.SOA, TTL, self._soa()),)
        if name == self.domain and kind == wire.NS:
            return (Record(name, wire.NS, TTL, wire.name_data(f"ns.dns.{self.domain}")),)
        kinds = (wire.A, wire.AAAA, wire.SRV, wire.TXT, wire.PTR) if kind == wire.ANY else (kind,)
        return tuple(Record(name, each, TTL, data) for each in kinds for data in self.lookup(name, each))

    def _addresses(self, target: bytes) -> tuple[Record, ...]:
        name = _text_of(target)
        return tuple(Record(name, kind, TTL, data) for kind in (wire.A, wire.AAAA) for data in self.lookup(name, kind))

    def _standing(self) -> tuple[str, ...]:
        return (self.domain, f"svc.{self.domain}", f"pod.{self.domain}")

    def _pod(self, name: str) -> tuple[bytes, ...]:
        """``10-244-1-7.<ns>.pod.<zone>`` is an address by its spelling, whether or not there is such a pod."""
        if not name.endswith(f".pod.{self.domain}"):
            return ()
        parts = name[: -len(f".pod.{self.domain}")].split(".")
        if len(parts) != 2:
            return ()
        try:
            return (ipaddress.IPv4Address(parts[0].replace("-", ".")).packed,)
        except ValueError:
            return ()

    def _soa(self) -> bytes:
        return wire.soa_data(self.domain, serial=self.serial, minimum=TTL)

    def _put(self, owner: str, names: Names) -> None:
        self._by_service[owner] = names
        for (owned, kind), data in names.items():
            self._records.setdefault((owned, kind), {})[owner] = data
            for above in self._path(owned):
                self._exists[above] = self._exists.get(above, 0) + 1

    def _remove(self, owner: str) -> None:
        for owned, kind in self._by_service.pop(owner, {}):
            sets = self._records[(owned, kind)]
            del sets[owner]
            if not sets:
                del self._records[(owned, kind)]
            for above in self._path(owned):
                self._exists[above] -= 1
                if not self._exists[above]:
                    del self._exists[above]

    def _path(self, name: str) -> list[str]:
        """The name and those above it, up to the zone."""
        found = [name]
        while "." in name and name != self.domain:
            name = name.split(".", 1)[1]
            if name == self.domain or not name.endswith(self.domain):
                break
            found.append(name)
        return found


def _frozen(found: dict[tuple[str, int], list[bytes]]) -> Names:
    return {key: tuple(sorted(data)) for key, data in found.items()}


def _srv_name(port: Obj, base: str) -> str:
    return f"_{port['name']}._{(port.get('protocol') or 'TCP').lower()}.{base}"


def _dashed(ip: str) -> str:
    return ip.replace(".", "-").replace(":", "-")


def _text_of(data: bytes) -> str:
    """The text of an uncompressed name."""
    labels, offset = [], 0
    while length := data[offset]:
        labels.append(data[offset + 1 : offset + 1 + length].decode("latin-1"))
        offset += 1 + length
    return ".".join(labels).lower()


def _address_of_reverse(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        if name.endswith(".in-addr.arpa"):
            return ipaddress.IPv4Address(".".join(reversed(name[: -len(".in-addr.arpa")].split("."))))
        digits = "".join(reversed(name[: -len(".ip6.arpa")].split(".")))
        return ipaddress.IPv6Address(int(digits, 16)) if len(digits) == 32 else None
    except ValueError:
        return None
