"""Endpoints that somebody writes for a Service without selector become EndpointSlices, which is what proxies read."""

from ipaddress import ip_address

from orca.api.builtin import ENDPOINTS, ENDPOINTSLICES, SERVICES
from orca.api.objects import Obj, annotations, is_terminating, labels, name, namespace
from orca.controllers.cache import SERVICE_NAME_LABEL
from orca.controllers.claims import owner_reference
from orca.controllers.endpoints import model, slices, subsets
from orca.controllers.endpoints.controllers import write_slices
from orca.controllers.harness import DONE, Context, Controller, Outcome

MIRRORER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
MOST_PER_SUBSET = 1000
_OWN_ANNOTATIONS = frozenset({slices.TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration"})


def is_mirrored(endpoints: Obj, service: Obj) -> bool:
    """Not written by a controller here, not a lock, not opted out, and the Service selects nothing itself."""
    found = labels(endpoints)
    return (
        found.get(SKIP_LABEL) != "true"
        and found.get(subsets.MANAGED_BY_LABEL) != subsets.MANAGER
        and LEADER_ANNOTATION not in annotations(endpoints)
        and not service["spec"].get("selector")
        and not is_terminating(endpoints)
    )


def groups_of(endpoints: Obj) -> list[slices.Group]:
    """One group for each subset and address family."""
    found: dict[tuple[str, int], slices.Group] = {}
    for index, subset in enumerate(endpoints.get("subsets") or ()):
        ports = [
            {k: v for k, v in {"name": "", "protocol": "TCP", **port}.items() if v is not None}
            for port in subset.get("ports") or ()
        ]
        taken = 0
        for part, ready in (("addresses", True), ("notReadyAddresses", False)):
            for entry in subset.get(part) or ():
                if taken >= MOST_PER_SUBSET:
                    break
                taken += 1
                family = "IPv6" if ip_address(entry["ip"]).version == 6 else "IPv4"
                group = found.setdefault((family, index), slices.Group(family, ports))
                group.endpoints[((entry.get("targetRef") or {}).get("uid", ""), entry["ip"])] = _endpoint(entry, ready)
    return _merged(list(found.values()))


def surplus(endpoints: Obj) -> int:
    """How many addresses are not mirrored because their subset has too many."""
    counts = (
        len(subset.get("addresses") or ()) + len(subset.get("notReadyAddresses") or ())
        for subset in endpoints.get("subsets") or ()
    )
    return sum(max(count - MOST_PER_SUBSET, 0) for count in counts)


def _endpoint(entry: Obj, ready: bool) -> Obj:
    made: Obj = {"addresses": [entry["ip"]], "conditions": {"ready": ready}}
    for part in ("hostname", "nodeName", "targetRef"):
        if entry.get(part):
            made[part] = entry[part]
    return made


def _merged(groups: list[slices.Group]) -> list[slices.Group]:
    """Subsets with the same ports share slices."""
    merged: list[slices.Group] = []
    for group in groups:
        same = (one for one in merged if one.address_type == group.address_type and one.ports == group.ports)
        into = next(same, None)
        if into is None:
            merged.append(group)
        else:
            into.endpoints.update(group.endpoints)
    return merged


class EndpointSliceMirroringController(Controller):
    """Keys are those of Endpoints and Service alike."""

    name = "endpoint-slice-mirroring-controller"
    resource = ENDPOINTS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._endpoints = self.caches.of(ENDPOINTS)
        self._services = self.caches.of(SERVICES)
        self._slices = self.caches.of(ENDPOINTSLICES)
        self._endpoints.informer.on_change(self._endpoints_changed)
        self._services.informer.on_change(self._service_changed)
        self._slices.informer.on_update(lambda _, new: self._slice_changed(new))
        self._slices.informer.on_delete(self._slice_changed)

    def _endpoints_changed(self, endpoints: Obj) -> None:
        if labels(endpoints).get(subsets.MANAGED_BY_LABEL) != subsets.MANAGER:
            self.enqueue(endpoints)

    def _service_changed(self, service: Obj) -> None:
        if not model.has_selector(service):
            self.enqueue(service)

    def _slice_changed(self, found: Obj) -> None:
        if labels(found).get(slices.MANAGED_BY_LABEL) == MIRRORER:
            self.queue.add(f"{namespace(found)}/{labels(found).get(SERVICE_NAME_LABEL, '')}")

    async def sync(self, key: str) -> Outcome:
        """One Endpoints object."""
        endpoints, service = self._endpoints.get(key), self._services.get(key)
        existing = [
            found
            for found in self._slices.by_index("service", key)
            if labels(found).get(slices.MANAGED_BY_LABEL) == MIRRORER
        ]
        if endpoints is None or service is None or not is_mirrored(endpoints, service):
            await write_slices(self._slices, slices.Plan(delete=existing))
            return DONE
        parent = slices.Parent(
            name(endpoints),
            namespace(endpoints),
            owner_reference(ENDPOINTS, endpoints),
            {**labels(endpoints), SERVICE_NAME_LABEL: name(service), slices.MANAGED_BY_LABEL: MIRRORER},
            {k: v for k, v in annotations(endpoints).items() if k not in _OWN_ANNOTATIONS},
            MOST_PER_SUBSET,
        )
        if left_out := surplus(endpoints):
            self.recorder.event(
                endpoints,
                "Warning",
                "TooManyAddressesToMirror",
                f"A max of {MOST_PER_SUBSET} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                f"{left_out} addresses were skipped",
            )
        await write_slices(self._slices, slices.plan(parent, existing, groups_of(endpoints)))
        return DONE
