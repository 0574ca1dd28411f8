"""Upstream's texts. Pure; each ends with a blank, as there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from agents.eviction.observations import Observations
from agents.eviction.thresholds import INODE_SIGNALS, RESOURCES, Signal, Threshold
from agents.stats.model import ContainerStats, PodStats
from orca.api.objects import Obj, name
from orca.api.quantity import Quantity

REASON = "Evicted"


@dataclass(frozen=True, slots=True)
class Eviction:
    """Text of status and event, and the event's annotations."""

    message: str
    annotations: Mapping[str, str] = field(default_factory=dict)


def low_on(
    resource: str, pod: Obj, stats: PodStats | None, due: Sequence[Threshold], observed: Observations
) -> Eviction:
    """Of a pod that goes because the node runs short of ``resource``."""
    message = f"The node was low on resource: {resource}. "
    for threshold in due:
        seen = observed.get(threshold.signal)
        if RESOURCES[threshold.signal] == resource and seen is not None:
            left = _amount(seen.available, binary=threshold.signal not in INODE_SIGNALS | {Signal.PID})
            message += f"Threshold quantity: {threshold.quantity(seen.capacity)}, available: {left}. "
            break
    if stats is None:
        return Eviction(message)
    annotations: dict[str, str] = {}
    spec = pod.get("spec") or {}
    of_pod = ((spec.get("resources") or {}).get("requests") or {}).get(resource)
    if resource == "memory" and of_pod is not None and stats.memory is not None:
        use = _amount(stats.memory.working_set)
        message += (
            f"Pod {name(pod)} was using {use}, request is {Quantity.parse(of_pod)}, "
            f"has larger consumption of {resource}. "
        )
        annotations |= {"offending_pod": name(pod), "offending_pod_usage": str(use)}
    containers = {one["name"]: one for one in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]}
    guilty = []
    for container in stats.containers:
        used = _use_of(container, resource)
        if container.name not in containers or used is None:
            continue
        asked = ((containers[container.name].get("resources") or {}).get("requests") or {}).get(resource, "0")
        request, use = Quantity.parse(asked), _amount(used)
        if use.value > request.value:
            message += (
                f"Container {container.name} was using {use}, request is {request}, "
                f"has larger consumption of {resource}. "
            )
            guilty.append((container.name, str(use)))
    annotations |= {
        "offending_containers": ",".join(one for one, _ in guilty),
        "offending_containers_usage": ",".join(use for _, use in guilty),
        "starved_resource": resource,
    }
    return Eviction(message, annotations)


def volume_too_large(volume: str, limit: Quantity) -> Eviction:
    """An emptyDir has more in it than its ``sizeLimit``."""
    return Eviction(f'Usage of EmptyDir volume "{volume}" exceeds the limit "{limit}". ')


def pod_too_large(limit: Quantity) -> Eviction:
    """A pod takes more disk than the limits of its containers allow together."""
    return Eviction(f"Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ")


def container_too_large(container: str, limit: Quantity) -> Eviction:
    """A container's layer and logs take more than its limit."""
    return Eviction(f'Container {container} exceeded its local ephemeral storage limit "{limit}". ')


def node_has(conditions: Sequence[str]) -> str:
    """Why a pod is not admitted."""
    return f"The node had condition: [{' '.join(conditions)}]. "


def _use_of(container: ContainerStats, resource: str) -> int | None:
    if resource == "memory":
        return container.memory.working_set if container.memory is not None else None
    if resource == "ephemeral-storage" and container.rootfs is not None and container.logs is not None:
        return (container.rootfs.used or 0) + (container.logs.used or 0)
    return None


def _amount(value: int, *, binary: bool = True) -> Quantity:
    return Quantity(Decimal(value), "binary" if binary else "decimal")
