"""Autoscaling, disruption budgets, priorities, flow control and dynamic resources."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from orca.api.printing import formats
from orca.api.printing.columns import AGE, NAME, Cells, Obj, boolean, integer, name, printer, spec, status, sub, text
from orca.api.printing.duration import since


def _age(obj: Obj, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


@printer(
    "policy",
    "PodDisruptionBudget",
    NAME,
    text("Min Available", "The minimum number of pods that must be available."),
    text("Max Unavailable", "The maximum number of pods that may be unavailable."),
    integer("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
    AGE,
)
def disruption_budget(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get poddisruptionbudgets``."""

    def shown(value: Any) -> str:
        return "N/A" if value is None else str(value)

    return [
        name(obj),
        shown(spec(obj).get("minAvailable")),
        shown(spec(obj).get("maxUnavailable")),
        status(obj).get("disruptionsAllowed") or 0,
        _age(obj, now),
    ]


_UNKNOWN = "<unknown>"
_METRIC_FIELDS = {"External": "external", "Pods": "pods", "Object": "object"}
_RESOURCE_FIELDS = {"Resource": "resource", "ContainerResource": "containerResource"}


def _metric(wanted: Obj, seen: Obj) -> str:
    kind = wanted.get("type") or ""
    if kind in _METRIC_FIELDS:
        field = _METRIC_FIELDS[kind]
        target, current = sub(wanted, field, "target") or {}, sub(seen, field, "current") or {}
        if kind == "Pods":
            return f"{current.get('averageValue') or _UNKNOWN}/{target.get('averageValue')}"
        if target.get("averageValue") is not None:
            return f"{current.get('averageValue') or _UNKNOWN}/{target['averageValue']} (avg)"
        return f"{current.get('value') or _UNKNOWN}/{target.get('value')}"
    if kind in _RESOURCE_FIELDS:
        field = _RESOURCE_FIELDS[kind]
        source = wanted.get(field) or {}
        target, current = source.get("target") or {}, sub(seen, field, "current") or {}
        if target.get("averageValue") is not None:
            return f"{source.get('name')}: {current.get('averageValue') or _UNKNOWN}/{target['averageValue']}"
        used, goal = current.get("averageUtilization"), target.get("averageUtilization")
        left = _UNKNOWN if used is None else f"{used}%"
        right = "<auto>" if goal is None else f"{goal}%"
        return f"{source.get('name')}: {left}/{right}"
    return "<unknown type>"


def _targets(obj: Obj) -> str:
    wanted, state = spec(obj), status(obj)
    if "targetCPUUtilizationPercentage" in wanted:  # autoscaling/v1
        used = state.get("currentCPUUtilizationPercentage")
        left = _UNKNOWN if used is None else f"{used}%"
        return f"cpu: {left}/{wanted['targetCPUUtilizationPercentage']}%"
    metrics, seen = wanted.get("metrics") or (), state.get("currentMetrics") or ()
    if not metrics:
        return formats.NONE
    shown = [_metric(m, seen[i] if i < len(seen) else {}) for i, m in enumerate(metrics)]
    if len(shown) > 2:
        return f"{', '.join(shown[:2])} + {len(shown) - 2} more..."
    return ", ".join(shown)


@printer(
    "autoscaling",
    "HorizontalPodAutoscaler",
    NAME,
    text("Reference", "What is scaled."),
    text("Targets", "Measured and wanted values."),
    text("MinPods", "Lower limit."),
    text("MaxPods", "Upper limit."),
    text("Replicas", "Pods now."),
    AGE,
)
def autoscaler(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get horizontalpodautoscalers``."""
    wanted = spec(obj)
    target, least = wanted.get("scaleTargetRef") or {}, wanted.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind')}/{target.get('name')}",
        _targets(obj),
        formats.UNSET if least is None else str(least),
        wanted.get("maxReplicas") or 0,
        status(obj).get("currentReplicas") or 0,
        _age(obj, now),
    ]


@printer("autoscaling", "Scale", NAME, integer("Desired"), integer("Available"), AGE)
def scale(obj: Obj, now: datetime) -> Cells:
    """One row for a scale subresource."""
    return [name(obj), spec(obj).get("replicas") or 0, status(obj).get("replicas") or 0, _age(obj, now)]


@printer(
    "scheduling.k8s.io",
    "PriorityClass",
    NAME,
    integer("Value", "The priority pods get."),
    boolean("Global-Default", "Whether pods without a class get it."),
    AGE,
    text("PreemptionPolicy", "Whether such pods preempt others."),
)
def priority_class(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get priorityclasses``."""
    return [
        name(obj),
        obj.get("value") or 0,
        bool(obj.get("globalDefault")),
        _age(obj, now),
        obj.get("preemptionPolicy") or "",
    ]


@printer(
    "flowcontrol.apiserver.k8s.io",
    "FlowSchema",
    NAME,
    text("PriorityLevel", "The level its requests belong to."),
    text("MatchingPrecedence", "Lower ones match first."),
    text("DistinguisherMethod", "How flows are told apart."),
    AGE,
    text("MissingPL", "references a broken or non-existent PriorityLevelConfiguration"),
)
def flow_schema(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get flowschemas``."""
    wanted = spec(obj)
    dangling = next((c for c in status(obj).get("conditions") or () if c.get("type") == "Dangling"), None)
    return [
        name(obj),
        sub(wanted, "priorityLevelConfiguration", "name") or "",
        wanted.get("matchingPrecedence") or 0,
        sub(wanted, "distinguisherMethod", "type") or formats.NONE,
        _age(obj, now),
        (dangling.get("status") or "") if dangling else "?",
    ]


@printer(
    "flowcontrol.apiserver.k8s.io",
    "PriorityLevelConfiguration",
    NAME,
    text("Type", "Limited or Exempt."),
    text("NominalConcurrencyShares", "Share of the server's concurrency."),
    text("Queues", "Number of queues."),
    text("HandSize", "Queues a flow is dealt."),
    text("QueueLengthLimit", "Requests a queue holds."),
    AGE,
)
def priority_level(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get prioritylevelconfigurations``."""
    limited = spec(obj).get("limited")
    queuing = sub(limited, "limitResponse", "queuing")

    def of(part: Obj | None, key: str) -> Any:
        return formats.NONE if part is None else part.get(key) or 0

    return [
        name(obj),
        spec(obj).get("type") or "",
        of(limited, "nominalConcurrencyShares"),
        of(queuing, "queues"),
        of(queuing, "handSize"),
        of(queuing, "queueLengthLimit"),
        _age(obj, now),
    ]


def _claim_state(obj: Obj) -> str:
    words = ["deleted"] if obj["metadata"].get("deletionTimestamp") else []
    if not status(obj).get("allocation"):
        return ",".join(words or ["pending"])
    words.append("allocated")
    if status(obj).get("reservedFor"):
        words.append("reserved")
    return ",".join(words)


@printer("resource.k8s.io", "ResourceClaim", NAME,
         text("State", "A summary of the current state (allocated, pending, reserved, etc.)."), AGE)  # fmt: skip
def resource_claim(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get resourceclaims``."""
    return [name(obj), _claim_state(obj), _age(obj, now)]


@printer(
    "resource.k8s.io",
    "ResourceSlice",
    NAME,
    text("Node", "The node that has the devices."),
    text("Driver", "The driver that offers them."),
    text("Pool", "The pool they belong to."),
    AGE,
)
def resource_slice(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get resourceslices``."""
    wanted = spec(obj)
    return [
        name(obj),
        wanted.get("nodeName") or "",
        wanted.get("driver") or "",
        sub(wanted, "pool", "name") or "",
        _age(obj, now),
    ]
