"""`Proxy`: follows Services and EndpointSlices and keeps this host's rules in step.

    proxy = Proxy(services_informer, slices_informer, "host-1", iptables=network.iptables)
    asyncio.create_task(proxy.run())      # the informers are run by whoever made them
    await proxy.synced()                  # rules are in the kernel

A change reaches the kernel some ten milliseconds after its watch event; changes that come meanwhile go together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import structlog

from agents.network.iptables import Iptables
from agents.proxy.backend import Backend, BackendError, HostView
from agents.proxy.forgetting import Forgetting
from agents.proxy.health import HealthPorts, health_of
from agents.proxy.healthz import Standing
from agents.proxy.model import ServicePort, service_key_of, service_ports, uses_hints
from agents.proxy.modes import clean_others, make_backend
from agents.proxy.tally import SyncTally
from orca.api.objects import Obj, key, labels, name
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()

COALESCE_SECONDS = 0.004
RETRY_SECONDS = 1.0
HEAL_PAUSE_SECONDS = 1.0
"""At least so long between two looks at what somebody else has changed, however fast the kernel tells of it."""
ZONE_LABEL = "topology.kubernetes.io/zone"


class Proxy:
    """See the module. ``local_addresses``: service addresses this host answers itself (DNS); they get no rules.
    ``nodes``: where this host's own Node says in which zone it stands and what its addresses are.

    Raises ``ProxyModeError`` for a mode that this host cannot have and ``IptablesError`` without iptables.
    """

    def __init__(
        self,
        services: Informer,
        slices: Informer,
        node_name: str,
        *,
        mode: str = "auto",
        host: HostView | None = None,
        nodes: Informer | None = None,
        local_addresses: tuple[str, ...] = ("10.96.0.10",),
        iptables: Iptables | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._services = services
        self._slices = slices
        self._nodes = nodes
        self._node_name = node_name
        self._zone = ""
        self._host = host or HostView()
        self._local_addresses = frozenset(local_addresses)
        self._clock = clock or SystemClock()
        self._iptables = iptables or Iptables()
        self._backend = make_backend(mode, self._iptables, self._host)
        self._forgetting = Forgetting(self._clock)
        self._health = HealthPorts(clock=self._clock)
        self._slices_of: dict[str, dict[str, Obj]] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._stir = asyncio.Event()
        self._synced = asyncio.Event()
        self._idle = asyncio.Event()
        self._changed = asyncio.Event()
        self._busy = False
        self._following = False
        self._host_changed = False
        self._healed_at = -HEAL_PAUSE_SECONDS
        self._former_modes_gone = False
        self._pending_since: float | None = None
        """Since when (monotonic) the oldest change waits that is not in the kernel."""
        self.last_sync_seconds = 0.0
        self.tally = SyncTally()

    def __repr__(self) -> str:
        took = f"last sync {self.last_sync_seconds * 1000:.0f} ms"
        return f"<Proxy {self._backend.name}, {self._backend.services} services, {took}>"

    @property
    def mode(self) -> str:
        """The mode in use, never ``auto``."""
        return self._backend.name

    @property
    def backend(self) -> Backend:
        """What writes the rules, for those who explain them."""
        return self._backend

    @property
    def standing(self) -> Standing:
        """How far rules are behind."""
        since = self._pending_since
        now = self._clock.now().timestamp()
        if since is None:
            return Standing(0.0, now)
        return Standing(self._clock.monotonic() - since, self.tally.last_synced or now)

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
        await self.settled()
        while self._is_ready_endpoint(ip):
            waited = True
            self._changed.clear()
            await self._changed.wait()
            await self.settled()
        return waited

    async def forget_unanswered(self, ips: Iterable[str]) -> None:
        """Let connections that endpoints, which get no new ones, have not answered begin anew elsewhere."""
        await self._forgetting.unanswered(ips)

    def knows(self, ip: str) -> bool:
        """Whether ``ip`` is an endpoint of a Service, or was one in the last minutes."""
        return self._forgetting.knows(ip)

    def _is_ready_endpoint(self, ip: str) -> bool:
        """With ``publishNotReadyAddresses`` one stays ready to the end: that it terminates is all slices will say."""
        return any(
            ip in (endpoint.get("addresses") or ()) and _gets_traffic(endpoint)
            for service in self._forgetting.services_of(ip)
            for endpoint_slice in self._slices_of.get(service, {}).values()
            for endpoint in endpoint_slice.get("endpoints") or ()
        )

    async def settled(self) -> None:
        """Returns once everything the informers have shown so far is in the kernel, and stale UDP flows are gone."""
        while self._wake.is_set() or self._busy or not self._synced.is_set():
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        """Until cancelled; the rules stay when it ends. What the backend could not do is logged and tried again."""
        self._follow()
        await self._services.synced()
        await self._slices.synced()
        if self._nodes is not None:
            await self._nodes.synced()
        if self._host.localhost_node_ports:
            _allow_loopback_node_ports()
        self._backend.listen(self._stir.set)
        # Before anything is written every service must be known: a half list would tear down what serves.
        self._wake.set()
        try:
            await self._keep_up()
        finally:
            self._backend.close()
            await self._health.close()

    async def _keep_up(self) -> None:
        while True:
            try:
                await self._sync()
                self._synced.set()
                self._idle.set()
                await self._clean_former_modes()
                await self._wait()
            except (BackendError, OSError) as error:
                log.error("service rules could not be written", error=str(error))
                self.tally.failures += 1
                self._wake.set()
                await self._clock.sleep(RETRY_SECONDS)

    async def cleanup(self) -> None:
        """Remove every rule of ours; `run` must have ended."""
        await self._backend.remove_everything()

    # --- what changed ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        if self._following:
            return
        self._following = True
        self._services.on_change(self._service_is)
        self._slices.on_add(self._slice_is)
        self._slices.on_update(self._slice_changed)
        self._slices.on_delete(self._slice_gone)
        if self._nodes is not None:
            self._nodes.on_change(self._node_is)

    def _node_is(self, node: Obj) -> None:
        """Node objects change with every report: only what rules depend on counts."""
        if name(node) != self._node_name:
            return
        zone = labels(node).get(ZONE_LABEL, "")
        if zone != self._zone:
            self._zone = zone
            for service, slices in self._slices_of.items():
                if uses_hints(slices.values()):
                    self._mark(service)
        addresses = (node.get("status") or {}).get("addresses") or ()
        ips = tuple(str(each.get("address")) for each in addresses if each.get("type") == "InternalIP")
        if ips and ips != self._host.node_ips:
            self._host = replace(self._host, node_ips=ips)
            self._host_changed = True
            self._wait_begins()
            self._wake.set()
            self._stir.set()

    def _service_is(self, service: Obj) -> None:
        self.tally.service_changes += 1
        self._mark(key(service))

    def _mark(self, service: str) -> None:
        if not self._wake.is_set():
            self.tally.last_queued = self._clock.now().timestamp()
        self._wait_begins()
        self._dirty.add(service)
        self._wake.set()
        self._stir.set()
        self._changed.set()

    def _wait_begins(self) -> None:
        if self._pending_since is None:
            self._pending_since = self._clock.monotonic()

    def _slice_is(self, endpoint_slice: Obj) -> None:
        if owner := service_key_of(endpoint_slice):
            self._slices_of.setdefault(owner, {})[key(endpoint_slice)] = endpoint_slice
            self.tally.slice_changed(endpoint_slice, known=self._synced.is_set())
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
        disturbed = False
        while not self._wake.is_set():
            # Somebody who insists must not keep both of us busy: a look that is too early is only put off.
            early = self._healed_at + HEAL_PAUSE_SECONDS - self._clock.monotonic()
            try:
                async with asyncio.timeout(max(early, 0.0) if disturbed else self._backend.heal_seconds):
                    await self._stir.wait()
                disturbed = not self._wake.is_set()
            except TimeoutError:
                disturbed = True
            self._stir.clear()
            self._forgetting.bury()
            if disturbed and self._clock.monotonic() - self._healed_at >= HEAL_PAUSE_SECONDS:
                disturbed = False
                await self._heal()
        # Events come in bursts: a Service and its slices, all endpoints of a rollout.
        await self._clock.sleep(COALESCE_SECONDS)

    async def _heal(self) -> None:
        self._healed_at = self._clock.monotonic()
        if healed := await self._backend.heal():
            log.warning("service rules were changed by somebody else and are put back", count=healed)
            await self._forgetting.begin_anew()

    async def _clean_former_modes(self) -> None:
        if not self._former_modes_gone:
            await clean_others(self._backend.name, self._iptables, self._host)
            self._former_modes_gone = True

    async def _sync(self) -> None:
        self._wake.clear()
        dirty, self._dirty = self._dirty, set()
        host_changed, self._host_changed = self._host_changed, False
        began = self._clock.monotonic()
        self._busy = True
        try:
            if host_changed:
                await self._backend.set_host(self._host)
            changed = {service: self._model(service) for service in dirty}
            written = await self._backend.update(changed)
            self.tally.synced(self._clock.monotonic() - began, self._clock.now().timestamp())
            self._pending_since = began if self._wake.is_set() else None
            if written:
                self.last_sync_seconds = self._clock.monotonic() - began
                log.debug("service rules written", seconds=round(self.last_sync_seconds, 4), count=written)
            await self._tell_health(changed)
            await self._forgetting.sweep(changed)
            if not self._synced.is_set():
                # Pods may have asked before the first rules of a host that has just booted.
                await self._forgetting.begin_anew()
            self._forgetting.mourn(changed, self._slices_of)
            self._forgetting.bury()
        except BaseException:
            # Also what nobody thought of: whoever starts this part again shall find what is left to do.
            self._dirty |= dirty
            self._host_changed |= host_changed
            raise
        finally:
            self._busy = False

    async def _tell_health(self, services: Iterable[str]) -> None:
        told = {}
        for service in services:
            slices = self._slices_of.get(service, {}).values()
            told[service] = health_of(self._services.get(service), slices, self._node_name)
        await self._health.update(told)

    def _model(self, service_key: str) -> tuple[ServicePort, ...]:
        service = self._services.get(service_key)
        if service is None:
            return ()
        try:
            ports = service_ports(service, self._slices_of.get(service_key, {}).values(), self._node_name, self._zone)
        except (KeyError, TypeError, ValueError) as error:
            # The API lets nothing of the kind pass; still, one bad object must not stop all others.
            log.error("a service cannot be understood", service=service_key, error=repr(error))
            return ()
        return tuple(port for port in ports if port.cluster_ip not in self._local_addresses)


def _gets_traffic(endpoint: Obj) -> bool:
    """Whether slices still say that new connections are welcome. What somebody wrote by hand nobody takes back."""
    conditions = endpoint.get("conditions") or {}
    of_pod = (endpoint.get("targetRef") or {}).get("kind") == "Pod"
    return of_pod and conditions.get("ready") is not False and conditions.get("terminating") is not True


def _allow_loopback_node_ports() -> None:
    setting = Path("/proc/sys/net/ipv4/conf/all/route_localnet")
    try:
        if setting.read_text().strip() != "1":
            setting.write_text("1")
    except OSError as error:
        log.warning("node ports do not work on 127.0.0.1 here", error=str(error))
