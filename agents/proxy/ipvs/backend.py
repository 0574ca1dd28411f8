"""Brings services into the kernel's IPVS, only what differs, and puts back what others took.

Order of a change: sets (what is ours is known by them, also after a crash), virtual servers, addresses; what goes, goes
the other way round. Every virtual server a change touches is read before it is written, so what the kernel has counts
and nothing remembered can be wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agents.network.iptables import Iptables, IptablesError, Transaction, difference
from agents.proxy.backend import BackendError, HostView
from agents.proxy.ipvs import host as kernel
from agents.proxy.ipvs import ipset, layout, rules
from agents.proxy.ipvs.layout import Fragment, VirtualKey
from agents.proxy.ipvs.netlink import DEVICE, AddressEvents, HostAddresses, VirtualServers
from agents.proxy.ipvs.plan import Actual, DropVirtual, Operation, draining, plan
from agents.proxy.ipvs.wanted import Entry, Touched, Wanted
from agents.proxy.model import FAMILIES, Family, ServicePort, family_of

T = TypeVar("T")

_OUR_SETS = {layout.set_name(family, name): kind for family in FAMILIES for name, kind in layout.SETS.items()}
_IP_SETS = {layout.set_name(family, layout.IPVS_IPS) for family in FAMILIES}
_PLACES = (*layout.SERVING, layout.NODE_PORT_PLACES)
_NOT_NODES = ("lo", DEVICE, "orca-svc")
"""Interfaces whose addresses are not the node's: loopback, and those that carry services."""
_DRAIN_SECONDS = 10.0
_LOOK_SHARE = 50
"""A full look at the kernel, which tells nobody of changes, takes at most one part in so many of the time."""


class IpvsBackend:
    """One host's service rules in IPVS. See `agents.proxy.backend.Backend`."""

    name = "ipvs"
    heal_seconds = 2.0

    def __init__(self, iptables: Iptables, host: HostView) -> None:
        self._iptables, self._host = iptables, host
        self._ipset = ipset.Ipset()
        self._thread: ThreadPoolExecutor | None = None
        self._own: tuple[str, ...] = ()
        self._node_ports_at: dict[Family, tuple[str, ...]] = {}
        self._wanted = Wanted(self._render)
        self._servers: VirtualServers | None = None
        self._addresses: HostAddresses | None = None
        self._known = False
        """Whether the kernel has everything that was wanted, as far as we know."""
        self._draining: set[VirtualKey] = set()
        self._drain_at = 0.0
        self._look_at = 0.0
        self._foreign = 0
        self._events: AddressEvents | None = None
        self._stirred = False
        """Whether addresses of the host may have changed since they were looked at."""

    @staticmethod
    def problem(scheduler: str = "rr") -> str:
        """What keeps this host from serving in this mode, "" when nothing does."""
        return kernel.problem(scheduler)

    @property
    def services(self) -> int:
        return len(self._wanted.ports)

    async def update(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> int:
        with _errors():
            if not self._known:
                await self._see_addresses()
                self._wanted.take(changed)
                return await self._restore()
            touched = self._wanted.take(changed)
            if not (touched.virtuals or touched.addresses or touched.entries):
                return 0
            return await self._careful(lambda: self._change(touched))

    async def heal(self) -> int:
        with _errors():
            if self._stirred or self._events is None:
                touched = await self._see_addresses()
                if touched is not None and self._known:
                    return await self._careful(lambda: self._change(touched))
            now = time.monotonic()
            if self._draining and now >= self._drain_at:
                self._drain_at = now + _DRAIN_SECONDS
                await self._careful(lambda: self._change(Touched(virtuals=set(self._draining))))
            if self._known and self._iptables.foreign_changes() == self._foreign and now < self._look_at:
                return 0
            return await self._restore()

    async def restore(self) -> int:
        with _errors():
            return await self._restore()

    def listen(self, wake: Callable[[], None]) -> None:
        """Addresses of the host are told of; changes to IPVS and its sets nobody tells."""

        def read() -> None:
            others, lost = events.read()
            self._stirred = self._stirred or others
            if any(self._wanted.has_address(ip) for ip in lost):
                self._look_at = 0.0
            if self._stirred or not self._look_at:
                wake()

        events = self._events = AddressEvents()
        asyncio.get_running_loop().add_reader(events.fileno(), read)

    async def set_host(self, host: HostView) -> None:
        if host != self._host:
            self._host = host
            self._known = False
            self._wanted.render_again()
            # Networks that serve node ports may be others; `update` looks again if this fails.
            with _errors():
                await self._see_addresses()

    async def remove_everything(self) -> None:
        self._known = False
        with _errors():
            for tool in self._tools().values():
                state = await tool.state(*rules.TABLES)
                transaction = difference(state, {}, owned=rules.owned)
                for jump in rules.JUMPS:
                    for _ in range(state[jump.table].get(jump.chain, ()).count(jump.rule)):
                        transaction.remove(jump.table, jump.chain, jump.rule)
                await tool.apply(transaction)
            kinds, entries = await self._ipset.state()
            await self._blocking(lambda: self._remove_servers(entries))
            await self._ipset.apply(ipset.transaction(destroy=[name for name in kinds if name in _OUR_SETS]))
            await self._blocking(lambda: self._kernel_addresses().remove_device())

    def close(self) -> None:
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events.fileno())
            self._events.close()
            self._events = None
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        for each in (self._servers, self._addresses):
            if each is not None:
                each.close()
        # Whoever goes on with it, to remove everything, gets new ones.
        self._thread = self._servers = self._addresses = None

    # --- a change ----------------------------------------------------------------------------------------------------

    async def _change(self, touched: Touched) -> int:
        wanted = self._wanted
        here = {entry for entry in touched.entries if wanted.has_entry(entry)}
        gone = touched.entries - here
        await self._ipset.apply(ipset.transaction(add=here))
        keep = {address for address in touched.addresses if wanted.has_address(address)}

        def write() -> int:
            addresses = self._kernel_addresses()
            if _announced(here):
                kernel.settle(strict_arp=True)
            addresses.change(remove=touched.addresses - keep)
            written = self._write_servers(touched.virtuals)
            addresses.change(add=keep)
            return written

        written = await self._blocking(write)
        await self._ipset.apply(ipset.transaction(remove=gone))
        return written + len(touched.entries) + len(touched.addresses)

    def _write_servers(self, keys: Iterable[VirtualKey]) -> int:
        servers = self._kernel_servers()
        operations: list[Operation] = []
        for key in keys:
            actual, virtual = servers.get(key), self._wanted.virtual(key)
            operations += plan(key, virtual, actual)
            self._note(key, actual)
        servers.apply(operations)
        return len(operations)

    def _note(self, key: VirtualKey, actual: Actual | None) -> None:
        if draining(self._wanted.virtual(key), actual, key):
            self._draining.add(key)
        else:
            self._draining.discard(key)

    # --- everything --------------------------------------------------------------------------------------------------

    async def _restore(self) -> int:
        began = time.monotonic()
        foreign = self._iptables.foreign_changes()
        written = await self._careful(self._compare)
        self._foreign, self._known = foreign, True
        now = time.monotonic()
        self._look_at = now + max(self.heal_seconds, (now - began) * _LOOK_SHARE)
        return written

    async def _compare(self) -> int:
        await self._blocking(self._prepare)
        kinds, entries = await self._ipset.state()
        ours = {entry for entry in entries if entry[0] in _OUR_SETS}
        missing = {name: kind for name, kind in _OUR_SETS.items() if name not in kinds}
        wanted = self._wanted.entries
        await self._ipset.apply(
            ipset.transaction(
                create={name: ipset.options(kind, ipv6=name.startswith("KUBE-6-")) for name, kind in missing.items()},
                add=wanted - ours,
            )
        )
        chains = await self._write_rules()
        changes = await self._blocking(lambda: self._compare_servers(ours))
        await self._ipset.apply(ipset.transaction(remove=ours - wanted))
        return len(missing) + len(wanted ^ ours) + chains + changes

    def _prepare(self) -> None:
        self._kernel_addresses().ensure_device()
        kernel.settle(strict_arp=self._host.ipvs_strict_arp or _announced(self._wanted.entries))

    def _compare_servers(self, ours: set[Entry]) -> int:
        """Virtual servers and addresses; of what the kernel has only what is ours is touched."""
        servers, addresses = self._kernel_servers(), self._kernel_addresses()
        here = addresses.all()
        bound = here.get(DEVICE, set())
        owned = _Owned(ours, bound, self._host.ipvs_exclude_cidrs)
        operations: list[Operation] = []
        there = servers.found()
        for key in {*self._wanted.virtuals, *(key for key in there if key in owned)}:
            actual = servers.filled(key, there[key]) if key in there else None
            operations += plan(key, self._wanted.virtual(key), actual)
            self._note(key, actual)
        servers.apply(operations)
        wanted = self._wanted.addresses
        strangers = {ip for ip in bound - wanted if not ipaddress.ip_address(ip).is_link_local}
        addresses.change(add=wanted - bound, remove=strangers)
        return len(operations) + len(wanted - bound) + len(strangers)

    async def _write_rules(self) -> int:
        written = 0
        for family, tool in self._tools().items():
            wanted = rules.chains(
                family, cluster_cidr=self._host.cluster_cidr(family), masquerade_all=self._host.masquerade_all
            )
            transaction: Transaction = difference(
                await tool.state(*rules.TABLES), wanted, jumps=rules.JUMPS, owned=rules.owned
            )
            await tool.apply(transaction)
            written += transaction.chains_touched
        return written

    def _remove_servers(self, entries: set[Entry]) -> None:
        addresses = self._kernel_addresses()
        here = addresses.all()
        owned = _Owned(entries, here.get(DEVICE, set()), self._host.ipvs_exclude_cidrs)
        # Without IPVS in the kernel there can be none of ours.
        with contextlib.suppress(FileNotFoundError):
            servers = self._kernel_servers()
            servers.apply([DropVirtual(key) for key in servers.found() if key in owned])

    # --- the host ----------------------------------------------------------------------------------------------------

    async def _see_addresses(self) -> Touched | None:
        """Learn the host's addresses; when one has come or gone, what that changes: node ports are served on them."""
        self._stirred = False
        try:
            moved = await self._blocking(self._look_around)
        except BaseException:
            self._stirred = True
            raise
        return self._wanted.render_again() if moved else None

    def _look_around(self) -> bool:
        """Learn the host's addresses; returns whether they are others than before."""
        found = {ip for name, ips in self._kernel_addresses().all().items() if name not in _NOT_NODES for ip in ips}
        own = tuple(sorted(ip for ip in found if not ipaddress.ip_address(ip).is_link_local))
        at: dict[Family, tuple[str, ...]] = {}
        for family in FAMILIES:
            ours = tuple(ip for ip in own if family_of(ip) == family)
            networks = self._host.node_port_networks(family)
            if networks is not None:
                ranges = [ipaddress.ip_network(network) for network in networks]
                ours = tuple(ip for ip in ours if any(ipaddress.ip_address(ip) in each for each in ranges))
            at[family] = ours
        changed = (own, at) != (self._own, self._node_ports_at)
        self._own, self._node_ports_at = own, at
        return changed

    def _render(self, port: ServicePort) -> Fragment:
        if port.family == 6 and not self._iptables.ipv6:
            return Fragment()
        return layout.render(port, self._host, self._own, self._node_ports_at.get(port.family, ()))

    def _tools(self) -> dict[Family, Iptables]:
        tools: dict[Family, Iptables] = {4: self._iptables}
        if self._iptables.ipv6:
            tools[6] = self._iptables.ipv6
        return tools

    # --- the kernel --------------------------------------------------------------------------------------------------

    def _kernel_servers(self) -> VirtualServers:
        if self._servers is None:
            self._servers = VirtualServers()
        return self._servers

    def _kernel_addresses(self) -> HostAddresses:
        if self._addresses is None:
            self._addresses = HostAddresses()
        return self._addresses

    async def _blocking(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "ipvs")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _careful(self, work: Callable[[], Awaitable[int]]) -> int:
        try:
            return await work()
        except BaseException:
            # Also when cancelled: what has reached the kernel is not known any more.
            self._known = False
            raise


def _announced(entries: set[Entry]) -> bool:
    """Whether there are addresses of load balancers, for which one host of all that carry them is to answer ARP."""
    return any(name == layout.set_name(4, layout.LOAD_BALANCER) for name, _ in entries)


class _Owned:
    """Which of the kernel's virtual servers are ours: our sets say so, and addresses of our device."""

    def __init__(self, entries: set[Entry], bound: set[str], excluded: Iterable[str]) -> None:
        self._entries = entries
        self._ips = bound | {entry for name, entry in entries if name in _IP_SETS}
        self._excluded = [ipaddress.ip_network(network, strict=False) for network in excluded]

    def __contains__(self, key: VirtualKey) -> bool:
        address = ipaddress.ip_address(key.address)
        if any(address in network for network in self._excluded):
            return False
        family, place = family_of(key.address), f"{key.address},{key.protocol.lower()}:{key.port}"
        return key.address in self._ips or any(
            (layout.set_name(family, name), place) in self._entries for name in _PLACES
        )


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """What tools and netlink raise, as what a backend does."""
    try:
        yield
    except (IptablesError, OSError) as error:
        raise BackendError(str(error)) from error
