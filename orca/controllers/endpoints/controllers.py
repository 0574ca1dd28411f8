"""Follow Services and pods; write slices and Endpoints a moment after a change.

A change of a pod reaches its Services through an index over one pair of each selector, not by trying all of them.
"""

from orca.api.builtin import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES
from orca.api.errors import ApiError, is_already_exists, is_not_found
from orca.api.objects import Obj, key, labels, namespace, uid
from orca.api.times import format_micro, parse_time
from orca.controllers import conditions
from orca.controllers.cache import SERVICE_NAME_LABEL, Cache
from orca.controllers.endpoints import model, slices, subsets
from orca.controllers.harness import DONE, Context, Controller, Outcome
from orca.controllers.podcontrol import namespace_is_terminating


class TriggerTimes:
    """Remembers, for each Service, when its pods last changed, so that what is written says since when it was due
    (`endpoints.kubernetes.io/last-change-trigger-time`; the base of programming latency figures)."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, str]] = {}

    def observe(self, service: Obj, pods: list[Obj]) -> str:
        """The earliest change since the last call for this Service, "" when nothing stamped has changed."""
        before = self._pods.get(key(service))
        now = {uid(pod): _changed_at(pod) for pod in pods}
        self._pods[key(service)] = now
        if before is None:
            stamps = [service["metadata"].get("creationTimestamp", "")]
        else:
            stamps = [stamp for identity, stamp in now.items() if stamp and before.get(identity) != stamp]
        found = min(filter(None, stamps), default="")
        return format_micro(parse_time(found)) if found else ""

    def forget(self, service_key: str) -> None:
        """The Service is gone."""
        self._pods.pop(service_key, None)


def _changed_at(pod: Obj) -> str:
    stamp: str = pod["metadata"].get("deletionTimestamp") or ""
    condition = conditions.find((pod.get("status") or {}).get("conditions"), "Ready")
    if not stamp and condition is not None:
        stamp = condition.get("lastTransitionTime") or ""
    return stamp


class ServiceFollower(Controller):
    """Queues Services by key "namespace/name" when they or their pods change."""

    resource = SERVICES

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.caches.of(SERVICES)
        self._pods = self.caches.of(PODS)
        self._trigger = TriggerTimes()
        self._batch = context.config.endpoints_batch
        self._services.informer.on_change(self._service_changed)
        self._pods.informer.on_add(self._pod_changed)
        self._pods.informer.on_update(self._pod_updated)
        self._pods.informer.on_delete(self._pod_changed)

    def _service_changed(self, service: Obj) -> None:
        self.queue.add(key(service))

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if model.fingerprint(old) == model.fingerprint(new):
            return
        if labels(old) != labels(new):
            self._pod_changed(old)
        self._pod_changed(new)

    def _pod_changed(self, pod: Obj) -> None:
        space = namespace(pod)
        for label, value in labels(pod).items():
            for service in self._services.informer.by_index("selector", f"{space}/{label}={value}"):
                if model.selects(service, pod):
                    self.queue.add_after(key(service), self._batch)

    def _pods_of(self, service: Obj) -> list[Obj]:
        space = namespace(service)
        pairs = [f"{space}/{label}={value}" for label, value in service["spec"]["selector"].items()]
        smallest = min((self._pods.by_index("label", pair) for pair in pairs), key=len)
        return [pod for pod in smallest if model.selects(service, pod)]


async def write_slices(cache: Cache, todo: slices.Plan) -> None:
    """Carries the plan out; creations refused because the namespace goes are as they should be."""
    for made in todo.create:
        try:
            await cache.create(made)
        except ApiError as error:
            if not namespace_is_terminating(error):
                raise
    for changed in todo.update:
        await cache.update(changed)
    for surplus in todo.delete:
        await cache.delete(surplus)


class EndpointSliceController(ServiceFollower):
    """Writes the EndpointSlices of Services with a selector."""

    name = "endpoint-slice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._slices = self.caches.of(ENDPOINTSLICES)
        self._nodes = self.caches.of(NODES)
        self._slices.informer.on_update(lambda _, new: self._slice_changed(new))
        self._slices.informer.on_delete(self._slice_changed)
        self._nodes.informer.on_add(self._node_changed)
        self._nodes.informer.on_update(self._node_updated)

    def _slice_changed(self, found: Obj) -> None:
        service = labels(found).get(SERVICE_NAME_LABEL)
        if service and labels(found).get(slices.MANAGED_BY_LABEL) == slices.MANAGER:
            self.queue.add_after(f"{namespace(found)}/{service}", self._batch)

    def _node_updated(self, old: Obj, new: Obj) -> None:
        if labels(old).get(model.ZONE_LABEL) != labels(new).get(model.ZONE_LABEL):
            self._node_changed(new)

    def _node_changed(self, node: Obj) -> None:
        if labels(node).get(model.ZONE_LABEL):
            for pod in self._pods.informer.by_index("node", key(node)):
                self._pod_changed(pod)

    async def sync(self, key: str) -> Outcome:
        """One Service."""
        service = self._services.get(key)
        existing = [
            found
            for found in self._slices.by_index("service", key)
            if labels(found).get(slices.MANAGED_BY_LABEL) == slices.MANAGER
        ]
        if service is None:
            self._trigger.forget(key)
            for found in existing:
                await self._slices.delete(found)
            return DONE
        if not model.has_selector(service):
            return DONE
        pods = self._pods_of(service)
        zones = self._zones({pod["spec"].get("nodeName") or "" for pod in pods})
        groups = slices.desired(service, pods, zones)
        changed_at = self._trigger.observe(service, pods)
        await write_slices(self._slices, slices.plan(slices.of_service(service), existing, groups, changed_at))
        return DONE

    def _zones(self, names: set[str]) -> dict[str, str]:
        nodes = ((node, self._nodes.get(node)) for node in names)
        return {node: labels(found).get(model.ZONE_LABEL, "") for node, found in nodes if found is not None}


class EndpointsController(ServiceFollower):
    """Writes the Endpoints of Services with a selector."""

    name = "endpoint-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._endpoints = self.caches.of(ENDPOINTS)
        self._endpoints.informer.on_update(lambda _, new: self.queue.add_after(key(new), self._batch))
        self._endpoints.informer.on_delete(lambda gone: self.queue.add_after(key(gone), self._batch))

    async def run(self) -> None:
        """Endpoints whose Service vanished while nobody looked are looked at as well."""
        for found in self._endpoints.all():
            if self._services.get(key(found)) is None:
                self.queue.add(key(found))
        await super().run()

    async def sync(self, key: str) -> Outcome:
        """One Service."""
        service = self._services.get(key)
        current = self._endpoints.get(key)
        if service is None:
            self._trigger.forget(key)
            if current is not None and labels(current).get(subsets.MANAGED_BY_LABEL) == subsets.MANAGER:
                await self._endpoints.delete(current)
            return DONE
        if not model.has_selector(service):
            return DONE
        pods = self._pods_of(service)
        made = subsets.wanted(service, current, pods, self._trigger.observe(service, pods))
        if made is None:
            return DONE
        try:
            if current is None:
                await self._endpoints.create(made)
            else:
                await self._endpoints.update(made)
        except ApiError as error:
            # A new object refused while its namespace goes is as it should be; one that exists will be seen.
            if not namespace_is_terminating(error) and not is_already_exists(error) and not is_not_found(error):
                raise
        return DONE
