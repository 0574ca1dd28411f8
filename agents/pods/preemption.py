"""Which pods of this host make room for a critical one that was bound to it and does not fit. Pure.

Reference: k8s.io/kubernetes ``pkg/kubelet/preemption``: BestEffort before Burstable before Guaranteed, and of each
class those that together come nearest to what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents.resources.amounts import Amounts, requests_of
from agents.resources.quality import is_critical, priority, qos_class
from orca.api.objects import Obj

REASON = "Preempting"
MESSAGE = "Preempted in order to admit critical pod"
CONDITION = "Pod was preempted by Kubelet to accommodate a critical pod."


class NoVictims(ValueError):
    """Not even all of them would make enough room; the text is upstream's."""


def victims(pod: Obj, others: Sequence[Obj], missing: Mapping[str, int]) -> list[Obj]:
    """Pods to end for ``pod`` to have what is ``missing`` (resource -> amount). Raises NoVictims."""
    classes: dict[str, list[Obj]] = {"BestEffort": [], "Burstable": [], "Guaranteed": []}
    for other in others:
        if _may_go(pod, other):
            classes[qos_class(other)].append(other)
    best_effort, burstable, guaranteed = classes.values()
    if short := _less(missing, [*best_effort, *burstable, *guaranteed]):
        raise NoVictims(f"no set of running pods found to reclaim resources: {_told(short)}")
    # Only what the lower classes could not give is taken from a higher one.
    from_guaranteed = _nearest(guaranteed, _less(missing, [*best_effort, *burstable]))
    from_burstable = _nearest(burstable, _less(missing, [*best_effort, *from_guaranteed]))
    from_best_effort = _nearest(best_effort, _less(missing, [*from_burstable, *from_guaranteed]))
    return [*from_best_effort, *from_burstable, *from_guaranteed]


def _may_go(pod: Obj, other: Obj) -> bool:
    if is_critical(pod) and not is_critical(other):
        return True
    return priority(pod) > priority(other)


def _nearest(pods: Sequence[Obj], missing: Amounts) -> list[Obj]:
    left, chosen = list(pods), []
    while missing:
        best = min(left, key=lambda one: (_distance(one, missing), *_size(one)))
        left.remove(best)
        chosen.append(best)
        missing = _less(missing, [best])
    return chosen


def _distance(pod: Obj, missing: Amounts) -> float:
    """How far the pod's end leaves us from what is missing: 0 when it gives enough of everything."""
    return sum((max(amount - _gives(pod, resource), 0) / amount) ** 2 for resource, amount in missing.items())


def _size(pod: Obj) -> tuple[int, int]:
    requests = requests_of(pod)
    return requests.get("memory", 0), requests.get("cpu", 0)


def _gives(pod: Obj, resource: str) -> int:
    return 1 if resource == "pods" else requests_of(pod).get(resource, 0)


def _less(missing: Mapping[str, int], pods: Sequence[Obj]) -> Amounts:
    left = {resource: amount - sum(_gives(pod, resource) for pod in pods) for resource, amount in missing.items()}
    return {resource: amount for resource, amount in left.items() if amount > 0}


def _told(missing: Amounts) -> str:
    return "[" + "".join(f"(res: {resource}, q: {amount}), " for resource, amount in missing.items()) + "]"
