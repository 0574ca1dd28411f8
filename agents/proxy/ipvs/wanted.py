"""All services together as the kernel should have them; knows what a change touches. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from agents.proxy.ipvs.layout import Fragment, Virtual, VirtualKey
from agents.proxy.model import ServicePort

T = TypeVar("T")
Entry = tuple[str, str]
"""(set, entry)"""


@dataclass(slots=True)
class Touched:
    """What may differ after a change."""

    virtuals: set[VirtualKey] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    entries: set[Entry] = field(default_factory=set)


class Wanted:
    """Counts who needs what: two services may share an address, an endpoint, even (by mistake) a virtual server,
    which then belongs to the one that comes first by name."""

    def __init__(self, render: Callable[[ServicePort], Fragment]) -> None:
        self._render = render
        self.ports: dict[str, tuple[ServicePort, ...]] = {}
        self._fragments: dict[str, tuple[Fragment, ...]] = {}
        self._claims: dict[VirtualKey, dict[str, Virtual]] = {}
        self._addresses: Counter[str] = Counter()
        self._entries: Counter[Entry] = Counter()

    @property
    def addresses(self) -> set[str]:
        return set(self._addresses)

    @property
    def entries(self) -> set[Entry]:
        return set(self._entries)

    @property
    def virtuals(self) -> Iterable[VirtualKey]:
        return self._claims.keys()

    def virtual(self, key: VirtualKey) -> Virtual | None:
        claims = self._claims.get(key)
        return claims[min(claims)] if claims else None

    def has_address(self, address: str) -> bool:
        return address in self._addresses

    def has_entry(self, entry: Entry) -> bool:
        return entry in self._entries

    def take(self, changed: Mapping[str, tuple[ServicePort, ...]], *, force: bool = False) -> Touched:
        """Make these services as given (no ports: gone); ``force``: render also those that are as they were."""
        touched = Touched()
        # Until the end: what was there before, and what was not.
        same_addresses: set[str] = set()
        same_entries: set[Entry] = set()
        for service, ports in changed.items():
            if not force and self.ports.get(service, ()) == ports:
                continue
            former = self._fragments.pop(service, ())
            fragments = tuple(self._render(port) for port in ports)
            for fragment in (*former, *fragments):
                for address in fragment.addresses - touched.addresses - same_addresses:
                    (same_addresses if address in self._addresses else touched.addresses).add(address)
                for entry in fragment.entries - touched.entries - same_entries:
                    (same_entries if entry in self._entries else touched.entries).add(entry)
            if ports:
                self.ports[service], self._fragments[service] = ports, fragments
            else:
                self.ports.pop(service, None)
            for fragment in former:
                self._drop(service, fragment, touched)
            for fragment in fragments:
                self._add(service, fragment, touched)
        touched.addresses = {
            a for a in touched.addresses if a in self._addresses
        } | same_addresses - self._addresses.keys()
        touched.entries = {e for e in touched.entries if e in self._entries} | same_entries - self._entries.keys()
        return touched

    def render_again(self) -> Touched:
        """After something of the host has changed."""
        return self.take(dict(self.ports), force=True)

    def _drop(self, service: str, fragment: Fragment, touched: Touched) -> None:
        for key in fragment.virtuals:
            if claims := self._claims.get(key):
                claims.pop(service, None)
                if not claims:
                    del self._claims[key]
            touched.virtuals.add(key)
        _subtract(self._addresses, fragment.addresses)
        _subtract(self._entries, fragment.entries)

    def _add(self, service: str, fragment: Fragment, touched: Touched) -> None:
        for key, virtual in fragment.virtuals.items():
            self._claims.setdefault(key, {})[service] = virtual
            touched.virtuals.add(key)
        self._addresses.update(fragment.addresses)
        self._entries.update(fragment.entries)


def _subtract(counter: Counter[T], items: Iterable[T]) -> None:
    for item in items:
        counter[item] -= 1
        if not counter[item]:
            del counter[item]
