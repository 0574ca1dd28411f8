"""What pods ask for: requests and limits of containers, and of a pod as a whole."""

from orca.api.objects import Obj
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


def pod_total(pod: Obj) -> tuple[Total, Total]:
    """(requests, limits) that a pod needs at its worst moment.

    Containers run together, and sidecars (init containers that restart always) beside them; other init containers run
    one by one, beside the sidecars started before them.
    """
    return _total(pod, 0), _total(pod, 1)


def _total(pod: Obj, side: int) -> Total:
    spec = pod.get("spec") or {}
    together: Total = {}
    peak: Total = {}
    for container in spec.get("initContainers") or ():
        own = {key: Quantity.parse(amount) for key, amount in amounts_of(container)[side].items()}
        if container.get("restartPolicy") == "Always":
            _add(together, own)
        else:
            beside = dict(together)
            _add(beside, own)
            _raise(peak, beside)
    for container in spec.get("containers") or ():
        _add(together, {key: Quantity.parse(amount) for key, amount in amounts_of(container)[side].items()})
    _raise(peak, together)
    overhead = {key: Quantity.parse(amount) for key, amount in (spec.get("overhead") or {}).items()}
    # An overhead is no limit where the containers have none.
    _add(peak, overhead if side == 0 else {key: one for key, one in overhead.items() if key in peak})
    return peak


def _add(total: Total, more: Total) -> None:
    for key, amount in more.items():
        total[key] = total[key] + amount if key in total else amount


def _raise(peak: Total, other: Total) -> None:
    for key, amount in other.items():
        if key not in peak or amount.value > peak[key].value:
            peak[key] = amount
