"""Whether a resize has room on this host, which one is looked at first, and how they are told of. Pure.

Reference: k8s.io/kubernetes ``pkg/kubelet/allocation`` and ``pkg/kubelet/events``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.pods.containers import init_containers, main_containers, spec_of
from agents.pods.resources import amounts, qos_class
from agents.pods.sizes import as_allotted, wished
from agents.resources.amounts import amounts_of, requests_of
from orca.api.objects import Obj

DEFERRED = "Deferred"
INFEASIBLE = "Infeasible"
_MANAGED = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a resize is not allotted: for now, or never on this node."""

    reason: str
    message: str


def objection(
    pod: Obj, allotted: Mapping[str, Obj], others: Iterable[Obj], node: Obj | None, *, pinned: bool = False
) -> Objection | None:
    """None when ``pod`` may have what it asks for. ``others`` are this host's pods with what is allotted to them;
    ``node`` is None while that is unknown; ``pinned`` where containers have cpus for themselves."""
    if pinned and qos_class(pod) == "Guaranteed" and _other_cpu(pod, allotted):
        return Objection(INFEASIBLE, 'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"')
    if node is None:
        return None
    capacity = amounts_of((node.get("status") or {}).get("allocatable") or {})
    wanted, has = requests_of(pod), requests_of(as_allotted(pod, allotted))
    for resource in ("memory", "cpu"):
        if wanted.get(resource, 0) > capacity.get(resource, 0):
            numbers = f"requested: {wanted[resource]}, capacity: {capacity.get(resource, 0)}"
            return Objection(INFEASIBLE, f"Node didn't have enough capacity: {resource}, {numbers}")
    growing = [one for one in _MANAGED if wanted.get(one, 0) > has.get(one, 0)]
    taken = [requests_of(other) for other in others] if growing else []
    for resource in growing:
        used = sum(one.get(resource, 0) for one in taken)
        if used + wanted[resource] > capacity.get(resource, 0):
            numbers = f"requested: {wanted[resource]}, used: {used}, capacity: {capacity.get(resource, 0)}"
            return Objection(DEFERRED, f"Node didn't have enough resource: {resource}, {numbers}")
    return None


def _other_cpu(pod: Obj, allotted: Mapping[str, Obj]) -> bool:
    """Whether any container asks for another amount of cpu than it has."""
    for name, wish in wished(pod).items():
        one, other = {"resources": wish}, {"resources": allotted.get(name, wish)}
        if any(amounts(one, kind).get("cpu") != amounts(other, kind).get("cpu") for kind in ("requests", "limits")):
            return True
    return False


def turn(pod: Obj, allotted: Mapping[str, Obj], since: datetime | None, now: datetime) -> tuple[Any, ...]:
    """Sorts resizes that wait: what asks for no more, then by priority, Guaranteed first, then the longest waiting."""
    wanted, has = requests_of(pod), requests_of(as_allotted(pod, allotted))
    grows = any(wanted.get(one, 0) > has.get(one, 0) for one in _MANAGED)
    return grows, -(spec_of(pod).get("priority") or 0), qos_class(pod) != "Guaranteed", since or now


def told(what: str, pod: Obj, generation: int, error: str = "") -> str:
    """The text of an event: ``Pod resize started: {…}`` with the sizes of all containers."""
    summary: Obj = {}
    for group, containers in (("initContainers", init_containers(pod)), ("containers", main_containers(pod))):
        if containers:
            summary[group] = [{"name": one["name"], "resources": _sorted(one)} for one in containers]
    summary["generation"] = generation
    if error:
        summary["error"] = error
    return f"Pod resize {what}: {json.dumps(summary, separators=(',', ':'), ensure_ascii=False)}"


def _sorted(container: Obj) -> Obj:
    resources = container.get("resources") or {}
    return {kind: dict(sorted(resources[kind].items())) for kind in ("limits", "requests") if resources.get(kind)}
