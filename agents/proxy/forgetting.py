"""What the kernel must forget as endpoints go: UDP flows at once, TCP flows of pods that are no more as their clients
let go of them; and what began while there were no rules. `Forgetting` notes who was an endpoint; ``conntrack.py`` knows
the kernel's table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from agents.proxy.conntrack import ConntrackTable
from agents.proxy.model import ServicePort
from orca.api.objects import Obj
from orca.client.clock import Clock

BURIALS = (0.0, 2.0, 10.0, 60.0, 125.0)
"""Seconds after a pod's end at which its TCP flows are looked for: their clients let go of them one by one."""
BURIAL_PAUSE_SECONDS = 1.0
"""The kernel walks its whole table for every look, some milliseconds even when it is empty."""


class Forgetting:
    """One host's. Whatever the backend, the connections are in the same table."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._conntrack = ConntrackTable()
        self._ips: dict[str, frozenset[str]] = {}
        self._burial: asyncio.Task[None] | None = None
        self._graves: dict[str, list[float]] = {}
        self._buried_at = -BURIAL_PAUSE_SECONDS
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        """Of every Service, as the kernel has them."""

    def knows(self, ip: str) -> bool:
        """Whether ``ip`` is an endpoint of a Service, or was one in the last minutes."""
        return ip in self._graves or any(ip in ips for ips in self._ips.values())

    def services_of(self, ip: str) -> list[str]:
        """The Services whose slices name this address."""
        return [service for service, ips in self._ips.items() if ip in ips]

    async def unanswered(self, ips: Iterable[str]) -> None:
        """Forget TCP connections that these endpoints, which get no new ones, have not answered."""
        await self._conntrack.forget_unanswered(frozenset(ips))

    async def sweep(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> None:
        """Forget UDP flows to endpoints that are gone; also for services that are gone as a whole."""
        touched: dict[str, tuple[ServicePort, ...]] = {}
        for service, ports in changed.items():
            former = _udp(self._ports.pop(service, ()))
            if ports:
                self._ports[service] = ports
            if (udp := _udp(ports)) != former:
                touched[service] = (*(_without_endpoints(port) for port in former), *udp)
        if touched:
            await self._conntrack.sweep(touched)

    async def begin_anew(self) -> None:
        """Rules were missing for a while: forget what passed by them, so that it is translated now."""
        await self._conntrack.begin_anew(self._ports)

    def mourn(self, services: Iterable[str], slices_of: Mapping[str, Mapping[str, Obj]]) -> None:
        """Note addresses that have left a service's slices altogether: of pods that are gone, not just unready."""
        now = self._clock.monotonic()
        for service in services:
            former = self._ips.pop(service, frozenset())
            present = frozenset(
                str(ip)
                for endpoint_slice in slices_of.get(service, {}).values()
                for endpoint in endpoint_slice.get("endpoints") or ()
                for ip in endpoint.get("addresses") or ()
            )
            if present:
                self._ips[service] = present
            for ip in present:
                self._graves.pop(ip, None)
            for ip in former - present:
                self._graves[ip] = [now + seconds for seconds in BURIALS]

    def bury(self) -> None:
        """Beside the rules, which never wait for it; to be called again and again."""
        now = self._clock.monotonic()
        if not any(times[0] <= now for times in self._graves.values()) or now - self._buried_at < BURIAL_PAUSE_SECONDS:
            return
        if self._burial is None or self._burial.done():
            self._buried_at = now
            self._burial = asyncio.create_task(self._bury())

    async def _bury(self) -> None:
        now = self._clock.monotonic()
        due = {ip for ip, times in self._graves.items() if times[0] <= now}
        for ip in due:
            self._graves[ip] = [when for when in self._graves[ip] if when > now]
            if not self._graves[ip]:
                del self._graves[ip]
        # One that still serves elsewhere was only taken out of one service.
        await self._conntrack.bury({ip for ip in due if not any(ip in ips for ips in self._ips.values())})


def _udp(ports: Iterable[ServicePort]) -> tuple[ServicePort, ...]:
    return tuple(port for port in ports if port.protocol == "UDP")


def _without_endpoints(port: ServicePort) -> ServicePort:
    """What a port was, leading nowhere; a port of now with the same address overrules it in `conntrack.stale`."""
    return ServicePort(
        service=port.service,
        port_name=port.port_name,
        protocol=port.protocol,
        port=port.port,
        cluster_ip=port.cluster_ip,
        node_port=port.node_port,
        external_ips=port.external_ips,
        load_balancer_ips=port.load_balancer_ips,
    )
