"""The cluster's names in memory. Pure; changed a Service at a time, and nothing of it computed before it is asked for.

Besides those of Services (`records.py`):

<a>-<b>-<c>-<d>.<ns>.pod.<zone>   A of whatever that spells (also AAAA), in namespaces that exist (CoreDNS's "insecure")
dns-version.<zone>                TXT
<zone>, ns.dns.<zone>             SOA, NS, and the addresses of the nameserver

A name is there when it has a record or one below it has: without a record of the type asked for it has no data, which
is not the same as not being there.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agents.dns import wire
from agents.dns.records import RecordSets, pointers, record_sets
from agents.dns.wire import Answer, Record
from orca.api.objects import Obj, namespace

TTL = 30
"""Seconds; as kubeadm's Corefile has it."""
NEGATIVE_TTL = 5
"""Seconds; what is not there may come any moment."""
SCHEMA_VERSION = "1.1.0"
REMEMBERED = 2000
"""Services whose records are kept once somebody has asked."""
LONGEST_CHAIN = 8
_NONE: RecordSets = {}
_REVERSE = (".in-addr.arpa", ".ip6.arpa")


@dataclass(frozen=True, slots=True)
class _Known:
    service: Obj
    slices: tuple[Obj, ...]
    reverse: tuple[str, ...]
    """Reverse names of it; what they lead to is computed when somebody asks."""


class Zone:
    """``addresses`` are the nameserver's own, ``local_ranges`` those whose reverse names are ours. ``serial`` is where
    that of the SOA begins: the time, so that it goes on after a restart."""

    def __init__(
        self,
        domain: str = "cluster.local",
        *,
        addresses: Sequence[str] = (),
        local_ranges: Sequence[str] = (),
        serial: int = 1,
    ) -> None:
        self.domain = domain.strip(".").lower()
        self.serial = serial
        self._suffix = "." + self.domain
        self._addresses = tuple(addresses)
        self._ranges = [ipaddress.ip_network(each) for each in local_ranges]
        self._services: dict[str, _Known] = {}
        self._reverse: dict[str, tuple[str, ...]] = {}
        """Reverse name -> Services ("namespace/name") that have it, nearly always one."""
        self._namespaces: dict[str, int] = {}
        self._sets: OrderedDict[str, tuple[RecordSets, frozenset[str]]] = OrderedDict()
        own: RecordSets = {(f"dns-version.{self.domain}", wire.TXT): (wire.txt_data(SCHEMA_VERSION),)}
        server = f"ns.dns.{self.domain}"
        for kind, data in map(wire.ip_data, addresses):
            own[server, kind] = (*own.get((server, kind), ()), data)
        own[self.domain, wire.NS] = (wire.name_data(server),)
        self._own = own
        self._standing = {self.domain, f"svc.{self.domain}", f"pod.{self.domain}", f"dns.{self.domain}"}
        self._standing.update(name for name, _ in own)

    def __repr__(self) -> str:
        return f"<Zone {self.domain} serial {self.serial}, {len(self._services)} services>"

    # --- what is known -----------------------------------------------------------------------------------------------

    def put(self, service_key: str, service: Obj | None, slices: Collection[Obj] = ()) -> None:
        """What is known of a Service ("namespace/name") from now on; None: it is gone.

        Raises ValueError (or KeyError, TypeError) for one that cannot be understood; it has no names then.
        """
        self.serial += 1
        self._sets.pop(service_key, None)
        former = self._services.pop(service_key, None)
        if former is not None:
            self._leave(namespace(former.service))
            for pointer in former.reverse:
                others = tuple(each for each in self._reverse[pointer] if each != service_key)
                if others:
                    self._reverse[pointer] = others
                else:
                    del self._reverse[pointer]
        if service is None:
            return
        reverse = tuple(pointers(service, slices, self.domain))
        self._services[service_key] = _Known(service, tuple(slices), reverse)
        self.namespace_is(namespace(service))
        for name in reverse:
            self._reverse[name] = (*self._reverse.get(name, ()), service_key)

    def namespace_is(self, name: str) -> None:
        """Somebody knows of a namespace: it exists until each has said that it does not know of it any more."""
        self._namespaces[name] = self._namespaces.get(name, 0) + 1

    def namespace_gone(self, name: str) -> None:
        self._leave(name)
        self.serial += 1

    def _leave(self, name: str) -> None:
        left = self._namespaces.get(name, 0) - 1
        if left > 0:
            self._namespaces[name] = left
        else:
            self._namespaces.pop(name, None)

    def owner_of(self, name: str, answer: Answer) -> str:
        """The one Service ("namespace/name") that an answer depends on; "" when others may change it too."""
        labels = self._labels(name)
        if len(labels) < 3 or labels[-1] != "svc" or any(record.kind == wire.CNAME for record in answer.answers):
            return ""
        return f"{labels[-2]}/{labels[-3]}"

    # --- answers -----------------------------------------------------------------------------------------------------

    def covers(self, name: str) -> bool:
        """Whether this zone, and nobody else, answers for a name."""
        if name.endswith(self._suffix) or name == self.domain:
            return True
        if name.endswith(_REVERSE):
            address = _address_of_reverse(name)
            return name in self._reverse or (
                address is not None and any(address in each for each in self._ranges if each.version == address.version)
            )
        return False

    def answer(self, name: str, kind: int) -> Answer:
        """The answer to a question that this zone covers.

        One that ends in an alias to the outside is not whole: the caller looks up the rest (`outside_target`).
        """
        chain: list[Record] = []
        records = self._records(name, kind)
        while not records and kind not in (wire.CNAME, wire.ANY):
            alias = self._lookup(name, wire.CNAME)
            if not alias or len(chain) == LONGEST_CHAIN:
                break
            chain.append(Record(name, wire.CNAME, TTL, alias[0]))
            name = wire.name_text(alias[0])
            if not self.covers(name):
                return Answer(answers=tuple(chain))
            if any(record.name == name for record in chain):
                break
            records = self._records(name, kind)
        if records:
            return Answer(answers=(*chain, *records), additional=self._additional(records))
        authority = (self._soa(name, NEGATIVE_TTL),)
        rcode = wire.NOERROR if self.exists(name) else wire.NXDOMAIN
        return Answer(rcode, answers=tuple(chain), authority=authority)

    def outside_target(self, answer: Answer) -> str:
        """The name of the outside that an answer ends in, else ""."""
        last = answer.answers[-1] if answer.answers else None
        if last is None or last.kind != wire.CNAME or answer.authority:
            return ""
        target = wire.name_text(last.data)
        return "" if self.covers(target) else target

    def exists(self, name: str) -> bool:
        """Whether the name, or one below it, has any record."""
        if name in self._standing or name in self._reverse:
            return True
        labels = self._labels(name)
        if not labels or labels[-1] not in ("svc", "pod"):
            return False
        if len(labels) == 2:
            return labels[0] in self._namespaces
        if labels[-1] == "pod":
            return len(labels) == 3 and self._pod(labels) is not None
        return name in self._of_service(labels)[1]

    def _records(self, name: str, kind: int) -> tuple[Record, ...]:
        if kind == wire.SOA and name == self.domain:
            return (self._soa(name, TTL),)
        return tuple(Record(name, kind, TTL, data) for data in self._lookup(name, kind))

    def _lookup(self, name: str, kind: int) -> tuple[bytes, ...]:
        own = self._own.get((name, kind))
        if own is not None:
            return own
        if kind == wire.PTR and name in self._reverse:
            owners = (self._services[service_key] for service_key in self._reverse[name])
            names = (target for one in owners for target in pointers(one.service, one.slices, self.domain)[name])
            return tuple(map(wire.name_data, dict.fromkeys(names)))
        labels = self._labels(name)
        if len(labels) < 3:
            return ()
        if labels[-1] == "pod":
            pod = self._pod(labels)
            return (pod[1],) if pod is not None and pod[0] == kind else ()
        return self._of_service(labels)[0].get((name, kind), ())

    def _additional(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Addresses of what SRV and NS records name."""
        targets: dict[str, None] = {}
        for record in records:
            if record.kind == wire.SRV:
                targets[wire.name_text(record.data, 6)] = None
            elif record.kind == wire.NS:
                targets[wire.name_text(record.data)] = None
        return tuple(
            record for target in targets for kind in (wire.A, wire.AAAA) for record in self._records(target, kind)
        )

    def _labels(self, name: str) -> list[str]:
        """Those below the zone; none for a name of elsewhere."""
        return name[: -len(self._suffix)].split(".") if name.endswith(self._suffix) else []

    def _of_service(self, labels: Sequence[str]) -> tuple[RecordSets, frozenset[str]]:
        """(records, names that are there) of the Service that a name of three labels or more is about."""
        if labels[-1] != "svc":
            return _NONE, frozenset()
        service_key = f"{labels[-2]}/{labels[-3]}"
        known = self._sets.get(service_key)
        if known is not None:
            self._sets.move_to_end(service_key)
            return known
        found = self._services.get(service_key)
        if found is None:
            return _NONE, frozenset()
        sets = record_sets(found.service, found.slices, self.domain)
        base = f"{labels[-3]}.{labels[-2]}.svc.{self.domain}"
        names = {base} if sets else set()
        for name, _ in sets:
            while len(name) > len(base):
                names.add(name)
                name = name.split(".", 1)[1]
        self._sets[service_key] = sets, frozenset(names)
        if len(self._sets) > REMEMBERED:
            self._sets.popitem(last=False)
        return self._sets[service_key]

    def _pod(self, labels: Sequence[str]) -> tuple[int, bytes] | None:
        """``10-244-1-7.<ns>.pod`` is an address by its spelling, whether or not there is such a pod."""
        if len(labels) != 3 or labels[1] not in self._namespaces:
            return None
        text = labels[0]
        plain = text.count("-") == 3 and "--" not in text
        try:
            return wire.ip_data(text.replace("-", "." if plain else ":"))
        except ValueError:
            return None

    def _soa(self, name: str, ttl: int) -> Record:
        owner = next((each[1:] for each in _REVERSE if name.endswith(each)), self.domain)
        data = wire.soa_data(owner, serial=self.serial, minimum=NEGATIVE_TTL, server=self.domain)
        return Record(owner, wire.SOA, ttl, data)


def _address_of_reverse(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        if name.endswith(".in-addr.arpa"):
            return ipaddress.IPv4Address(".".join(reversed(name[: -len(".in-addr.arpa")].split("."))))
        digits = "".join(reversed(name[: -len(".ip6.arpa")].split(".")))
        return ipaddress.IPv6Address(int(digits, 16)) if len(digits) == 32 else None
    except ValueError:
        return None
