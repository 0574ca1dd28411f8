"""`IptablesBackend`: the services of both families through iptables and ip6tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from agents.network.iptables import Iptables, IptablesError
from agents.network.nftables import Changes
from agents.proxy.backend import BackendError, HostView
from agents.proxy.iptables import layout
from agents.proxy.iptables.writer import IptablesWriter
from agents.proxy.model import Family, ServicePort

log = structlog.get_logger()

HEAL_SECONDS = 2.0
LEGACY_HEAL_SECONDS = 15.0
"""Legacy iptables cannot tell whether rules were changed: all of them have to be read."""


class IptablesBackend:
    """See `agents.proxy.backend.Backend`. Services of a family that this host has no tool for get no rules."""

    name = "iptables"

    def __init__(self, iptables: Iptables, host: HostView) -> None:
        tools: dict[Family, Iptables] = {4: iptables}
        if iptables.ipv6 is not None:
            tools[6] = iptables.ipv6
        self._writers = {family: IptablesWriter(tool, host, family) for family, tool in tools.items()}
        self._services: set[str] = set()
        self._legacy = iptables.legacy
        self._heard: Changes | None = None
        self.heal_seconds = LEGACY_HEAL_SECONDS if iptables.legacy else HEAL_SECONDS

    @property
    def services(self) -> int:
        return len(self._services)

    def listen(self, wake: Callable[[], None]) -> None:
        """Tables of nf_tables tell of every change, ours as well: `heal` knows whose it was. Legacy ones tell none."""
        if self._legacy or self._heard is not None:
            return
        try:
            self._heard = Changes()
        except OSError as error:
            log.warning("changes of service rules by others are not heard of at once", error=str(error))
            return
        self._heard.call(wake, *layout.TABLES)

    async def update(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> int:
        count = 0
        for service, ports in changed.items():
            if ports:
                self._services.add(service)
            else:
                self._services.discard(service)
        try:
            for family, writer in self._writers.items():
                of_family = {
                    service: tuple(port for port in ports if port.family == family)
                    for service, ports in changed.items()
                }
                count += (await writer.update(of_family)).chains_touched
        except IptablesError as error:
            raise BackendError(str(error)) from error
        return count

    async def restore(self) -> int:
        """`heal`, whether or not anybody seems to have changed anything."""
        try:
            return sum([(await writer.restore()).chains_touched for writer in self._writers.values()])
        except IptablesError as error:
            raise BackendError(str(error)) from error

    async def heal(self) -> int:
        try:
            healed = [await writer.heal() for writer in self._writers.values()]
        except IptablesError as error:
            raise BackendError(str(error)) from error
        # A jump that was missing is no chain, and yet something.
        return sum(max(1, each.chains_touched) for each in healed if each)

    async def set_host(self, host: HostView) -> None:
        for writer in self._writers.values():
            writer.set_host(host)

    async def remove_everything(self) -> None:
        try:
            for writer in self._writers.values():
                await writer.remove_everything()
        except IptablesError as error:
            raise BackendError(str(error)) from error

    def close(self) -> None:
        if self._heard is not None:
            self._heard.close()
            self._heard = None
