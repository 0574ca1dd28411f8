"""What was measured, and what of it counts: pods that start, are unready or not measured are no evidence of load.

Reference: k8s.io/kubernetes ``pkg/controller/podautoscaler/replica_calculator.go``, ``metrics/utilization.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orca.api.durations import parse_duration
from orca.api.objects import Obj, is_terminating, name, namespace
from orca.api.quantity import Quantity
from orca.api.times import parse_time
from orca.controllers import conditions

CPU_INITIALIZATION = timedelta(minutes=5)
"""``--horizontal-pod-autoscaler-cpu-initialization-period``: cpu used while starting says little."""
INITIAL_READINESS_DELAY = timedelta(seconds=30)
"""``--horizontal-pod-autoscaler-initial-readiness-delay``: unready since before this age means never ready so far."""


class MetricsError(Exception):
    """A metric that cannot be had, or leads to no count of replicas; its text is for the user."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One pod's value, in thousandths, as measured over ``window`` until ``at``."""

    value: int
    at: datetime
    window: timedelta


Readings = dict[str, Reading]
"""By pod name."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Names of pods by what may be concluded from them; ``ready`` counts those whose reading is taken as it is."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group_pods(pods: Iterable[Obj], readings: Readings, resource: str, now: datetime) -> Groups:
    """``resource`` is "" for what is no resource; only cpu is judged by how long a pod has been ready."""
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        phase = (pod.get("status") or {}).get("phase")
        reading = readings.get(name(pod))
        if is_terminating(pod) or phase == "Failed":
            ignored.add(name(pod))
        elif phase == "Pending":
            unready.add(name(pod))
        elif reading is None:
            missing.add(name(pod))
        elif resource == "cpu" and _starts(pod, reading, now):
            unready.add(name(pod))
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _starts(pod: Obj, reading: Reading, now: datetime) -> bool:
    """Whether a pod's use of cpu is still that of its start."""
    condition = conditions.find((pod.get("status") or {}).get("conditions"), "Ready")
    started = (pod.get("status") or {}).get("startTime")
    if condition is None or not started or not condition.get("lastTransitionTime"):
        return True
    changed = parse_time(condition["lastTransitionTime"])
    is_unready = condition.get("status") == "False"
    if parse_time(started) + CPU_INITIALIZATION > now:
        return is_unready or reading.at < changed + reading.window
    return is_unready and parse_time(started) + INITIAL_READINESS_DELAY > changed


def pod_requests(pods: Iterable[Obj], resource: str, container: str) -> dict[str, int]:
    """Requests in thousandths by pod name, of one container or ("") of all of each pod.

    Raises MetricsError when one that counts has none.
    """
    found: dict[str, int] = {}
    for pod in pods:
        spec = pod["spec"]
        whole = ((spec.get("resources") or {}).get("requests") or {}).get(resource)
        if whole is not None and not container:
            found[name(pod)] = milli(whole)
            continue
        total = 0
        sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
        for one in (*spec.get("containers", ()), *sidecars):
            if container and one["name"] != container:
                continue
            request = ((one.get("resources") or {}).get("requests") or {}).get(resource)
            if request is None:
                raise MetricsError(f"missing request for {resource} in container {one['name']} of Pod {name(pod)}")
            total += milli(request)
        found[name(pod)] = total
    return found


def resource_readings(usages: Sequence[Obj], resource: str, container: str) -> Readings:
    """Readings from PodMetrics, of one container or ("") the sum of each pod's; pods without it are left out.

    Raises MetricsError when nothing is left, or a pod has no such container.
    """
    found: Readings = {}
    for usage in usages:
        if container and all(one.get("name") != container for one in usage.get("containers") or ()):
            where = f"{namespace(usage)}/{name(usage)}"
            text = f"container {container} not present in metrics for pod {where}"
            raise MetricsError(f"failed to get container metrics: {text}")
        values: list[Any] = [
            (one.get("usage") or {}).get(resource)
            for one in usage.get("containers") or ()
            if not container or one.get("name") == container
        ]
        if not values or None in values:
            continue
        found[name(usage)] = Reading(
            sum(milli(value) for value in values),
            parse_time(usage["timestamp"]),
            timedelta(seconds=parse_duration(usage.get("window") or "0s")),
        )
    if not found:
        raise MetricsError("no metrics returned from resource metrics API")
    return found


def milli(text: str | float) -> int:
    """A quantity in thousandths, rounded up."""
    return Quantity.parse(text).milli


def values_of(readings: Mapping[str, Reading]) -> dict[str, int]:
    """Only the values."""
    return {pod: reading.value for pod, reading in readings.items()}
