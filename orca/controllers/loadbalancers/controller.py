"""Gives Services of type LoadBalancer their addresses and a host that announces them.

Without the ConfigMap of pools nothing is done, so that another implementation can have all Services to itself. Services
that have addresses keep them when it goes. Events and the finalizer are those of upstream's service controller
(k8s.io/cloud-provider ``controllers/service``).
"""

from ipaddress import ip_address

from orca.api.builtin import CONFIGMAPS, ENDPOINTSLICES, LEASES, NODES, SERVICES
from orca.api.objects import Obj, annotations, is_terminating, key, labels, meta, name, namespace
from orca.controllers.cache import SERVICE_NAME_LABEL
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter
from orca.controllers.loadbalancers import addresses, announcers, pools
from orca.controllers.loadbalancers.addresses import ANNOUNCED_BY, CLEANUP
from orca.controllers.loadbalancers.liveness import answers

LEASE_NAMESPACE = "kube-node-lease"
LOOK_SECONDS = 1.0
"""Between two looks at a host that is there and silent."""
_CONFIG = f"{pools.NAMESPACE}/{pools.CONFIG_MAP}"


class LoadBalancerController(Controller):
    """Keys are those of Services. One at a time: they choose from the same addresses."""

    name = "service-controller"
    resource = SERVICES
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.caches.of(SERVICES)
        self._nodes = self.caches.of(NODES)
        self._slices = self.caches.of(ENDPOINTSLICES)
        self._pools: tuple[pools.Pool, ...] | None = None
        self._balanced: set[str] = set()
        """Services that are of this type, or were ours."""
        self._waiting: dict[str, str] = {}
        """Service -> why it has no address."""
        self._heard: dict[str, float] = {}
        self._asked: dict[str, tuple[float, bool]] = {}
        """Silent host -> (when it was tried to reach, whether it was there)."""
        self._since: dict[str, tuple[str, float]] = {}
        """Service -> (its announcer, since when)."""
        self._began = self.context.awake.seconds()
        config_maps = self.caches.of(CONFIGMAPS).informer
        config_maps.on_add(self._config_changed)
        config_maps.on_update(lambda _, new: self._config_changed(new))
        config_maps.on_delete(self._config_gone)
        self._services.informer.on_add(self._service_changed)
        self._services.informer.on_update(self._service_updated)
        self._services.informer.on_delete(self._service_gone)
        self._nodes.informer.on_add(self._node_changed)
        self._nodes.informer.on_update(self._node_updated)
        self._nodes.informer.on_delete(self._node_gone)
        self._slices.informer.on_change(self._slice_changed)
        leases = self.caches.of(LEASES).informer
        leases.on_add(self._lease_seen)
        leases.on_update(lambda _, new: self._lease_seen(new))

    # --- what changed ------------------------------------------------------------------------------------------------

    def _config_changed(self, found: Obj) -> None:
        if key(found) != _CONFIG:
            return
        config = self.context.config
        reserved = dict.fromkeys(config.cluster_cidr.split(","), "the range of pods")
        reserved |= dict.fromkeys(config.service_cidr.split(","), "the range of Services")
        try:
            self._pools = pools.parse_pools((found.get("data") or {}).get(pools.KEY) or "", reserved)
        except pools.PoolsError as error:
            # What was valid before stays in force.
            self.recorder.event(found, "Warning", "InvalidConfiguration", f"address pools cannot be used: {error}")
            return
        self._look_at_all()

    def _config_gone(self, gone: Obj) -> None:
        if key(gone) == _CONFIG:
            self._pools = None

    def _service_changed(self, service: Obj) -> None:
        if service["spec"].get("type") == "LoadBalancer" or addresses.is_marked(service):
            self._balanced.add(key(service))
            self.enqueue(service)

    def _service_updated(self, old: Obj, new: Obj) -> None:
        before, now = old["spec"].get("type"), new["spec"].get("type")
        if before != now and self._pools is not None and "LoadBalancer" in (before, now):
            self.recorder.event(new, "Normal", "Type", f"{before} -> {now}")
        self._service_changed(new)
        if addresses.addresses_of(old) != addresses.addresses_of(new):
            self._retry_waiting()

    def _service_gone(self, service: Obj) -> None:
        gone = key(service)
        if gone in self._balanced:
            self._balanced.discard(gone)
            self._waiting.pop(gone, None)
            self._since.pop(gone, None)
            self._retry_waiting()

    def _node_updated(self, old: Obj, new: Obj) -> None:
        if announcers.host_of(old, 0) != announcers.host_of(new, 0) or _addresses(old) != _addresses(new):
            self._look_at_all()

    def _node_changed(self, node: Obj) -> None:
        del node
        self._look_at_all()

    def _node_gone(self, node: Obj) -> None:
        self._heard.pop(name(node), None)
        self._asked.pop(name(node), None)
        self._look_at_all()

    def _slice_changed(self, found: Obj) -> None:
        if self._balanced:
            service = f"{namespace(found)}/{labels(found).get(SERVICE_NAME_LABEL, '')}"
            if service in self._balanced:
                self.queue.add(service)

    def _lease_seen(self, lease: Obj) -> None:
        if namespace(lease) == LEASE_NAMESPACE:
            self._heard[name(lease)] = self.context.awake.seconds()

    def _look_at_all(self) -> None:
        for service in self._balanced:
            self.queue.add(service)

    def _retry_waiting(self) -> None:
        for service in self._waiting:
            self.queue.add(service)

    # --- one Service -------------------------------------------------------------------------------------------------

    async def sync(self, key: str) -> Outcome:
        """One Service."""
        service = self._services.get(key)
        if service is None:
            return DONE
        if not addresses.is_ours(service) or is_terminating(service):
            await self._clean_up(service)
            return DONE
        if self._pools is None and not addresses.is_marked(service):
            return DONE
        chosen = self._choose(service)
        host = await self._announcer(service, chosen)
        service = await self._mark(service, host) or service
        wanted = addresses.wanted_ingress(service, chosen)
        if addresses.ingress_of(service) != wanted:
            await self._services.update_status(
                service, {**(service.get("status") or {}), "loadBalancer": _balancer(wanted)}
            )
            if wanted:
                self.recorder.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        if not host:
            return DONE
        return RetryAfter(max(announcers.LOST_SECONDS - self._silent_since(key, host), LOOK_SECONDS))

    def _choose(self, service: Obj) -> tuple[str, ...]:
        """Its addresses; none, and an event, when it cannot have any."""
        if self._pools is None:
            return addresses.addresses_of(service)
        has, of = addresses.addresses_of(service), key(service)
        if not has and of not in self._waiting:
            self.recorder.event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        balanced = (self._services.get(other) for other in self._balanced)
        held = addresses.holders(one for one in balanced if one is not None)
        hosts = frozenset(address for node in self._nodes.all() for address in _addresses(node))
        try:
            chosen = addresses.choose(service, self._pools, held, hosts)
        except addresses.NoAddressError as error:
            if self._waiting.get(of) != str(error):
                text = f"Error syncing load balancer: failed to ensure load balancer: {error}"
                self.recorder.event(service, "Warning", "SyncLoadBalancerFailed", text)
            self._waiting[of] = str(error)
            return ()
        self._waiting.pop(of, None)
        return chosen

    async def _announcer(self, service: Obj, chosen: tuple[str, ...]) -> str:
        """The host for all its addresses: clients of one family are no better off elsewhere."""
        of = key(service)
        current = annotations(service).get(ANNOUNCED_BY, "")
        if not chosen or addresses.left_to_another_proxy(service):
            return ""
        local = None
        if service["spec"].get("externalTrafficPolicy") == "Local":
            local = announcers.local_hosts(self._slices.by_index("service", of))
        now = self.context.awake.seconds()
        hosts = [announcers.host_of(node, now - self._heard.get(name(node), self._began)) for node in self._nodes.all()]
        silent = self._silent_since(of, current)
        if announcers.LOST_SECONDS <= silent < announcers.DEAF_SECONDS:
            node = self._nodes.get(current)
            if node is not None and await self._is_there(node):
                silent = 0.0
        pool = next((one for one in self._pools or () if any(ip_address(ip) in one for ip in chosen)), None)
        return announcers.announcer(
            chosen[0],
            hosts,
            current,
            silent=silent,
            local=local,
            selector=pool.node_selector if pool is not None else None,
        )

    async def _is_there(self, node: Obj) -> bool:
        """Asked once for all Services that a host announces: one that is gone takes a second to say nothing."""
        asked, there = self._asked.get(name(node), (float("-inf"), False))
        if self.clock.monotonic() - asked >= LOOK_SECONDS:
            there = await answers(node)
            self._asked[name(node)] = self.clock.monotonic(), there
        return there

    def _silent_since(self, service: str, host: str) -> float:
        """Seconds in which a host that should renew its lease often has not."""
        now = self.context.awake.seconds()
        known, since = self._since.get(service, ("", 0.0))
        if known != host:
            since = self._began if not known else now
            self._since[service] = host, since
        return now - max(self._heard.get(host, 0.0), since, self._began)

    async def _mark(self, service: Obj, host: str) -> Obj | None:
        """The finalizer, and who announces; before there is a status anybody acts upon. None when nothing changed."""
        finalizers = list(meta(service).get("finalizers") or ())
        current = annotations(service).get(ANNOUNCED_BY)
        if CLEANUP in finalizers and current == host:
            return None
        if CLEANUP not in finalizers:
            finalizers.append(CLEANUP)
        metadata = {
            **meta(service),
            "finalizers": finalizers,
            "annotations": {**annotations(service), ANNOUNCED_BY: host},
        }
        written = await self._services.update({**service, "metadata": metadata})
        if host and current != host:
            self._since[key(service)] = host, self.context.awake.seconds()
            self.recorder.event(service, "Normal", "NodeAssigned", f'announcing from node "{host}"')
        return written

    async def _clean_up(self, service: Obj) -> None:
        """It is of another type or class, or about to go: it has nothing of ours any more."""
        of = key(service)
        self._waiting.pop(of, None)
        self._since.pop(of, None)
        if not addresses.is_marked(service):
            if service["spec"].get("type") != "LoadBalancer":
                self._balanced.discard(of)
            return
        self.recorder.event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        if addresses.ingress_of(service) and not is_terminating(service):
            status = {**(service.get("status") or {}), "loadBalancer": {}}
            written = await self._services.update_status(service, status)
            if written is None:
                return
            service = written
        kept = {text: value for text, value in annotations(service).items() if text != ANNOUNCED_BY}
        metadata: Obj = {**meta(service), "annotations": kept}
        metadata["finalizers"] = [one for one in meta(service).get("finalizers") or () if one != CLEANUP]
        for field in ("annotations", "finalizers"):
            if not metadata[field]:
                del metadata[field]
        await self._services.update({**service, "metadata": metadata})
        self.recorder.event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")


def _balancer(ingress: list[Obj]) -> Obj:
    return {"ingress": ingress} if ingress else {}


def _addresses(node: Obj) -> set[str]:
    return {one["address"] for one in (node.get("status") or {}).get("addresses") or () if one.get("address")}
