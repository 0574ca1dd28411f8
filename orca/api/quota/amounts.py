"""What pods ask for: requests and limits of containers, and of a pod as a whole."""

from collections.abc import Mapping

from orca.api.objects import Obj
from orca.api.podsizes import Sizes, held, held_whole
from orca.api.quantity import Quantity

Total = dict[str, Quantity]


def containers_of(pod: Obj) -> list[Obj]:
    """Init containers, then containers."""
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def amounts_of(holder: Obj) -> tuple[dict[str, str], dict[str, str]]:
    """(requests, limits) as written."""
    found = holder.get("resources") or {}
    return found.get("requests") or {}, found.get("limits") or {}


def pod_total(pod: Obj, *, status: bool = False) -> tuple[Total, Total]:
    """(requests, limits) that a pod needs at its worst moment; with ``status`` also what it still or already holds.

    Containers run together, and sidecars (init containers that restart always) beside them; other init containers run
    one by one, beside the sidecars started before them.
    """
    counted = held(pod) if status else {}
    return _total(pod, "requests", counted, status=status), _total(pod, "limits", counted, status=status)


def _is_pod_level(resource: str) -> bool:
    return resource in ("cpu", "memory") or resource.startswith("hugepages-")


def _total(pod: Obj, side: str, counted: Mapping[str, Mapping[str, Sizes]], *, status: bool) -> Total:
    spec = pod.get("spec") or {}
    together: Total = {}
    peak: Total = {}
    for container in spec.get("initContainers") or ():
        own = _own(container, side, counted)
        if container.get("restartPolicy") == "Always":
            _add(together, own)
        else:
            beside = dict(together)
            _add(beside, own)
            _raise(peak, beside)
    for container in spec.get("containers") or ():
        _add(together, _own(container, side, counted))
    _raise(peak, together)
    # What the pod says as a whole counts instead of the sum of its containers.
    whole = (held_whole(pod) if status else spec.get("resources") or {}).get(side) or {}
    peak.update({key: Quantity.parse(amount) for key, amount in whole.items() if _is_pod_level(key)})
    overhead = {key: Quantity.parse(amount) for key, amount in (spec.get("overhead") or {}).items()}
    # An overhead is no limit where the containers have none.
    _add(peak, overhead if side == "requests" else {key: one for key, one in overhead.items() if key in peak})
    return peak


def _own(container: Obj, side: str, counted: Mapping[str, Mapping[str, Sizes]]) -> Total:
    sizes = counted.get(container.get("name") or "") or container.get("resources") or {}
    return {key: Quantity.parse(amount) for key, amount in (sizes.get(side) or {}).items()}


def _add(total: Total, more: Total) -> None:
    for key, amount in more.items():
        total[key] = total[key] + amount if key in total else amount


def _raise(peak: Total, other: Total) -> None:
    for key, amount in other.items():
        if key not in peak or amount.value > peak[key].value:
            peak[key] = amount
