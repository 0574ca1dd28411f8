"""A pod's quality of service class, from what its containers request and are limited to."""

from __future__ import annotations

from orca.api.objects import Obj
from orca.api.quantity import Quantity

_COMPUTE = ("cpu", "memory")


def _amounts(values: Obj | None) -> dict[str, Quantity]:
    found: dict[str, Quantity] = {}
    if not values:
        return found
    for name in _COMPUTE:
        text = values.get(name)
        if text is not None:
            try:
                amount = Quantity.parse(text)
            except ValueError:
                continue
            if amount.value > 0:
                found[name] = amount
    return found


def qos_class(spec: Obj) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort``.

    Guaranteed: every container (or the pod as a whole) limits cpu and memory and requests exactly that.
    BestEffort: nothing is requested or limited anywhere. Requests that are missing count as their limits.
    """
    own = spec.get("resources")
    parts = [own] if own else []
    if not own or not (_amounts(own.get("requests")) or _amounts(own.get("limits"))):
        containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        parts = [one.get("resources") or {} for one in containers]
    any_set, guaranteed = False, bool(parts)
    for part in parts:
        limits, requests = _amounts(part.get("limits")), _amounts(part.get("requests"))
        if limits:
            requests = {**limits, **requests}
        any_set = any_set or bool(requests)
        if len(limits) < len(_COMPUTE) or any(requests[name].value != limits[name].value for name in limits):
            guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
