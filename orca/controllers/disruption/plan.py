"""The numbers and conditions of one PodDisruptionBudget, and which conditions of pods are stale. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orca.api.objects import Obj, controller_of, is_terminating, name
from orca.api.times import format_time, parse_time
from orca.controllers import conditions, podstate
from orca.controllers.deployment.sizes import resolve

FORGET_EVICTION = timedelta(minutes=2)
"""An evicted pod that is still there after that long was not deleted after all."""
STALE_AFTER = timedelta(minutes=2)
"""A pod that was to be disrupted and is still not being deleted after that long stays."""


@dataclass(frozen=True, slots=True)
class Counts:
    """In pods. `expected`: what the workloads want, `desired`: what has to stay healthy."""

    expected: int
    healthy: int
    desired: int

    @property
    def allowed(self) -> int:
        """Evictions that may be granted now."""
        return max(self.healthy - self.desired, 0) if self.expected else 0


class CannotCount(Exception):
    """How many pods there should be cannot be told; the text says why."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A workload's uid and how many pods it wants."""

    uid: str
    replicas: int


def needs_scales(budget: Obj) -> bool:
    """Whether it counts in parts of what the workloads want: all but a `minAvailable` in pods."""
    return budget["spec"].get("maxUnavailable") is not None or isinstance(budget["spec"].get("minAvailable"), str)


def expected_pods(pods: Sequence[Obj], scales: Mapping[str, Scale | None]) -> tuple[int, bool]:
    """What the controllers of the pods (`scales`, by the uid that the pods name) want together, and whether there are
    pods without a controller, which count for nothing. CannotCount for one whose controller is gone."""
    wanted: dict[str, int] = {}
    unmanaged = False
    for pod in pods:
        reference = controller_of(pod)
        if reference is None:
            unmanaged = True
            continue
        scale = scales.get(reference["uid"])
        if scale is None:
            raise CannotCount(f'found no controllers for pod "{name(pod)}"')
        wanted[scale.uid] = scale.replicas
    return sum(wanted.values()), unmanaged


def count(budget: Obj, pods: Sequence[Obj], expected: int, evicted: dict[str, str]) -> Counts:
    """`pods`: those covered; `expected`: sum of the scales of their controllers; `evicted`: pod name -> time."""
    spec = budget["spec"]
    healthy = sum(podstate.is_ready(pod) and not is_terminating(pod) and name(pod) not in evicted for pod in pods)
    if spec.get("maxUnavailable") is not None:
        return Counts(expected, healthy, max(expected - resolve(spec["maxUnavailable"], expected, up=True), 0))
    wanted = spec.get("minAvailable", 1)
    if isinstance(wanted, int):
        return Counts(len(pods), healthy, wanted)
    return Counts(expected, healthy, resolve(wanted, expected, up=True))


def new_status(budget: Obj, counts: Counts, evicted: dict[str, str], now: datetime) -> Obj:
    """The whole status."""
    old = budget.get("status") or {}
    enough = counts.allowed > 0
    condition = conditions.build(
        "DisruptionAllowed", "True" if enough else "False", "SufficientPods" if enough else "InsufficientPods", "", now
    )
    condition["observedGeneration"] = budget["metadata"].get("generation", 0)
    condition["message"] = ""
    status: Obj = {
        "currentHealthy": counts.healthy,
        "desiredHealthy": counts.desired,
        "expectedPods": counts.expected,
        "disruptionsAllowed": counts.allowed,
        "observedGeneration": budget["metadata"].get("generation", 0),
        "conditions": conditions.put_standard(old.get("conditions"), condition),
    }
    if evicted:
        status["disruptedPods"] = evicted
    return status


def failed_status(budget: Obj, message: str, now: datetime) -> Obj:
    """The status while nobody can tell what may go: then nothing may."""
    old = budget.get("status") or {}
    condition = conditions.build("DisruptionAllowed", "False", "SyncFailed", message, now)
    condition["observedGeneration"] = old.get("observedGeneration", 0)
    counted = {part: old.get(part, 0) for part in ("currentHealthy", "desiredHealthy", "expectedPods")}
    return {
        **old,
        **counted,
        "disruptionsAllowed": 0,
        "conditions": conditions.put_standard(old.get("conditions"), condition),
    }


def still_evicted(budget: Obj, pods: Sequence[Obj], now: datetime) -> tuple[dict[str, str], float | None]:
    """Granted evictions whose pods are about to go, and the seconds until the first of them is given up."""
    found: dict[str, str] = {}
    waits = []
    present = {name(pod): pod for pod in pods}
    for pod_name, stamp in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
        pod = present.get(pod_name)
        left = (parse_time(stamp) + FORGET_EVICTION - now).total_seconds()
        if pod is not None and not is_terminating(pod) and left > 0:
            found[pod_name] = format_time(parse_time(stamp))
            waits.append(left)
    return found, min(waits, default=None)


def overdue(budget: Obj, pods: Sequence[Obj], now: datetime) -> list[Obj]:
    """Pods whose evictions were granted, and that were not deleted in time."""
    granted: Obj = (budget.get("status") or {}).get("disruptedPods") or {}
    late = {one for one, stamp in granted.items() if parse_time(stamp) + FORGET_EVICTION < now}
    return [pod for pod in pods if name(pod) in late and not is_terminating(pod)]


def stale_in(pod: Obj, now: datetime) -> float | None:
    """Seconds until the pod's announced disruption counts as called off; None for a pod to which none was announced.

    What a kubelet announces it will do, and what is over stays as it is.
    """
    found = conditions.find((pod.get("status") or {}).get("conditions"), "DisruptionTarget")
    if found is None or found["status"] != "True" or found.get("reason") == "TerminationByKubelet":
        return None
    if is_terminating(pod) or podstate.is_finished(pod) or not found.get("lastTransitionTime"):
        return None
    return max((parse_time(found["lastTransitionTime"]) + STALE_AFTER - now).total_seconds(), 0.0)


def called_off(pod: Obj, now: datetime) -> Obj:
    """The pod's status with DisruptionTarget False."""
    status: Obj = pod.get("status") or {}
    condition = conditions.build("DisruptionTarget", "False", "", "", now, of=pod)
    return {
        **status,
        "conditions": [condition if one["type"] == "DisruptionTarget" else one for one in status["conditions"]],
    }
