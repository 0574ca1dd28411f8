"""From measured values to a count of replicas. Pure. Values are in thousandths throughout.

Pods that were not measured, or are not ready yet, are supposed to use what argues against a change: all of their
request when the rest would scale down, nothing when it would scale up; and no supposition may turn the direction round.
Reference: k8s.io/kubernetes ``pkg/controller/podautoscaler/replica_calculator.go``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orca.api.objects import Obj
from orca.controllers import podstate
from orca.controllers.horizontalpodautoscaler.readings import (
    Groups,
    MetricsError,
    Readings,
    group_pods,
    pod_requests,
    values_of,
)

_NO_PODS = "no pods returned by selector while calculating replica count"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far, as a share of the target, the ratio of used to wanted may be from 1 without a change."""

    down: float = 0.1
    up: float = 0.1

    def __contains__(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Proposal:
    """``replicas`` by one metric, and what was measured: ``value`` (thousandths, the average a pod where the metric is
    one of pods), ``utilization`` (percent of requests) where that was the target."""

    replicas: int
    value: int
    utilization: int | None = None


Ratio = Callable[[Mapping[str, int]], tuple[float, int, int]]
"""Values by pod name -> (used / wanted, average value, utilization or 0)."""


def by_utilization(
    pods: Sequence[Obj],
    readings: Readings,
    *,
    resource: str,
    container: str,
    target: int,
    current: int,
    tolerance: Tolerance,
    now: datetime,
) -> Proposal:
    """``target`` is a percentage of requests. Raises MetricsError."""
    groups = _usable(pods, readings, resource, now)
    requests = pod_requests(pods, resource, container)

    def ratio(values: Mapping[str, int]) -> tuple[float, int, int]:
        known = [pod for pod in values if pod in requests]
        requested = sum(requests[pod] for pod in known)
        if not requested:
            raise MetricsError("no metrics returned matched known pods")
        used = sum(values[pod] for pod in known)
        utilization = used * 100 // requested
        return utilization / target, used // len(known), utilization

    def supposed(pod: str) -> int:
        return requests[pod] * max(100, target) // 100

    replicas, value, utilization = _replicas(groups, readings, ratio, supposed, current, tolerance)
    return Proposal(replicas, value, utilization)


def by_average(
    pods: Sequence[Obj],
    readings: Readings,
    *,
    resource: str = "",
    target: int,
    current: int,
    tolerance: Tolerance,
    now: datetime,
) -> Proposal:
    """``target`` is what one pod shall use. Raises MetricsError."""
    groups = _usable(pods, readings, resource, now)

    def ratio(values: Mapping[str, int]) -> tuple[float, int, int]:
        average = sum(values.values()) // len(values)
        return average / target, average, 0

    replicas, value, _ = _replicas(groups, readings, ratio, lambda _: target, current, tolerance)
    return Proposal(replicas, value)


def by_value(pods: Sequence[Obj], value: int, *, target: int, current: int, tolerance: Tolerance) -> Proposal:
    """One value for all pods together (Object and External metrics with ``value``). Raises MetricsError."""
    ratio = value / target
    if current and ratio in tolerance:
        return Proposal(current, value)
    if not current:
        return Proposal(math.ceil(ratio), value)
    if not pods:
        raise MetricsError(f"unable to calculate ready pods: {_NO_PODS}")
    ready = sum(1 for pod in pods if (pod.get("status") or {}).get("phase") == "Running" and podstate.is_ready(pod))
    return Proposal(math.ceil(ratio * ready), value)


def by_share(value: int, *, target: int, current: int, tolerance: Tolerance) -> Proposal:
    """One value that is divided among ``current`` replicas (Object and External metrics with ``averageValue``)."""
    replicas = current
    if not current or value / (target * current) not in tolerance:
        replicas = math.ceil(value / target)
    return Proposal(replicas, math.ceil(value / current) if current else 0)


def _usable(pods: Sequence[Obj], readings: Readings, resource: str, now: datetime) -> Groups:
    if not pods:
        raise MetricsError(_NO_PODS)
    groups = group_pods(pods, readings, resource, now)
    if not readings.keys() - groups.ignored - groups.unready:
        raise MetricsError("did not receive metrics for targeted pods (pods might be unready)")
    return groups


def _replicas(
    groups: Groups,
    readings: Readings,
    ratio: Ratio,
    supposed: Callable[[str], int],
    current: int,
    tolerance: Tolerance,
) -> tuple[int, int, int]:
    values = values_of(readings)
    for pod in groups.ignored | groups.unready:
        values.pop(pod, None)
    first, average, utilization = ratio(values)
    unready = groups.unready if first > 1.0 else frozenset()
    if not unready and not groups.missing:
        replicas = current if first in tolerance else math.ceil(first * groups.ready)
        return replicas, average, utilization
    if first < 1.0:
        values |= {pod: supposed(pod) for pod in groups.missing}
    elif first > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    values |= dict.fromkeys(unready, 0)
    second, _, _ = ratio(values)
    turned = (first < 1.0 < second) or (second < 1.0 < first)
    if second in tolerance or turned:
        return current, average, utilization
    replicas = math.ceil(second * len(values))
    if (second < 1.0 and replicas > current) or (second > 1.0 and replicas < current):
        return current, average, utilization
    return replicas, average, utilization
