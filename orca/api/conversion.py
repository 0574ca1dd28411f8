"""Kinds that are served in two versions but stored in one.

``events.k8s.io/v1`` and ``v1`` Events share their storage as ``v1``; HorizontalPodAutoscalers are stored as
``autoscaling/v2``. Conversion is lossless both ways: what a version cannot say it carries in annotations.
"""

from collections.abc import Callable
from typing import Any

import orjson

from orca.api.builtin import EVENTS, EVENTS_V1, HORIZONTALPODAUTOSCALERS, HORIZONTALPODAUTOSCALERS_V1
from orca.api.objects import Obj
from orca.api.resources import Resource

Convert = Callable[[Obj], Obj]

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"

# events.k8s.io name -> core name
_EVENT_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}
_CORE_NAMES = {core: new for new, core in _EVENT_NAMES.items()}


def _renamed(obj: Obj, names: dict[str, str], api_version: str) -> Obj:
    return {names.get(key, key): value for key, value in obj.items()} | {"apiVersion": api_version}


def _event_to_core(obj: Obj) -> Obj:
    return _renamed(obj, _EVENT_NAMES, EVENTS.api_version)


def _event_from_core(obj: Obj) -> Obj:
    return _renamed(obj, _CORE_NAMES, EVENTS_V1.api_version)


def _is_cpu_utilization(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and target.get("type") == "Utilization"


def _pop_json(annotations: dict[str, str], key: str) -> Any:
    text = annotations.pop(key, None)
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _with_annotations(obj: Obj, annotations: dict[str, str]) -> Obj:
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "annotations"}
    if annotations:
        metadata["annotations"] = annotations
    return metadata


def _scaler_to_v2(obj: Obj) -> Obj:
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    spec = dict(obj.get("spec") or {})
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    metrics = _pop_json(annotations, _METRICS) or []
    if percent is not None:
        target = {"type": "Utilization", "averageUtilization": percent}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}, *metrics]
    if metrics:
        spec["metrics"] = metrics
    behavior = _pop_json(annotations, _BEHAVIOR)
    if behavior:
        spec["behavior"] = behavior
    status = dict(obj.get("status") or {})
    current_percent = status.pop("currentCPUUtilizationPercentage", None)
    current = _pop_json(annotations, _CURRENT) or []
    if current_percent is not None:
        value = {"averageUtilization": current_percent}
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": value}}, *current]
    if current:
        status["currentMetrics"] = current
    conditions = _pop_json(annotations, _CONDITIONS)
    if conditions:
        status["conditions"] = conditions
    return _assembled(HORIZONTALPODAUTOSCALERS, obj, annotations, spec, status)


def _scaler_to_v1(obj: Obj) -> Obj:
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    spec = dict(obj.get("spec") or {})
    metrics = list(spec.pop("metrics", None) or [])
    # v1 has one number for the first metric, everything else rides along.
    if metrics and _is_cpu_utilization(metrics[0]):
        spec["targetCPUUtilizationPercentage"] = metrics.pop(0)["resource"]["target"].get("averageUtilization")
    behavior = spec.pop("behavior", None)
    status = dict(obj.get("status") or {})
    current = list(status.pop("currentMetrics", None) or [])
    if current and (current[0].get("resource") or {}).get("name") == "cpu":
        value = current[0]["resource"].get("current") or {}
        if set(value) == {"averageUtilization"}:
            status["currentCPUUtilizationPercentage"] = value["averageUtilization"]
            current.pop(0)
    conditions = status.pop("conditions", None)
    carried = ((_METRICS, metrics), (_BEHAVIOR, behavior), (_CURRENT, current), (_CONDITIONS, conditions))
    annotations |= {key: orjson.dumps(value).decode() for key, value in carried if value}
    return _assembled(HORIZONTALPODAUTOSCALERS_V1, obj, annotations, spec, status)


def _assembled(row: Resource, obj: Obj, annotations: dict[str, str], spec: Obj, status: Obj) -> Obj:
    found = dict(obj) | {"apiVersion": row.api_version, "metadata": _with_annotations(obj, annotations)}
    if "spec" in obj:
        found["spec"] = spec
    if "status" in obj:
        found["status"] = status
    return found


def convert(obj: Obj, api_version: str) -> Obj:
    """``obj`` in another version of its kind; itself when it is that version already."""
    if obj.get("apiVersion") == api_version:
        return obj
    change = _BETWEEN.get((obj.get("kind") or "", obj.get("apiVersion") or "", api_version))
    return change(obj) if change else {**obj, "apiVersion": api_version}


_BETWEEN: dict[tuple[str, str, str], Convert] = {
    ("Event", "events.k8s.io/v1", "v1"): _event_to_core,
    ("Event", "v1", "events.k8s.io/v1"): _event_from_core,
    ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2"): _scaler_to_v2,
    ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1"): _scaler_to_v1,
}
