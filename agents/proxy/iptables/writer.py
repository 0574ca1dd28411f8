"""Brings rendered services into the kernel, only chains that differ, and puts back what others took.

Knows what it has written; reads the kernel's state only at the start, after a failure and when somebody else has
changed rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agents.network.iptables import Iptables, Rules, Transaction, difference
from agents.proxy.backend import HostView
from agents.proxy.iptables import layout
from agents.proxy.iptables.layout import Fragment
from agents.proxy.model import Family, ServicePort

Key = tuple[str, str]
"""(table, chain)"""


class IptablesWriter:
    """One host's service rules of one family. Not for use by two tasks at once."""

    def __init__(self, iptables: Iptables, host: HostView, family: Family) -> None:
        self._iptables = iptables
        self._host = host
        self._family = family
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        self._fragments: dict[str, tuple[Fragment, ...]] = {}
        self._written: dict[Key, Rules] | None = None
        self._foreign = 0
        self._wanted: dict[Key, Rules] = {}
        self._render_all()

    @property
    def services(self) -> int:
        return len(self._ports)

    def set_host(self, host: HostView) -> None:
        """The next `update` writes what differs."""
        if host != self._host:
            self._host = host
            self._written = None
            self._render_all()

    async def update(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> Transaction:
        """Make the services named in ``changed`` as given (no ports: gone); returns what was written.

        Raises ``IptablesError``; the next call then starts from what the kernel has.
        """
        dirty = self._take(changed)
        if self._written is None:
            return await self.restore()
        transaction = Transaction()
        for table, chain in sorted(dirty):
            rules = self._wanted.get((table, chain))
            if rules is None:
                if (table, chain) in self._written:
                    transaction.drop(table, chain)
            elif self._written.get((table, chain)) != rules:
                transaction.write(table, chain, rules)
        await self._load(transaction)
        for key in dirty:
            if key in self._wanted:
                self._written[key] = self._wanted[key]
            else:
                self._written.pop(key, None)
        return transaction

    async def restore(self) -> Transaction:
        """Compare with what the kernel has and write the difference; stale chains of former runs go."""
        self._written = None
        foreign = self._iptables.foreign_changes()
        state = await self._iptables.state(*layout.TABLES)
        wanted: dict[str, dict[str, Rules]] = {table: {} for table in layout.TABLES}
        for (table, chain), rules in self._wanted.items():
            wanted[table][chain] = rules
        transaction = difference(state, wanted, jumps=layout.JUMPS, owned=layout.owned)
        await self._load(transaction)
        self._written = dict(self._wanted)
        self._foreign = foreign
        return transaction

    async def heal(self) -> Transaction:
        """Cheap when nobody else has touched the host's rules since the last look."""
        if self._written is not None and self._iptables.foreign_changes() == self._foreign:
            return Transaction()
        return await self.restore()

    async def remove_everything(self) -> None:
        """Take away every chain and jump of ours."""
        state = await self._iptables.state(*layout.TABLES)
        transaction = difference(state, {}, owned=layout.owned)
        for jump in layout.JUMPS:
            for _ in range(state[jump.table].get(jump.chain, ()).count(jump.rule)):
                transaction.remove(jump.table, jump.chain, jump.rule)
        await self._iptables.apply(transaction)
        self._written = None

    async def _load(self, transaction: Transaction) -> None:
        try:
            await self._iptables.apply(transaction)
        except BaseException:
            # Also when cancelled: what has reached the kernel is not known any more.
            self._written = None
            raise

    def _render_all(self) -> None:
        static = layout.static_chains(self._family)
        self._wanted = {(table, chain): rules for table, chains in static.items() for chain, rules in chains.items()}
        self._wanted.update(layout.shared_tail(self._host, self._family))
        ports, self._ports, self._fragments = self._ports, {}, {}
        self._take(ports)

    def _take(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> set[Key]:
        """Render what changed into ``_wanted``; returns the chains that may differ now."""
        dirty: set[Key] = set()
        shared: set[Key] = set()
        for service, ports in changed.items():
            if self._ports.get(service, ()) == ports:
                continue
            former = self._fragments.pop(service, ())
            fragments = tuple(layout.render(port, self._host) for port in ports)
            if ports:
                self._ports[service], self._fragments[service] = ports, fragments
            else:
                self._ports.pop(service, None)
            own_before, own_now = _own(former), _own(fragments)
            for key in own_before.keys() - own_now.keys():
                del self._wanted[key]
            self._wanted.update(own_now)
            dirty |= own_before.keys() | own_now.keys()
            shared_before, shared_now = _shared(former), _shared(fragments)
            shared |= {key for key in shared_before.keys() | shared_now.keys()
                       if shared_before.get(key) != shared_now.get(key)}  # fmt: skip
        if shared:
            tails = layout.shared_tail(self._host, self._family)
            order = sorted(self._fragments)
            for key in shared:
                rules = [
                    rule
                    for service in order
                    for fragment in self._fragments[service]
                    for rule in fragment.shared.get(key, ())
                ]
                self._wanted[key] = (*rules, *tails[key])
        return dirty | shared


def _own(fragments: Iterable[Fragment]) -> dict[Key, Rules]:
    return {key: rules for fragment in fragments for key, rules in fragment.own.items()}


def _shared(fragments: Iterable[Fragment]) -> dict[Key, Rules]:
    found: dict[Key, Rules] = {}
    for fragment in fragments:
        for key, rules in fragment.shared.items():
            found[key] = found.get(key, ()) + rules
    return found
