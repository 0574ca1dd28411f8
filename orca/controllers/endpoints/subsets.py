"""The Endpoints object of a Service: the same addresses as its slices in the older form. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orca.api.builtin import ENDPOINTS
from orca.api.objects import Obj, annotations, labels, meta, name, namespace
from orca.controllers import podstate
from orca.controllers.endpoints import model

MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
CAPACITY = 1000

_PortKey = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What one pod adds: its address, and the ports that are served there."""

    address: str
    is_ready: bool
    entry: Obj
    ports: tuple[_PortKey, ...]


def part_of(service: Obj, pod: Obj) -> Part | None:
    """What a pod adds to its Service."""
    family = model.families(service)[0]
    unready_too = bool(service["spec"].get("publishNotReadyAddresses"))
    address = model.address_of(pod, family) if model.contributes(pod, terminating=unready_too) else None
    if address is None:
        return None
    keys = [tuple(sorted((k, v) for k, v in port.items() if v)) for port in model.ports_of(service, pod)]
    if not service["spec"].get("ports") and model.is_headless(service):
        keys = [()]
    return Part(address, unready_too or podstate.is_ready(pod), _address(service, pod, address), tuple(keys))


def subsets_of(parts: Iterable[Part]) -> list[Obj]:
    """Ports that are served by the same addresses share a subset. Everything is sorted, so equal pods give equal
    subsets."""
    served: dict[_PortKey, dict[str, tuple[bool, Obj]]] = {}
    for part in parts:
        for port_key in part.ports:
            served.setdefault(port_key, {})[part.address] = (part.is_ready, part.entry)
    grouped: dict[tuple[tuple[str, bool], ...], list[_PortKey]] = {}
    for port_key, addresses in served.items():
        signature = tuple(sorted((address, ready) for address, (ready, _) in addresses.items()))
        grouped.setdefault(signature, []).append(port_key)
    found = [_subset(sorted(keys, key=str), served[keys[0]]) for keys in grouped.values()]
    return sorted(found, key=lambda subset: str(subset.get("ports")))


def _address(service: Obj, pod: Obj, address: str) -> Obj:
    entry: Obj = {"ip": address}
    hostname = model.hostname_of(service, pod)
    if hostname:
        entry["hostname"] = hostname
    if pod["spec"].get("nodeName"):
        entry["nodeName"] = pod["spec"]["nodeName"]
    entry["targetRef"] = model.target_reference(pod)
    return entry


def _subset(ports: Sequence[_PortKey], addresses: dict[str, tuple[bool, Obj]]) -> Obj:
    subset: Obj = {}
    ordered = [addresses[address] for address in sorted(addresses)]
    ready = [entry for is_ready, entry in ordered if is_ready]
    unready = [entry for is_ready, entry in ordered if not is_ready]
    if ready:
        subset["addresses"] = ready
    if unready:
        subset["notReadyAddresses"] = unready
    numbered = [dict(port) for port in ports if port]
    if numbered:
        subset["ports"] = numbered
    return subset


def wanted(service: Obj, current: Obj | None, parts: Iterable[Part], trigger_time: str = "") -> Obj | None:
    """The object to create (`current` is None) or to replace it with; None when it is right already."""
    subsets, truncated = _truncate(subsets_of(parts))
    found_labels = {k: v for k, v in labels(service).items() if k != model.HEADLESS_LABEL}
    found_labels[MANAGED_BY_LABEL] = MANAGER
    if model.is_headless(service):
        found_labels[model.HEADLESS_LABEL] = ""
    kept = {k: v for k, v in annotations(current or {}).items() if k not in (_TRIGGER_TIME, OVER_CAPACITY)}
    if truncated:
        kept[OVER_CAPACITY] = "truncated"
    if current is not None:
        before = {k: v for k, v in annotations(current).items() if k != _TRIGGER_TIME}
        if (current.get("subsets") or []) == subsets and labels(current) == found_labels and before == kept:
            return None
    if trigger_time:
        kept[_TRIGGER_TIME] = trigger_time
    metadata: Obj = {**meta(current or {}), "name": name(service), "namespace": namespace(service)}
    metadata["labels"] = found_labels
    metadata.pop("annotations", None)
    if kept:
        metadata["annotations"] = kept
    made: Obj = {"apiVersion": ENDPOINTS.api_version, "kind": ENDPOINTS.kind, "metadata": metadata}
    if subsets:
        made["subsets"] = subsets
    return made


_TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def _truncate(subsets: list[Obj]) -> tuple[list[Obj], bool]:
    """At most CAPACITY addresses, ready ones first."""
    total = sum(len(s.get("addresses", ())) + len(s.get("notReadyAddresses", ())) for s in subsets)
    if total <= CAPACITY:
        return subsets, False
    left = CAPACITY
    room: list[dict[str, int]] = [{} for _ in subsets]
    for part in ("addresses", "notReadyAddresses"):
        for index, subset in enumerate(subsets):
            room[index][part] = min(len(subset.get(part, ())), left)
            left -= room[index][part]
    cut = []
    for subset, sizes in zip(subsets, room, strict=True):
        shorter = {part: subset[part][: sizes[part]] for part in sizes if sizes[part]}
        if shorter:
            cut.append({**subset, **dict.fromkeys(sizes), **shorter})
    return [{k: v for k, v in subset.items() if v is not None} for subset in cut], True
