"""What pods ask for and may have, as numbers: cpu in thousandths, everything else in bytes or pieces. Pure.

Reference: k8s.io/component-helpers ``resource`` (PodRequests, PodLimits): what a pod's own ``resources`` say of cpu,
memory and huge pages counts instead of the sum over its containers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orca.api.objects import Obj
from orca.api.quantity import parse_cpu_milli, parse_int

Amounts = dict[str, int]
"""Resource name -> cpu in thousandths, everything else in bytes or pieces."""

HUGE_PAGES = "hugepages-"


def amounts_of(quantities: Obj) -> Amounts:
    """Parsed quantities."""
    return {one: parse_cpu_milli(text) if one == "cpu" else parse_int(text) for one, text in quantities.items()}


def is_pod_level(resource: str) -> bool:
    """Whether a pod's own ``resources`` may say something of it."""
    return resource in ("cpu", "memory") or resource.startswith(HUGE_PAGES)


def pod_level(pod: Obj, kind: str) -> Obj:
    """``spec.resources.requests`` or ``.limits`` as written, as far as they count."""
    found = ((pod.get("spec") or {}).get("resources") or {}).get(kind) or {}
    return {name: amount for name, amount in found.items() if is_pod_level(name)}


def has_pod_level(pod: Obj) -> bool:
    """Whether the pod's own ``resources`` say anything."""
    whole = (pod.get("spec") or {}).get("resources")
    return bool(whole) and bool(pod_level(pod, "requests") or pod_level(pod, "limits"))


def requests_of(pod: Obj) -> Amounts:
    """What a pod takes: its main containers and sidecars together, or an init container beside the sidecars before it
    when that is more; what its own ``resources`` say instead; and its overhead."""
    total = container_total(pod, "requests")
    total.update(amounts_of(pod_level(pod, "requests")))
    add(total, amounts_of((pod.get("spec") or {}).get("overhead") or {}))
    return {resource: amount for resource, amount in total.items() if amount}


def limits_of_pod(pod: Obj) -> Amounts:
    """What a pod may use in all, of what is limited at all; overhead comes on top."""
    total = container_total(pod, "limits")
    total.update(amounts_of(pod_level(pod, "limits")))
    overhead = amounts_of((pod.get("spec") or {}).get("overhead") or {})
    add(total, {resource: amount for resource, amount in overhead.items() if total.get(resource)})
    return total


def container_total(pod: Obj, kind: str) -> Amounts:
    """What containers need at the worst moment, without what the pod itself says."""
    spec = pod.get("spec") or {}
    total: Amounts = {}
    for container in spec.get("containers") or ():
        add(total, _own(container, kind))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        asked = _own(container, kind)
        if container.get("restartPolicy") == "Always":
            add(sidecars, asked)
            asked = sidecars
        else:
            add(asked, sidecars)
        for resource, amount in asked.items():
            peak[resource] = max(peak.get(resource, 0), amount)
    add(total, sidecars)
    for resource, amount in peak.items():
        total[resource] = max(total.get(resource, 0), amount)
    return total


def every_one(pod: Obj, test: Callable[[Obj], bool]) -> bool:
    """Whether a test on ``resources`` holds for every init and main container."""
    return all(test(container.get("resources") or {}) for container in containers(pod))


def containers(pod: Obj) -> Iterator[Obj]:
    """Init containers and main ones; ephemeral containers never have resources."""
    spec = pod.get("spec") or {}
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def add(total: Amounts, more: Amounts) -> None:
    """Add in place."""
    for resource, amount in more.items():
        total[resource] = total.get(resource, 0) + amount


def _own(container: Obj, kind: str) -> Amounts:
    return amounts_of((container.get("resources") or {}).get(kind) or {})
