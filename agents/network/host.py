"""What of this host's network is the same whoever wires pods: the device behind the services, forwarding, the rules of
this room, and the one thread in which netlink is spoken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agents.network import firewall
from agents.network.addresses import Lease
from agents.network.iptables import Iptables, IptablesError, difference
from agents.network.ranges import family_of, split
from agents.network.wiring import NetworkError, Wiring

T = TypeVar("T")


class HostSide:
    """``cluster_cidr`` and ``service_cidr`` are a range, or one of each family separated by a comma; families that the
    host does not carry are left out. ``local_addresses`` are addresses of the service range that this host answers
    itself (DNS). Without ``masquerade`` what leaves the cluster is somebody else's business."""

    def __init__(
        self,
        *,
        cluster_cidr: str,
        service_cidr: str,
        local_addresses: Sequence[str] = (),
        iptables: Iptables | None = None,
        masquerade: bool = True,
    ) -> None:
        self.iptables = iptables or Iptables()
        self.families = (4, 6) if self.iptables.ipv6 else (4,)
        self._cluster_ranges = split(cluster_cidr).only(self.families)
        self._service_ranges = split(service_cidr).only(self.families)
        self._local_addresses = tuple(local_addresses)
        self._masquerade = masquerade
        self._rules_lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pod-network")
        self._wiring: Wiring | None = None

    def usable(self, listed: Iterable[str]) -> tuple[str, ...]:
        """Addresses or ranges of the families that this host carries."""
        return tuple(one for one in listed if family_of(one) in self.families)

    def ensure_services(self, wiring: Wiring, *, sources: Iterable[str], families: Iterable[int]) -> None:
        """The device behind the service ranges, and forwarding. ``sources``: one a family, the later ones count."""
        wiring.ensure_service_device(
            service_cidrs=self._service_ranges.ordered,
            sources={family_of(ip): ip for ip in sources}.values(),
            addresses=self._local_addresses,
        )
        wiring.set_sysctls(families)

    async def sync_rules(self, leases: Mapping[str, Lease]) -> None:
        """Make the rules of this room what they should be. Raises ``NetworkError``."""
        async with self._rules_lock:
            for tables in self._tables():
                wanted = firewall.chains(
                    cluster_cidr=self._cluster_ranges.of(tables.family),
                    service_cidr=self._service_ranges.of(tables.family),
                    leases=leases,
                    family=tables.family,
                    masquerade=self._masquerade,
                )
                try:
                    state = await tables.state(*firewall.TABLES)
                    await tables.apply(difference(state, wanted, jumps=firewall.JUMPS, owned=firewall.owned))
                except IptablesError as error:
                    raise NetworkError(f"cannot write the pod network's rules: {error}") from error

    async def remove_rules(self) -> None:
        """Take them all away."""
        for tables in self._tables():
            state = await tables.state(*firewall.TABLES)
            transaction = difference(state, {}, owned=firewall.owned)
            for jump in firewall.JUMPS:
                for _ in range(state[jump.table].get(jump.chain, ()).count(jump.rule)):
                    transaction.remove(jump.table, jump.chain, jump.rule)
            await tables.apply(transaction)

    async def in_thread(self, work: Callable[[Wiring], T]) -> T:
        """Run what blocks, one at a time."""

        def call() -> T:
            if self._wiring is None:
                self._wiring = Wiring()
            return work(self._wiring)

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def close(self) -> None:
        """Stop the thread; the network itself stays as it is."""
        if self._wiring:
            await self.in_thread(lambda wiring: wiring.close())
            self._wiring = None
        self._thread.shutdown(wait=False)

    def _tables(self) -> tuple[Iptables, ...]:
        return (self.iptables, self.iptables.ipv6) if self.iptables.ipv6 else (self.iptables,)
