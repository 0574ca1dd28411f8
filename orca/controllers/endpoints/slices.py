"""Which EndpointSlices a Service should have, with as few writes as possible. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orca.api.builtin import ENDPOINTSLICES, SERVICES
from orca.api.objects import Obj, annotations, controller_of, is_terminating, labels, meta, name, namespace, uid
from orca.controllers import podstate
from orca.controllers.cache import SERVICE_NAME_LABEL
from orca.controllers.claims import owner_reference
from orca.controllers.endpoints import model

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
PER_SLICE = 100

EndpointKey = tuple[str, str]
"""(uid of the pod, address)."""


@dataclass(frozen=True, slots=True)
class Parent:
    """Whose slices they are: the object that owns them and the labels they carry, the annotations if they are its
    as well, and how many endpoints there are in one."""

    name: str
    namespace: str
    reference: Obj
    labels: dict[str, str]
    annotations: dict[str, str] | None = None
    per_slice: int = PER_SLICE

    @property
    def uid(self) -> str:
        """Of the owner."""
        return str(self.reference["uid"])


def of_service(service: Obj) -> Parent:
    """Slices made from a Service's pods."""
    found = {k: v for k, v in labels(service).items() if k != model.HEADLESS_LABEL}
    found[SERVICE_NAME_LABEL] = name(service)
    found[MANAGED_BY_LABEL] = MANAGER
    if model.is_headless(service):
        found[model.HEADLESS_LABEL] = ""
    return Parent(name(service), namespace(service), owner_reference(SERVICES, service), found)


@dataclass(slots=True)
class Group:
    """All endpoints of a Service with one address family and one set of port numbers: they share slices."""

    address_type: str
    ports: list[Obj]
    endpoints: dict[EndpointKey, Obj] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """Slices to write."""

    create: list[Obj] = field(default_factory=list)
    update: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)


def endpoint_of(service: Obj, pod: Obj, address: str, zone: str) -> Obj:
    """One endpoint. `zone` is that of the pod's node, "" when unknown."""
    ready, terminating = podstate.is_ready(pod), is_terminating(pod)
    endpoint: Obj = {
        "addresses": [address],
        "conditions": {
            "ready": bool(service["spec"].get("publishNotReadyAddresses")) or (ready and not terminating),
            "serving": ready,
            "terminating": terminating,
        },
        "targetRef": model.target_reference(pod),
    }
    node = pod["spec"].get("nodeName")
    if node:
        endpoint["nodeName"] = node
        if zone:
            endpoint["zone"] = zone
    hostname = model.hostname_of(service, pod)
    if hostname:
        endpoint["hostname"] = hostname
    return endpoint


@dataclass(frozen=True, slots=True)
class Part:
    """What one pod adds to the slices of one address family; `ports_key` is equal where `ports` are."""

    family: str
    ports_key: str
    ports: list[Obj]
    key: EndpointKey
    endpoint: Obj


def parts_of(service: Obj, pod: Obj, zone: str) -> tuple[Part, ...]:
    """What a pod adds to its Service. `zone` is that of its node, "" when unknown."""
    if not model.contributes(pod, terminating=True):
        return ()
    ports = model.ports_of(service, pod)
    if not ports and not model.is_headless(service):
        return ()
    found = []
    for family in model.families(service):
        address = model.address_of(pod, family)
        if address is not None:
            endpoint = endpoint_of(service, pod, address, zone)
            found.append(Part(family, _ports_key(ports), ports, (uid(pod), address), endpoint))
    return tuple(found)


def grouped(service: Obj, parts: Iterable[Part]) -> list[Group]:
    """Groups with the endpoints the Service should have now."""
    groups: dict[tuple[str, str], Group] = {}
    for part in parts:
        group = groups.get((part.family, part.ports_key))
        if group is None:
            group = groups[part.family, part.ports_key] = Group(part.family, part.ports)
        group.endpoints[part.key] = part.endpoint
    found = list(groups.values())
    _add_hints(service, found)
    for family in model.families(service):
        if not any(group.address_type == family for group in found):
            # A Service without endpoints has one empty slice, so that readers know it was looked at.
            found.append(Group(family, []))
    return found


def _add_hints(service: Obj, groups: Sequence[Group]) -> None:
    """`trafficDistribution`: keep traffic in the zone or on the node, when every endpoint's place is known."""
    wish = service["spec"].get("trafficDistribution")
    if wish not in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        return
    for group in groups:
        serving = [(key, e) for key, e in group.endpoints.items() if e["conditions"]["ready"]]
        if not all(endpoint.get("zone") for _, endpoint in serving) and wish != "PreferSameNode":
            continue
        for key, endpoint in serving:
            hints: Obj = {}
            if endpoint.get("zone"):
                hints["forZones"] = [{"name": endpoint["zone"]}]
            if wish == "PreferSameNode" and endpoint.get("nodeName"):
                hints["forNodes"] = [{"name": endpoint["nodeName"]}]
            if hints:
                group.endpoints[key] = {**endpoint, "hints": hints}  # parts are kept: they are not to be changed


class Compared:
    """What was found out about slices at the last look, for those that are the same objects still: the keys of their
    endpoints, and which wanted endpoints they equal. Frozen as both are, the same two need no second comparison."""

    def __init__(self) -> None:
        self._slices: dict[str, tuple[Obj, list[EndpointKey], list[Obj | None]]] = {}

    def of(self, found: Obj) -> tuple[list[EndpointKey], list[Obj | None]]:
        """(keys, the wanted endpoint that each is known to equal), in the order of the slice's endpoints."""
        known = self._slices.get(uid(found))
        if known is None or known[0] is not found:
            keys = [_key(endpoint) for endpoint in found.get("endpoints") or ()]
            known = self._slices[uid(found)] = (found, keys, [None] * len(keys))
        return known[1], known[2]

    def keep(self, existing: Sequence[Obj]) -> None:
        """Forgets slices that are gone."""
        if len(self._slices) > len(existing):
            there = {uid(found) for found in existing}
            self._slices = {identity: kept for identity, kept in self._slices.items() if identity in there}


def plan(
    parent: Parent,
    existing: Sequence[Obj],
    groups: Sequence[Group],
    trigger_time: str = "",
    compared: Compared | None = None,
) -> Plan:
    """Moves `existing` slices to `groups`. `trigger_time` goes into what is written. `compared`: of the last look."""
    todo = Plan()
    compared = compared if compared is not None else Compared()
    compared.keep(existing)
    usable: list[Obj] = []
    for found in existing:
        if is_terminating(found):
            continue
        owner = controller_of(found)
        (usable if owner is not None and owner["uid"] == parent.uid else todo.delete).append(found)
    by_key: dict[tuple[str, str], list[Obj]] = {}
    for found in usable:
        by_key.setdefault((found["addressType"], _ports_key(found.get("ports") or [])), []).append(found)
    for group in groups:
        mine = by_key.pop((group.address_type, _ports_key(group.ports)), [])
        _plan_group(parent, group, mine, trigger_time, todo, compared)
    for left in by_key.values():
        todo.delete += left
    _recycle(parent, todo)
    return todo


def _recycle(parent: Parent, todo: Plan) -> None:
    """One update instead of a creation and a deletion; readers never see the Service without the slice."""
    for found in list(todo.delete):
        owner = controller_of(found)
        if owner is None or owner["uid"] != parent.uid:
            continue
        made = next((made for made in todo.create if made["addressType"] == found["addressType"]), None)
        if made is not None:
            todo.create.remove(made)
            todo.delete.remove(found)
            kept = {**meta(found), **{k: v for k, v in meta(made).items() if k != "generateName"}}
            todo.update.append({**found, **made, "metadata": kept})


def _plan_group(
    parent: Parent, group: Group, existing: list[Obj], trigger_time: str, todo: Plan, compared: Compared
) -> None:
    waiting = dict(group.endpoints)
    kept: list[tuple[Obj, list[Obj], bool]] = []  # slice, its endpoints, whether it differs
    for found in existing:
        endpoints, changed = [], False
        keys, equal = compared.of(found)
        for place, key in enumerate(keys):
            wanted = waiting.pop(key, None)
            if wanted is None:
                changed = True
                continue
            endpoints.append(wanted)
            if wanted is not equal[place]:
                if wanted == found["endpoints"][place]:
                    equal[place] = wanted
                else:
                    changed = True
        kept.append((found, endpoints, changed))
    pending = list(waiting.values())
    kept = _fill(kept, pending, parent.per_slice)
    if not group.endpoints and kept:
        # All but one empty slice go.
        todo.delete += [found for found, _, _ in kept[1:]]
        kept = kept[:1]
    for found, endpoints, changed in kept:
        if not endpoints and group.endpoints:
            todo.delete.append(found)
        elif changed or labels(found) != parent.labels or parent.annotations not in (None, annotations(found)):
            todo.update.append(_updated(parent, found, endpoints, trigger_time))
    while pending or (not group.endpoints and not kept):
        batch, pending = pending[: parent.per_slice], pending[parent.per_slice :]
        todo.create.append(_new(parent, group, batch, trigger_time))
        if not group.endpoints:
            break


def _fill(
    kept: list[tuple[Obj, list[Obj], bool]], pending: list[Obj], per_slice: int
) -> list[tuple[Obj, list[Obj], bool]]:
    """Puts `pending` (emptied as far as it goes) into slices written anyway, or all into the fullest with room."""
    for _, endpoints, changed in kept:
        if changed and endpoints:
            take = per_slice - len(endpoints)
            endpoints += pending[:take]
            del pending[:take]
    if pending:
        roomy = [i for i, (_, endpoints, _) in enumerate(kept) if len(endpoints) + len(pending) <= per_slice]
        if roomy:
            index = max(roomy, key=lambda i: len(kept[i][1]))
            found, endpoints, _ = kept[index]
            kept[index] = (found, endpoints + pending, True)
            pending.clear()
    return kept


def _key(endpoint: Obj) -> EndpointKey:
    return (endpoint.get("targetRef") or {}).get("uid", ""), (endpoint.get("addresses") or [""])[0]


def _ports_key(ports: Sequence[Obj]) -> str:
    return json.dumps(sorted(({k: v for k, v in p.items() if v} for p in ports), key=str), sort_keys=True)


def _stamped(found: Mapping[str, str], trigger_time: str) -> dict[str, str]:
    rest = {k: v for k, v in found.items() if k != TRIGGER_TIME}
    return {**rest, TRIGGER_TIME: trigger_time} if trigger_time else rest


def _updated(parent: Parent, found: Obj, endpoints: list[Obj], trigger_time: str) -> Obj:
    metadata = {**meta(found), "labels": parent.labels}
    before = annotations(found) if parent.annotations is None else parent.annotations
    stamped = _stamped(before, trigger_time)
    metadata.pop("annotations", None)
    if stamped:
        metadata["annotations"] = stamped
    return {**found, "metadata": metadata, "endpoints": endpoints}


def _new(parent: Parent, group: Group, endpoints: list[Obj], trigger_time: str) -> Obj:
    metadata: Obj = {
        "generateName": f"{parent.name}-",
        "namespace": parent.namespace,
        "labels": parent.labels,
        "ownerReferences": [parent.reference],
    }
    stamped = _stamped(parent.annotations or {}, trigger_time)
    if stamped:
        metadata["annotations"] = stamped
    return {
        "apiVersion": ENDPOINTSLICES.api_version,
        "kind": ENDPOINTSLICES.kind,
        "metadata": metadata,
        "addressType": group.address_type,
        "ports": group.ports,
        "endpoints": endpoints,
    }
