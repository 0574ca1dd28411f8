"""HorizontalPodAutoscalers, in either version.

Reference: k8s.io/kubernetes ``pkg/apis/autoscaling/validation``.
"""

from __future__ import annotations

from collections.abc import Callable

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods.resources import container_name_errors
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_MAX_PERIOD, _MAX_WINDOW = 1800, 3600


def _reference(ref: Obj, path: str, out: Errors) -> None:
    common.segment(ref, "kind", path, out)
    common.segment(ref, "name", path, out)


def _metric_name(source: Obj, path: str, out: Errors) -> None:
    name = (source.get("metric") or {}).get("name")
    if not name:
        out.append(FieldError.required(f"{path}.metric.name", "must specify a metric name"))
    else:
        common.messages(names.path_segment(name), name, f"{path}.metric.name", out)


def _target(target: Obj, path: str, out: Errors) -> None:
    kind = target.get("type") or ""
    if not kind:
        out.append(FieldError.required(f"{path}.type", "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        text = "must be either Utilization, Value, or AverageValue"
        out.append(FieldError.invalid(f"{path}.type", kind, text))
    for key in ("value", "averageValue"):
        if target.get(key) is not None:
            found = common.quantity(target[key], f"{path}.{key}", out)
            if found is not None and found.value <= 0:
                out.append(FieldError.invalid(f"{path}.{key}", target[key], "must be positive"))
    used = target.get("averageUtilization")
    if used is not None and used < 1:
        out.append(FieldError.invalid(f"{path}.averageUtilization", used, "must be greater than 0"))


def _object(source: Obj, path: str, out: Errors) -> None:
    target = source.get("target") or {}
    _reference(source.get("describedObject") or {}, f"{path}.describedObject", out)
    _metric_name(source, path, out)
    _target(target, f"{path}.target", out)
    if target.get("value") is None and target.get("averageValue") is None:
        text = "must set either a target value or averageValue"
        out.append(FieldError.required(f"{path}.target.averageValue", text))


def _external(source: Obj, path: str, out: Errors) -> None:
    target = source.get("target") or {}
    _metric_name(source, path, out)
    _target(target, f"{path}.target", out)
    value, average = target.get("value"), target.get("averageValue")
    if value is None and average is None:
        text = "must set either a target value for metric or a per-pod target"
        out.append(FieldError.required(f"{path}.target.averageValue", text))
    if value is not None and average is not None:
        text = "may not set both a target value for metric and a per-pod target"
        out.append(FieldError.forbidden(f"{path}.target.value", text))


def _pods(source: Obj, path: str, out: Errors) -> None:
    target = source.get("target") or {}
    _metric_name(source, path, out)
    _target(target, f"{path}.target", out)
    if target.get("averageValue") is None:
        text = "must specify a positive target averageValue"
        out.append(FieldError.required(f"{path}.target.averageValue", text))


def _resource(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "name", path, out, "must specify a resource name")
    _share(source.get("target") or {}, f"{path}.target", out)


def _container_resource(source: Obj, path: str, out: Errors) -> None:
    if common.required(source, "name", path, out, "must specify a resource name"):
        common.messages(container_name_errors(source["name"]), source["name"], f"{path}.name", out)
    if common.required(source, "container", path, out, "must specify a container"):
        common.messages(names.dns1123_label(source["container"]), source["container"], f"{path}.container", out)
    _share(source.get("target") or {}, f"{path}.target", out)


def _share(target: Obj, path: str, out: Errors) -> None:
    """A target of a resource: so much, or such a part of what was requested."""
    _target(target, path, out)
    share, value = target.get("averageUtilization"), target.get("averageValue")
    if share is None and value is None:
        text = "must set either a target raw value or a target utilization"
        out.append(FieldError.required(f"{path}.averageUtilization", text))
    if share is not None and value is not None:
        text = "may not set both a target raw value and a target utilization"
        out.append(FieldError.forbidden(f"{path}.averageValue", text))


_SOURCES: dict[str, Callable[[Obj, str, Errors], None]] = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
}
_TYPES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}


def _metric(metric: Obj, path: str, out: Errors) -> None:
    kind = metric.get("type") or ""
    if not kind:
        out.append(FieldError.required(f"{path}.type", "must specify a metric source type"))
    if kind not in _TYPES:
        # Upstream says so in two places.
        out += [FieldError.not_supported(f"{path}.type", kind, _TYPES)] * 2
    given = [field for field in _SOURCES if metric.get(field) is not None]
    if given:
        _SOURCES[given[0]](metric[given[0]], f"{path}.{given[0]}", out)
    expected = _TYPES.get(kind)
    if expected is not None and expected not in given:
        text = "must populate information for the given metric source"
        out.append(FieldError.required(f"{path}.{expected}", text))
    if len(given) > 1:
        text = "must populate the given metric source only"
        out += [FieldError.forbidden(f"{path}.{field}", text) for field in given if field != expected]


def _scaling_rules(rules: Obj, path: str, out: Errors) -> None:
    window, pick = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy")
    if window is not None and not 0 <= window <= _MAX_WINDOW:
        text = "must be greater than or equal to zero" if window < 0 else f"must be less than or equal to {_MAX_WINDOW}"
        out.append(FieldError.invalid(f"{path}.stabilizationWindowSeconds", window, text))
    if pick is not None and pick not in ("Disabled", "Max", "Min"):
        out.append(FieldError.not_supported(f"{path}.selectPolicy", pick, ("Disabled", "Max", "Min")))
    policies = rules.get("policies") or []
    if not policies:
        out.append(FieldError.required(f"{path}.policies", "must specify at least one Policy"))
    for i, policy in enumerate(policies):
        at, kind = f"{path}.policies[{i}]", policy.get("type") or ""
        if kind not in ("Percent", "Pods"):
            out.append(FieldError.not_supported(f"{at}.type", kind, ("Percent", "Pods")))
        for key in ("value", "periodSeconds"):
            if (policy.get(key) or 0) <= 0:
                out.append(FieldError.invalid(f"{at}.{key}", policy.get(key) or 0, "must be greater than zero"))
        if (policy.get("periodSeconds") or 0) > _MAX_PERIOD:
            text = f"must be less than or equal to {_MAX_PERIOD}"
            out.append(FieldError.invalid(f"{at}.periodSeconds", policy["periodSeconds"], text))


def _autoscaler(obj: Obj, out: Errors, *, floor: int) -> None:
    spec = obj.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < floor:
        out.append(FieldError.invalid("spec.minReplicas", least, f"must be greater than or equal to {floor}"))
    if most < 1:
        out.append(FieldError.invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        text = "must be greater than or equal to `minReplicas`"
        out.append(FieldError.invalid("spec.maxReplicas", most, text))
    _reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef", out)
    cpu = spec.get("targetCPUUtilizationPercentage")
    if cpu is not None and cpu < 1:
        # A v1 target is a metric of the version that is judged.
        at = "spec.metrics[0].resource.target.averageUtilization"
        out.append(FieldError.invalid(at, cpu, "must be greater than 0"))
    metrics = spec.get("metrics") or []
    for i, metric in enumerate(metrics):
        _metric(metric, f"spec.metrics[{i}]", out)
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        text = "must specify at least one Object or External metric to support scaling to zero replicas"
        out.append(FieldError.forbidden("spec.metrics", text))
    for key in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(key)
        if rules is not None:
            _scaling_rules(rules, f"spec.behavior.{key}", out)


@on_create("autoscaling", "HorizontalPodAutoscaler")
def autoscaler(obj: Obj) -> Errors:
    """An autoscaler; scaling to nothing is not on in v1.36."""
    out: Errors = []
    _autoscaler(obj, out, floor=1)
    return out


@on_update("autoscaling", "HorizontalPodAutoscaler")
def autoscaler_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed autoscaler."""
    out: Errors = []
    if subresource == "status":
        for key in ("currentReplicas", "desiredReplicas"):
            common.non_negative(new.get("status") or {}, key, "status", out)
        return out
    _autoscaler(new, out, floor=0 if (old.get("spec") or {}).get("minReplicas") == 0 else 1)
    return out
