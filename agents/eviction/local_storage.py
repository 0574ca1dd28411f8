"""Limits on local storage: ``emptyDir.sizeLimit`` and ``limits.ephemeral-storage`` of containers and pods. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agents.eviction import messages
from agents.eviction.messages import Eviction
from agents.stats.model import PodStats
from orca.api.objects import Obj
from orca.api.quantity import Quantity

EPHEMERAL = "ephemeral-storage"


@dataclass(frozen=True, slots=True)
class Excess:
    """What went too far; ``signal`` is its name in metrics."""

    signal: str
    eviction: Eviction


def is_limited(pod: Obj) -> bool:
    """The pod has such a limit, so its use of disk has to be known."""
    return any(_size_limits(pod)) or pod_limit(pod) is not None or bool(_container_limits(pod))


def excess(pod: Obj, stats: PodStats, *, dedicated_image_fs: bool) -> Excess | None:
    """The first limit the pod has passed: a volume's, its own, a container's. Layers on a file system for images do not
    count against a container, as upstream."""
    for volume, limit in _size_limits(pod):
        used = stats.volumes.get(volume)
        if used is not None and used.used is not None and used.used > limit.value:
            return Excess("emptydirfs.limit", messages.volume_too_large(volume, limit))
    total = pod_limit(pod)
    if total is not None and stats.ephemeral is not None and (stats.ephemeral.used or 0) > total.value:
        return Excess("ephemeralpodfs.limit", messages.pod_too_large(total))
    limits = _container_limits(pod)
    for container in stats.containers:
        own = limits.get(container.name)
        if own is None:
            continue
        parts = [container.logs] if dedicated_image_fs else [container.logs, container.rootfs]
        if sum(part.used or 0 for part in parts if part is not None) > own.value:
            return Excess("ephemeralcontainerfs.limit", messages.container_too_large(container.name, own))
    return None


def pod_limit(pod: Obj) -> Quantity | None:
    """Of all containers together (or of the largest init container); None when none of them has one."""
    spec = pod.get("spec") or {}
    total: Quantity | None = None
    for container in spec.get("containers") or ():
        total = _plus(total, _limit_of(container))
    sidecars: Quantity | None = None
    peak: Quantity | None = None
    for container in spec.get("initContainers") or ():
        limit = _limit_of(container)
        if container.get("restartPolicy") == "Always":
            sidecars = _plus(sidecars, limit)
            limit = sidecars
        else:
            limit = _plus(limit, sidecars)
        if limit is not None and (peak is None or limit.value > peak.value):
            peak = limit
    total = _plus(total, sidecars)
    if total is None or (peak is not None and peak.value > total.value):
        total = peak
    overhead = (spec.get("overhead") or {}).get(EPHEMERAL)
    return _plus(total, Quantity.parse(overhead)) if total is not None and overhead is not None else total


def _plus(total: Quantity | None, more: Quantity | None) -> Quantity | None:
    if total is None or more is None:
        return total if more is None else more
    return total + more


def _limit_of(container: Obj) -> Quantity | None:
    text = ((container.get("resources") or {}).get("limits") or {}).get(EPHEMERAL)
    return None if text is None else Quantity.parse(text)


def _container_limits(pod: Obj) -> dict[str, Quantity]:
    limits = {one["name"]: _limit_of(one) for one in (pod.get("spec") or {}).get("containers") or ()}
    return {one: limit for one, limit in limits.items() if limit}


def _size_limits(pod: Obj) -> list[tuple[str, Quantity]]:
    found = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        text = (volume.get("emptyDir") or {}).get("sizeLimit")
        if text is not None and (limit := Quantity.parse(text)).value > 0:
            found.append((volume["name"], limit))
    return found
