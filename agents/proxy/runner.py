"""`Proxy`: follows Services and EndpointSlices and keeps this host's rules in step.

    proxy = Proxy(services_informer, slices_informer, "host-1", iptables=network.iptables)
    asyncio.create_task(proxy.run())      # the informers are run by whoever made them
    await proxy.synced()                  # rules are in the kernel

A change reaches the kernel some ten milliseconds after its watch event; changes that come meanwhile go together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import structlog

from agents.network.iptables import Iptables, IptablesError, Transaction
from agents.proxy.conntrack import ConntrackTable
from agents.proxy.health import HealthPorts, health_of
from agents.proxy.model import ServicePort, service_key_of, service_ports
from agents.proxy.writer import IptablesWriter
from orca.api.objects import Obj, key
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()

MODES = ("auto", "iptables")
COALESCE_SECONDS = 0.004
HEAL_SECONDS = 2.0
LEGACY_HEAL_SECONDS = 15.0
"""Legacy iptables cannot tell whether rules were changed: all of them have to be read."""
RETRY_SECONDS = 1.0
BURIALS = (0.0, 2.0, 10.0, 60.0, 125.0)
"""Seconds after a pod's end at which its TCP flows are looked for: their clients let go of them one by one."""


class ProxyModeError(Exception):
    """The mode asked for does not exist here."""


class Proxy:
    """See the module. ``local_addresses``: service addresses this host answers itself (DNS); they get no rules.

    Raises ``ProxyModeError`` for a mode that does not exist and ``IptablesError`` without iptables.
    """

    def __init__(
        self,
        services: Informer,
        slices: Informer,
        node_name: str,
        *,
        mode: str = "auto",
        cluster_cidr: str = "10.244.0.0/16",
        local_addresses: tuple[str, ...] = ("10.96.0.10",),
        iptables: Iptables | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_mode(mode)
        self._services = services
        self._slices = slices
        self._node_name = node_name
        self._local_addresses = frozenset(local_addresses)
        self._clock = clock or SystemClock()
        self._iptables = iptables or Iptables()
        self._writer = IptablesWriter(self._iptables, cluster_cidr=cluster_cidr)
        self._conntrack = ConntrackTable()
        self._health = HealthPorts()
        self._slices_of: dict[str, dict[str, Obj]] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._synced = asyncio.Event()
        self._idle = asyncio.Event()
        self._changed = asyncio.Event()
        self._busy = False
        self._following = False
        self._ips: dict[str, frozenset[str]] = {}
        self._burial: asyncio.Task[None] | None = None
        self._graves: dict[str, list[float]] = {}
        self._udp: dict[str, tuple[ServicePort, ...]] = {}
        self.last_sync_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Proxy iptables, {self._writer.services} services, last sync {self.last_sync_seconds * 1000:.0f} ms>"

    async def synced(self) -> None:
        """Returns once the services known at the start are in the kernel."""
        await self._synced.wait()

    async def released(self, ip: str) -> bool:
        """Returns once no Service sends new connections to ``ip`` any more, in this host's kernel too.

        True when one still did at the time of the call.

        For a pod that is about to be stopped: its slice has to say so first, so bound the wait. An endpoint that still
        gets traffic only because there is no other does not hold it up.
        """
        waited = False
        while self._is_ready_endpoint(ip):
            waited = True
            self._changed.clear()
            await self._changed.wait()
        await self.settled()
        return waited

    def knows(self, ip: str) -> bool:
        """Whether ``ip`` is an endpoint of a Service, or was one in the last minutes."""
        return ip in self._graves or any(ip in ips for ips in self._ips.values())

    def _is_ready_endpoint(self, ip: str) -> bool:
        """With ``publishNotReadyAddresses`` one stays ready to the end: that it terminates is all slices will say."""
        return any(
            ip in (endpoint.get("addresses") or ()) and _gets_traffic(endpoint)
            for service, ips in self._ips.items()
            if ip in ips
            for endpoint_slice in self._slices_of.get(service, {}).values()
            for endpoint in endpoint_slice.get("endpoints") or ()
        )

    async def settled(self) -> None:
        """Returns once everything the informers have shown so far is in the kernel, and stale UDP flows are gone."""
        while self._wake.is_set() or self._busy or not self._synced.is_set():
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        """Until cancelled; the rules stay when it ends. Errors of iptables are logged and tried again."""
        self._follow()
        await self._services.synced()
        await self._slices.synced()
        _allow_loopback_node_ports()
        # Before anything is written every service must be known: a half list would tear down what serves.
        self._wake.set()
        try:
            await self._keep_up()
        finally:
            await self._health.close()

    async def _keep_up(self) -> None:
        while True:
            try:
                await self._sync()
                self._synced.set()
                self._idle.set()
                await self._wait()
            except (IptablesError, OSError) as error:
                log.error("service rules could not be written", error=str(error))
                self._wake.set()
                await self._clock.sleep(RETRY_SECONDS)

    async def cleanup(self) -> None:
        """Remove every chain of ours; `run` must have ended."""
        await self._writer.remove_everything()

    # --- what changed ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        if self._following:
            return
        self._following = True
        self._services.on_change(lambda service: self._mark(key(service)))
        self._slices.on_add(self._slice_is)
        self._slices.on_update(self._slice_changed)
        self._slices.on_delete(self._slice_gone)

    def _mark(self, service: str) -> None:
        self._dirty.add(service)
        self._wake.set()
        self._changed.set()

    def _slice_is(self, endpoint_slice: Obj) -> None:
        if owner := service_key_of(endpoint_slice):
            self._slices_of.setdefault(owner, {})[key(endpoint_slice)] = endpoint_slice
            self._mark(owner)

    def _slice_changed(self, old: Obj, new: Obj) -> None:
        if service_key_of(old) != service_key_of(new):
            self._slice_gone(old)
        self._slice_is(new)

    def _slice_gone(self, endpoint_slice: Obj) -> None:
        owner = service_key_of(endpoint_slice)
        slices = self._slices_of.get(owner, {})
        if slices.pop(key(endpoint_slice), None):
            if not slices:
                del self._slices_of[owner]
            self._mark(owner)

    # --- into the kernel ---------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until something changed; heals while nothing does."""
        heal = LEGACY_HEAL_SECONDS if self._iptables.legacy else HEAL_SECONDS
        while not self._wake.is_set():
            try:
                async with asyncio.timeout(heal):
                    await self._wake.wait()
            except TimeoutError:
                self._start_burial()
                healed = await self._writer.heal()
                if healed:
                    log.warning("service rules were changed by somebody else and are put back", **_size(healed))
        # Events come in bursts: a Service and its slices, all endpoints of a rollout.
        await self._clock.sleep(COALESCE_SECONDS)

    async def _sync(self) -> None:
        self._wake.clear()
        dirty, self._dirty = self._dirty, set()
        began = self._clock.monotonic()
        self._busy = True
        try:
            changed = {service: self._model(service) for service in dirty}
            written = await self._writer.update(changed)
            if written:
                self.last_sync_seconds = self._clock.monotonic() - began
                log.debug("service rules written", seconds=round(self.last_sync_seconds, 4), **_size(written))
            await self._tell_health(changed)
            await self._sweep(changed)
            self._mourn(changed)
            self._start_burial()
        except (IptablesError, OSError):
            self._dirty |= dirty
            raise
        finally:
            self._busy = False

    async def _tell_health(self, services: Iterable[str]) -> None:
        for service in services:
            slices = self._slices_of.get(service, {}).values()
            await self._health.update(service, health_of(self._services.get(service), slices, self._node_name))

    async def _sweep(self, changed: dict[str, tuple[ServicePort, ...]]) -> None:
        """Forget UDP flows to endpoints that are gone; also for services that are gone as a whole."""
        touched: dict[str, tuple[ServicePort, ...]] = {}
        for service, ports in changed.items():
            udp = tuple(port for port in ports if port.protocol == "UDP")
            former = self._udp.pop(service, ())
            if udp:
                self._udp[service] = udp
            if udp != former:
                touched[service] = (*(_without_endpoints(port) for port in former), *udp)
        if touched:
            await self._conntrack.sweep(touched)

    def _mourn(self, services: Iterable[str]) -> None:
        """Note addresses that have left a service's slices altogether: of pods that are gone, not just unready."""
        now = self._clock.monotonic()
        for service in services:
            former = self._ips.pop(service, frozenset())
            present = frozenset(
                str(ip)
                for endpoint_slice in self._slices_of.get(service, {}).values()
                for endpoint in endpoint_slice.get("endpoints") or ()
                for ip in endpoint.get("addresses") or ()
            )
            if present:
                self._ips[service] = present
            for ip in present:
                self._graves.pop(ip, None)
            for ip in former - present:
                self._graves[ip] = [now + seconds for seconds in BURIALS]

    def _start_burial(self) -> None:
        """Beside the rules, which never wait for it."""
        if self._graves and (self._burial is None or self._burial.done()):
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

    def _model(self, service_key: str) -> tuple[ServicePort, ...]:
        service = self._services.get(service_key)
        if service is None:
            return ()
        try:
            ports = service_ports(service, self._slices_of.get(service_key, {}).values(), self._node_name)
        except (KeyError, TypeError, ValueError) as error:
            # The API lets nothing of the kind pass; still, one bad object must not stop all others.
            log.error("a service cannot be understood", service=service_key, error=repr(error))
            return ()
        return tuple(port for port in ports if port.cluster_ip not in self._local_addresses and port.family == 4)


async def remove_rules(iptables: Iptables | None = None) -> None:
    """Take away every service rule from this host, whoever has left it; for uninstalling."""
    await IptablesWriter(iptables or Iptables(), cluster_cidr="").remove_everything()


def check_mode(mode: str) -> None:
    """Raises ``ProxyModeError`` unless the mode can be used; ``auto`` is iptables."""
    if mode not in MODES:
        raise ProxyModeError(f"--proxy-mode={mode} is not available in this version; use one of: {', '.join(MODES)}")


def _gets_traffic(endpoint: Obj) -> bool:
    """Whether slices still say that new connections are welcome. What somebody wrote by hand nobody takes back."""
    conditions = endpoint.get("conditions") or {}
    of_pod = (endpoint.get("targetRef") or {}).get("kind") == "Pod"
    return of_pod and conditions.get("ready") is not False and conditions.get("terminating") is not True


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


def _size(transaction: Transaction) -> dict[str, int]:
    return {"chains": transaction.chains_touched, "tables": transaction.commits}


def _allow_loopback_node_ports() -> None:
    setting = Path("/proc/sys/net/ipv4/conf/all/route_localnet")
    try:
        if setting.read_text().strip() != "1":
            setting.write_text("1")
    except OSError as error:
        log.warning("node ports do not work on 127.0.0.1 here", error=str(error))
