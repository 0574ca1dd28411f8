"""Follow Services and pods; write slices and Endpoints a moment after a change.

A change of a pod reaches its Services through an index over one pair of each selector, not by trying all of them.
"""

from abc import abstractmethod
from itertools import chain
from typing import Generic, TypeVar

from orca.api.builtin import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj, key, labels, namespace, resource_version, uid
from orca.api.times import format_micro, parse_time
from orca.controllers import conditions
from orca.controllers.cache import SERVICE_NAME_LABEL, Cache
from orca.controllers.endpoints import model, slices, subsets
from orca.controllers.endpoints.contributions import Contributions
from orca.controllers.harness import DONE, Coalescer, Context, Controller, Outcome, RetryAfter
from orca.controllers.podcontrol import namespace_is_terminating

T = TypeVar("T")


class TriggerTimes:
    """Remembers, for each Service, when its pods last changed, so that what is written says since when it was due
    (`endpoints.kubernetes.io/last-change-trigger-time`; the base of programming latency figures)."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, str]] = {}

    def observe(self, service: Obj, now: dict[str, str]) -> str:
        """The earliest change since the last call for this Service, "" when nothing stamped has changed. `now` are the
        stamps of its pods by uid."""
        before = self._pods.get(key(service))
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


class ServiceFollower(Controller, Generic[T]):
    """Queues Services by key "namespace/name" when they or their pods change.

    The first change of a pod is written at once, those that follow are collected: the longer, the more it costs to look
    at the Service.
    """

    resource = SERVICES
    cost_factor = 4
    """After a look it is not looked at again for so many times as long."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._contributions: Contributions[tuple[str, str, T]] = Contributions(
            lambda service, pod, zone: (uid(pod), _changed_at(pod), self.contributed(service, pod, zone))
        )
        self._services = self.caches.of(SERVICES)
        self._pods = self.caches.of(PODS)
        self._trigger = TriggerTimes()
        self._soon = Coalescer(self.queue, self.clock, context.config.endpoints_batch, self.cost_factor)
        self._services.informer.on_change(self._service_changed)
        self._pods.informer.on_add(self._pod_changed)
        self._pods.informer.on_update(self._pod_updated)
        self._pods.informer.on_delete(self._pod_changed)

    def _service_changed(self, service: Obj) -> None:
        self.queue.add(key(service))

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if not self._services.informer.has("namespace", namespace(new)):
            return
        if model.fingerprint(old) == model.fingerprint(new):
            return
        if labels(old) != labels(new):
            self._pod_changed(old)
        self._pod_changed(new)

    def _pod_changed(self, pod: Obj) -> None:
        space = namespace(pod)
        if not self._services.informer.has("namespace", space):
            return
        for label, value in labels(pod).items():
            for service in self._services.informer.by_index("selector", f"{space}/{label}={value}"):
                if model.selects(service, pod):
                    self._soon.add(key(service))

    @abstractmethod
    def contributed(self, service: Obj, pod: Obj, zone: str) -> T:
        """What a pod adds to a Service; pure, and kept until one of the two changes."""

    def zone_of(self, node: str) -> str:
        """Of the node with that name, as far as it matters."""
        del node
        return ""

    def look(self, service: Obj) -> tuple[str, list[T]]:
        """Since when a write is due ("": nobody knows), and what all its pods contribute."""
        zones: dict[str, str] = {}
        placed = []
        for pod in self._pods_of(service):
            node = pod["spec"].get("nodeName") or ""
            if node not in zones:
                zones[node] = self.zone_of(node) if node else ""
            placed.append((pod, zones[node]))
        found = self._contributions.of(service, placed)
        changed_at = self._trigger.observe(service, {identity: stamp for identity, stamp, _ in found})
        return changed_at, [parts for _, _, parts in found]

    def forget(self, service_key: str) -> None:
        """The Service is gone."""
        self._trigger.forget(service_key)
        self._contributions.forget(service_key)

    def _pods_of(self, service: Obj) -> list[Obj]:
        space, selector = namespace(service), service["spec"]["selector"]
        pairs = [f"{space}/{label}={value}" for label, value in selector.items()]
        smallest = min((self._pods.by_index("label", pair) for pair in pairs), key=len)
        return smallest if len(pairs) == 1 else [pod for pod in smallest if model.selects(service, pod)]


class OwnWrites:
    """What this process wrote last of each object: to hear of that from the watch is no reason to look again."""

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}

    def note(self, written: Obj) -> None:
        self._versions[uid(written)] = str(resource_version(written))

    def is_own(self, seen: Obj) -> bool:
        return self._versions.get(uid(seen)) == resource_version(seen)

    def forget(self, gone: Obj) -> None:
        self._versions.pop(uid(gone), None)


async def write_slices(cache: Cache, todo: slices.Plan, own: OwnWrites | None = None) -> None:
    """Carries the plan out; creations refused because the namespace goes are as they should be."""
    own = own if own is not None else OwnWrites()
    for made in todo.create:
        try:
            own.note(await cache.create(made))
        except ApiError as error:
            if not namespace_is_terminating(error):
                raise
    for changed in todo.update:
        own.note(await cache.update(changed))
    for surplus in todo.delete:
        await cache.delete(surplus)


class EndpointSliceController(ServiceFollower[tuple[slices.Part, ...]]):
    """Writes the EndpointSlices of Services with a selector."""

    name = "endpoint-slice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._slices = self.caches.of(ENDPOINTSLICES)
        self._nodes = self.caches.of(NODES)
        self._own = OwnWrites()
        self._compared: dict[str, slices.Compared] = {}
        self._slices.informer.on_update(lambda _, new: None if self._own.is_own(new) else self._slice_changed(new))
        self._slices.informer.on_delete(self._slice_gone)
        self._nodes.informer.on_add(self._node_added)
        self._nodes.informer.on_update(self._node_updated)

    def _slice_gone(self, found: Obj) -> None:
        self._own.forget(found)
        self._slice_changed(found)

    def forget(self, service_key: str) -> None:
        super().forget(service_key)
        self._compared.pop(service_key, None)

    def _slice_changed(self, found: Obj) -> None:
        service = labels(found).get(SERVICE_NAME_LABEL)
        if service and labels(found).get(slices.MANAGED_BY_LABEL) == slices.MANAGER:
            self._soon.add(f"{namespace(found)}/{service}")

    def _node_updated(self, old: Obj, new: Obj) -> None:
        if labels(old).get(model.ZONE_LABEL) != labels(new).get(model.ZONE_LABEL):
            self._zone_changed(new)

    def _node_added(self, node: Obj) -> None:
        if labels(node).get(model.ZONE_LABEL):
            self._zone_changed(node)

    def _zone_changed(self, node: Obj) -> None:
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
            self.forget(key)
            for found in existing:
                await self._slices.delete(found)
            return DONE
        if not model.has_selector(service):
            return DONE
        began = self.clock.monotonic()
        changed_at, parts = self.look(service)
        groups = slices.grouped(service, chain.from_iterable(parts))
        compared = self._compared.setdefault(key, slices.Compared())
        todo = slices.plan(slices.of_service(service), existing, groups, changed_at, compared)
        try:
            await write_slices(self._slices, todo, self._own)
        except ApiError as error:
            if not is_conflict(error):
                text = f"Error updating Endpoint Slices for Service {key}: {error}"
                self.recorder.event(service, "Warning", "FailedToUpdateEndpointSlices", text)
            raise
        self._soon.cost(key, self.clock.monotonic() - began)
        return DONE

    def contributed(self, service: Obj, pod: Obj, zone: str) -> tuple[slices.Part, ...]:
        return slices.parts_of(service, pod, zone)

    def zone_of(self, node: str) -> str:
        found = self._nodes.get(node)
        return labels(found).get(model.ZONE_LABEL, "") if found is not None else ""


class EndpointsController(ServiceFollower[subsets.Part | None]):
    """Writes the Endpoints of Services with a selector: one object with all of a Service's addresses, which nobody
    follows who can read slices. It is written the less often the larger it is."""

    name = "endpoint-controller"
    cost_factor = 10

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._endpoints = self.caches.of(ENDPOINTS)
        self._own = OwnWrites()
        self._endpoints.informer.on_update(lambda _, new: None if self._own.is_own(new) else self._soon.add(key(new)))
        self._endpoints.informer.on_delete(self._gone)

    def _gone(self, endpoints: Obj) -> None:
        self._own.forget(endpoints)
        self._soon.add(key(endpoints))

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
            self.forget(key)
            if current is not None and labels(current).get(subsets.MANAGED_BY_LABEL) == subsets.MANAGER:
                await self._endpoints.delete(current)
            return DONE
        if not model.has_selector(service):
            return DONE
        began = self.clock.monotonic()
        changed_at, parts = self.look(service)
        made = subsets.wanted(service, current, filter(None, parts), changed_at)
        if made is None:
            return DONE
        try:
            if current is None:
                self._own.note(await self._endpoints.create(made))
            else:
                self._own.note(await self._endpoints.update(made))
        except ApiError as error:
            if is_already_exists(error):
                return RetryAfter()  # as it is by then; nobody tells of one that came
            # A new object refused while its namespace goes is as it should be; one that is gone will be heard of.
            if not namespace_is_terminating(error) and not is_not_found(error):
                if current is None:
                    text = f"Failed to create endpoint for service {key}: {error}"
                    self.recorder.event(service, "Warning", "FailedToCreateEndpoint", text)
                elif not is_conflict(error):
                    text = f"Failed to update endpoint {key}: {error}"
                    self.recorder.event(service, "Warning", "FailedToUpdateEndpoint", text)
                raise
        self._soon.cost(key, self.clock.monotonic() - began)
        return DONE

    def contributed(self, service: Obj, pod: Obj, zone: str) -> subsets.Part | None:
        del zone
        return subsets.part_of(service, pod)
