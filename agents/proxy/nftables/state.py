"""All services of one address family, and what a change of some means for the table in the kernel. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from agents.network.nftables.sets import Element
from agents.network.nftables.wire import BaseChain, Batch, digest
from agents.proxy.backend import HostView
from agents.proxy.model import Family, ServicePort
from agents.proxy.nftables import layout
from agents.proxy.nftables.render import Fragment, Place, frontends, merged

T = TypeVar("T", bound="str | Place")

_NETLINK_FAMILY: dict[Family, int] = {4: 2, 6: 10}
"""AF_INET and AF_INET6: nf_tables has the same numbers."""


@dataclass(slots=True)
class Observed:
    """What the kernel has of our table. ``chains``: None for one that no hook leads to; ``rules``: our notes in them,
    b"" for a rule of somebody else; ``sets``: `SetType.shape`; ``elements`` only of sets that packets do not fill."""

    chains: dict[str, BaseChain | None] = field(default_factory=dict)
    rules: dict[str, list[bytes]] = field(default_factory=dict)
    sets: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    elements: dict[Place, Element] = field(default_factory=dict)


class Services:
    """The services of one family. Two may claim one address and port (external addresses, or one that goes and one that
    comes); the first by name has it."""

    def __init__(self, host: HostView, family: Family) -> None:
        self.family = family
        self._host = host
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        self._claims: dict[bytes, tuple[str, ...]] = {}
        self._shared: Counter[Place] = Counter()
        self._chains: Counter[str] = Counter()

    def set_host(self, host: HostView) -> None:
        """The kernel has to be compared afterwards (`restore`)."""
        self._host = host

    def take(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> Batch:
        """These services are now so; what that changes in a table that was right before."""
        changed = {service: ports for service, ports in changed.items() if self._ports.get(service, ()) != ports}
        affected = set(changed)
        for service, ports in changed.items():
            for port in (*self._ports.get(service, ()), *ports):
                for key in frontends(port):
                    affected.update(self._claims.get(key, ()))
        old = Fragment()
        chains_before, shared_before = Counter[str](), Counter[Place]()
        for service in affected:
            fragment = self._fragment(service)
            old.add(fragment)
            chains_before.update(fragment.chains.keys())
            shared_before.update(fragment.shared.keys())
        self.learn(changed)
        new = Fragment()
        chains_now, shared_now = Counter[str](), Counter[Place]()
        for service in affected:
            fragment = self._fragment(service)
            new.add(fragment)
            chains_now.update(fragment.chains.keys())
            shared_now.update(fragment.shared.keys())
        new_chains, gone_chains = _counted(self._chains, chains_before, chains_now)
        new_shared, gone_shared = _counted(self._shared, shared_before, shared_now)
        return self._difference(old, new, new_chains, gone_chains, new_shared, gone_shared)

    def learn(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> None:
        """These services are now so; `restore` or `rebuild` will say what that means."""
        for service, ports in changed.items():
            self._release(service)
            if ports:
                self._ports[service] = ports
                for port in ports:
                    for key in frontends(port):
                        others = self._claims.get(key, ())
                        if service not in others:
                            self._claims[key] = tuple(sorted((*others, service)))

    def rebuild(self) -> Batch:
        """The whole table, whatever was there."""
        batch = Batch(_NETLINK_FAMILY[self.family], layout.TABLE)
        batch.add_table()
        batch.delete_table()
        batch.add_table()
        wanted = self.wanted()
        sets = {**layout.sets(self.family), **wanted.sets}
        for name, kind in sets.items():
            batch.add_set(name, kind)
        for name in wanted.chains:
            batch.add_chain(name, layout.BASE_CHAINS.get(name))
        for name, rules in wanted.chains.items():
            for rule in rules:
                batch.add_rule(name, rule)
        for name, elements in _by_set(wanted.elements).items():
            batch.add_elements(name, elements)
        return batch

    def restore(self, there: Observed) -> Batch | None:
        """What turns ``there`` into what should be; None when that cannot be said in parts."""
        wanted = self.wanted()
        sets = {**layout.sets(self.family), **wanted.sets}
        if any(there.sets.get(name, kind.shape) != kind.shape for name, kind in sets.items()):
            return None
        if any(there.chains.get(name, layout.BASE_CHAINS.get(name)) != layout.BASE_CHAINS.get(name)
               for name in wanted.chains):  # fmt: skip
            return None
        batch = Batch(_NETLINK_FAMILY[self.family], layout.TABLE)
        for name in sets.keys() - there.sets.keys():
            batch.add_set(name, sets[name])
        new = wanted.chains.keys() - there.chains.keys()
        gone = there.chains.keys() - wanted.chains.keys()
        wrong = {
            name
            for name in wanted.chains.keys() & there.chains.keys()
            if there.rules.get(name, []) != [digest(rule) for rule in wanted.chains[name]]
        }
        for name in new:
            batch.add_chain(name, layout.BASE_CHAINS.get(name))
        for name in sorted(wrong | gone):
            if there.rules.get(name):
                batch.flush_chain(name)
        for name in sorted(new | wrong):
            for rule in wanted.chains[name]:
                batch.add_rule(name, rule)
        known = {place: element for place, element in there.elements.items() if place[0] in sets}
        _write_elements(batch, known, wanted.elements)
        for name in sorted(gone):
            batch.delete_chain(name)
        for name in sorted(there.sets.keys() - sets.keys()):
            batch.delete_set(name)
        return batch

    def wanted(self) -> Fragment:
        """The whole table: of all that `Fragment` names, ``shared`` is among ``elements``."""
        found = Fragment(chains=layout.chains(self._host, self.family))
        self._chains.clear()
        self._shared.clear()
        for service in self._ports:
            fragment = self._fragment(service)
            found.add(fragment)
            self._chains.update(fragment.chains.keys())
            self._shared.update(fragment.shared.keys())
        found.elements.update(found.shared)
        found.shared = {}
        return found

    def static_sets(self) -> frozenset[str]:
        """Sets whose elements are ours, and not of packets."""
        return frozenset(layout.sets(self.family))

    def _fragment(self, service: str) -> Fragment:
        ports = self._ports.get(service, ())
        taken = [
            key
            for port in ports
            for key in frontends(port)
            if len(claims := self._claims[key]) > 1 and claims[0] != service
        ]
        return merged(ports, self._host, taken)

    def _release(self, service: str) -> None:
        for port in self._ports.pop(service, ()):
            for key in frontends(port):
                left = tuple(other for other in self._claims.get(key, ()) if other != service)
                if left:
                    self._claims[key] = left
                else:
                    self._claims.pop(key, None)

    def _difference(
        self,
        old: Fragment,
        new: Fragment,
        new_chains: set[str],
        gone_chains: set[str],
        new_shared: set[Place],
        gone_shared: set[Place],
    ) -> Batch:
        batch = Batch(_NETLINK_FAMILY[self.family], layout.TABLE)
        for name in new.sets.keys() - old.sets.keys():
            batch.add_set(name, new.sets[name])
        for name in sorted(new_chains):
            batch.add_chain(name)
        changed = {
            name
            for name in old.chains.keys() & new.chains.keys()
            if name not in new_chains and old.chains[name] != new.chains[name]
        }
        for name in sorted(changed | gone_chains):
            if old.chains[name]:
                batch.flush_chain(name)
        for name in sorted(changed | new_chains):
            for rule in new.chains[name]:
                batch.add_rule(name, rule)
        before = {**old.elements, **{place: old.shared[place] for place in gone_shared}}
        after = {**new.elements, **{place: new.shared[place] for place in new_shared}}
        _write_elements(batch, before, after)
        for name in sorted(gone_chains):
            batch.delete_chain(name)
        for name in sorted(old.sets.keys() - new.sets.keys()):
            batch.delete_set(name)
        return batch


def _counted(total: Counter[T], before: Counter[T], now: Counter[T]) -> tuple[set[T], set[T]]:
    """Bring the count up to date; returns what is named for the first time, and what nobody names any more."""
    new, gone = set(), set()
    for name in before.keys() | now.keys():
        was = total[name]
        count = was - before[name] + now[name]
        if count:
            total[name] = count
        else:
            del total[name]
        if count and not was:
            new.add(name)
        elif was and not count:
            gone.add(name)
    return new, gone


def _write_elements(batch: Batch, before: Mapping[Place, Element], after: Mapping[Place, Element]) -> None:
    """First what goes, then what comes: an element that changes does both."""
    gone = {place: element for place, element in before.items() if after.get(place) != element}
    new = {place: element for place, element in after.items() if before.get(place) != element}
    for name, elements in _by_set(gone).items():
        batch.delete_elements(name, elements)
    for name, elements in _by_set(new).items():
        batch.add_elements(name, elements)


def _by_set(elements: Mapping[Place, Element]) -> dict[str, Iterable[Element]]:
    found: dict[str, list[Element]] = {}
    for (name, _), element in elements.items():
        found.setdefault(name, []).append(element)
    return dict(found)
