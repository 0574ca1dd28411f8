"""`NftablesBackend`: keeps the tables of both families as the services are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from agents.network.iptables import Iptables
from agents.network.nftables import Batch, Kernel, NftablesError
from agents.network.ranges import host_has_ipv6
from agents.proxy.backend import BackendError, HostView
from agents.proxy.model import Family, ServicePort
from agents.proxy.nftables.layout import TABLE
from agents.proxy.nftables.reading import read
from agents.proxy.nftables.state import Services

log = structlog.get_logger()
T = TypeVar("T")

_NETLINK_FAMILY: dict[Family, int] = {4: 2, 6: 10}


class NftablesBackend:
    """See `agents.proxy.backend.Backend`. The kernel's work is done in a thread of its own, in order.

    ``iptables`` is told of our commits: the kernel counts them together with those of its tools.
    """

    name = "nftables"
    heal_seconds = 2.0

    def __init__(self, iptables: Iptables, host: HostView) -> None:
        self._iptables = iptables
        self._host = host
        families: tuple[Family, ...] = (4, 6) if host_has_ipv6() else (4,)
        self._families = {family: Services(host, family) for family in families}
        self._names: set[str] = set()
        self._known = False
        """Whether the kernel has what we think."""
        self._touched = False
        """Whether somebody else has touched our tables since we looked at them."""
        self._kernel: Kernel | None = None
        self._watched: int | None = None
        self._thread: ThreadPoolExecutor | None = None

    @staticmethod
    def problem() -> str:
        """Why this kernel cannot serve with nftables, "" when it can. It is asked with the very tables."""
        try:
            kernel = Kernel()
        except NftablesError as error:
            return str(error.strerror)
        try:
            for family in (4, 6) if host_has_ipv6() else (4,):
                kernel.check(Services(HostView(), family).rebuild())
        except NftablesError as error:
            return str(error.strerror)
        finally:
            kernel.close()
        return ""

    @property
    def services(self) -> int:
        return len(self._names)

    async def update(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> int:
        self._names |= {service for service, ports in changed.items() if ports}
        self._names -= {service for service, ports in changed.items() if not ports}

        def work(kernel: Kernel) -> int:
            of_family = {
                family: {service: tuple(p for p in ports if p.family == family) for service, ports in changed.items()}
                for family in self._families
            }
            if not self._known:
                for family, services in self._families.items():
                    services.learn(of_family[family])
                return self._restore(kernel)
            self._known = False
            batches = [services.take(of_family[family]) for family, services in self._families.items()]
            for batch in batches:
                kernel.commit(batch)
            self._known = True
            return sum(batch.count for batch in batches)

        return await self._do(work)

    def listen(self, wake: Callable[[], None]) -> None:
        if self._watched is not None:
            return

        def look() -> None:
            # All of it is read here: what stayed would call us again at once.
            if self._reach().others_touched(TABLE):
                self._touched = True
                wake()

        try:
            self._watched = self._reach().listen()
            asyncio.get_running_loop().add_reader(self._watched, look)
        except OSError as error:
            log.warning("changes of service rules by others are not heard of", error=str(error))

    async def heal(self) -> int:
        if self._known and not self._touched and self._watched is not None:
            return 0
        return await self.restore()

    async def restore(self) -> int:
        """`heal`, whether or not anybody seems to have changed anything."""
        return await self._do(self._restore)

    async def set_host(self, host: HostView) -> None:
        if host != self._host:
            self._host = host
            self._known = False
            for services in self._families.values():
                services.set_host(host)

    async def remove_everything(self) -> None:
        def work(kernel: Kernel) -> int:
            self._known = False
            for family in _NETLINK_FAMILY.values():
                if TABLE in kernel.tables(family):
                    batch = Batch(family, TABLE)
                    batch.delete_table()
                    kernel.commit(batch)
            return 0

        await self._do(work)

    def close(self) -> None:
        if self._watched is not None:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None
        if self._thread is not None:
            # What it has begun is done in moments, and the socket must not go before.
            self._thread.shutdown()
            self._thread = None
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def _restore(self, kernel: Kernel) -> int:
        """Compare with what the kernel has and write the difference, of each family in one transaction."""
        count = 0
        self._touched = False
        for family, services in self._families.items():
            there = read(kernel, _NETLINK_FAMILY[family], services.static_sets())
            batch = services.restore(there) if there is not None else None
            if batch is not None:
                try:
                    kernel.commit(batch)
                except NftablesError as error:
                    # Somebody has put things of his own into our table that hold on to ours.
                    log.warning("the table of services is made anew", error=str(error))
                    batch = None
            if batch is None:
                batch = services.rebuild()
                kernel.commit(batch)
            count += batch.count
        self._known = True
        return count

    async def _do(self, work: Callable[[Kernel], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            kernel = self._reach()
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="nftables")
            async with self._iptables.own_commits() as own:
                before = kernel.commits
                try:
                    return await loop.run_in_executor(self._thread, work, kernel)
                finally:
                    own.count = kernel.commits - before
        except OSError as error:
            raise BackendError(str(error)) from error

    def _reach(self) -> Kernel:
        if self._kernel is None:
            self._kernel = Kernel()
        return self._kernel
