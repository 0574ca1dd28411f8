"""Disruption budgets, autoscalers, scales, priorities and leases."""

from __future__ import annotations

from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


@on_create("policy", "PodDisruptionBudget")
def disruption_budget(obj: Obj) -> Errors:
    """A PodDisruptionBudget."""
    out: Errors = []
    spec = obj.get("spec") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        text = "minAvailable and maxUnavailable cannot be both set"
        out.append(FieldError.invalid("spec", spec, text))
    for key, value in (("minAvailable", least), ("maxUnavailable", most)):
        common.int_or_percent(value, f"spec.{key}", out)
        common.percent_at_most_100(value, f"spec.{key}", out)
    common.label_selector(spec.get("selector"), "spec.selector", out)
    policies = ("AlwaysAllow", "IfHealthyBudget")
    common.choice(spec.get("unhealthyPodEvictionPolicy"), policies, "spec.unhealthyPodEvictionPolicy", out)
    return out


@on_update("policy", "PodDisruptionBudget")
def disruption_budget_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed PodDisruptionBudget."""
    if subresource != "status":
        return disruption_budget(new)
    out: Errors = []
    for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        common.non_negative(new.get("status") or {}, key, "status", out)
    return out


_METRICS = {
    "Object": "object", "Pods": "pods", "Resource": "resource", "External": "external",
    "ContainerResource": "containerResource",
}  # fmt: skip


def _target(target: Obj | None, path: str, out: Errors, *, kinds: tuple[str, ...]) -> None:
    if not target or not target.get("type"):
        out.append(FieldError.required(f"{path}.type", "must specify a metric target type"))
        return
    if target["type"] not in ("Utilization", "Value", "AverageValue"):
        text = "must be either Utilization, Value, or AverageValue"
        out.append(FieldError.invalid(f"{path}.type", target["type"], text))
    used = target.get("averageUtilization")
    if used is not None and used < 1:
        out.append(FieldError.invalid(f"{path}.averageUtilization", used, "must be greater than 0"))
    for key in ("value", "averageValue"):
        if target.get(key) is not None:
            found = common.quantity(target[key], f"{path}.{key}", out)
            if found is not None and found.value <= 0:
                out.append(FieldError.invalid(f"{path}.{key}", target[key], "must be positive"))
    given = [key for key in kinds if target.get(key) is not None]
    if not given:
        words = " or ".join(kinds) if len(kinds) == 2 else kinds[0]
        text = f"must set either a target {words}" if len(kinds) == 2 else f"must specify a positive target {words}"
        out.append(FieldError.required(f"{path}.{kinds[0]}", text))
    elif len(given) > 1:
        text = f"may not set both {' and '.join(kinds)}"
        out.append(FieldError.forbidden(f"{path}.{kinds[0]}", text))


def _metric(metric: Obj, path: str, out: Errors) -> None:
    kind = metric.get("type")
    if not kind:
        out.append(FieldError.required(f"{path}.type", "must specify a metric source type"))
        return
    if kind not in _METRICS:
        out.append(FieldError.not_supported(f"{path}.type", kind, sorted(_METRICS)))
        return
    field = _METRICS[kind]
    source = metric.get(field)
    at = f"{path}.{field}"
    if source is None:
        out.append(FieldError.required(at, "must populate information for the given metric source"))
        return
    if kind in ("Resource", "ContainerResource"):
        common.required(source, "name", at, out, "must specify a resource name")
        if kind == "ContainerResource":
            common.required(source, "container", at, out, "must specify a container")
        _target(source.get("target"), f"{at}.target", out, kinds=("averageUtilization", "averageValue"))
        return
    name = (source.get("metric") or {}).get("name")
    if not name:
        out.append(FieldError.required(f"{at}.metric.name", "must specify a metric name"))
    elif names.path_segment(name):
        common.messages(names.path_segment(name), name, f"{at}.metric.name", out)
    if kind == "Pods":
        _target(source.get("target"), f"{at}.target", out, kinds=("averageValue",))
    else:
        _target(source.get("target"), f"{at}.target", out, kinds=("value", "averageValue"))
    if kind == "Object":
        _reference(source.get("describedObject") or {}, f"{at}.describedObject", out)
    for other, key in _METRICS.items():
        if other != kind and metric.get(key) is not None:
            text = "must populate the given metric source only"
            out.append(FieldError.forbidden(f"{path}.{key}", text))


def _reference(ref: Obj, path: str, out: Errors) -> None:
    for key in ("kind", "name"):
        value = ref.get(key)
        if not value:
            out.append(FieldError.required(f"{path}.{key}"))
        else:
            common.messages(names.path_segment(value), value, f"{path}.{key}", out)


def _scaling_rules(rules: Obj, path: str, out: Errors) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and not 0 <= window <= 3600:
        text = "must be greater than or equal to zero" if window < 0 else "must be less than or equal to 3600"
        out.append(FieldError.invalid(f"{path}.stabilizationWindowSeconds", window, text))
    common.choice(rules.get("selectPolicy"), ("Disabled", "Max", "Min"), f"{path}.selectPolicy", out)
    policies = rules.get("policies") or []
    if not policies:
        out.append(FieldError.required(f"{path}.policies", "must specify at least one Policy"))
    for i, policy in enumerate(policies):
        at = f"{path}.policies[{i}]"
        common.choice(policy.get("type"), ("Percent", "Pods"), f"{at}.type", out, required=True)
        for key in ("value", "periodSeconds"):
            if (policy.get(key) or 0) <= 0:
                out.append(FieldError.invalid(f"{at}.{key}", policy.get(key) or 0, "must be greater than zero"))
        if (policy.get("periodSeconds") or 0) > 1800:
            text = "must be less than or equal to 1800"
            out.append(FieldError.invalid(f"{at}.periodSeconds", policy["periodSeconds"], text))


@on_create("autoscaling", "HorizontalPodAutoscaler")
def autoscaler(obj: Obj) -> Errors:
    """An autoscaler, in either version."""
    out: Errors = []
    spec = obj.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    external = any(m.get("type") in ("Object", "External") for m in spec.get("metrics") or ())
    floor = 0 if external else 1
    if least is not None and least < floor:
        text = f"must be greater than or equal to {floor}"
        out.append(FieldError.invalid("spec.minReplicas", least, text))
    if most < 1:
        out.append(FieldError.invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        text = "must be greater than or equal to `minReplicas`"
        out.append(FieldError.invalid("spec.maxReplicas", most, text))
    _reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef", out)
    cpu = spec.get("targetCPUUtilizationPercentage")
    if cpu is not None and cpu < 1:
        out.append(FieldError.invalid("spec.targetCPUUtilizationPercentage", cpu, "must be greater than 0"))
    for i, metric in enumerate(spec.get("metrics") or ()):
        _metric(metric, f"spec.metrics[{i}]", out)
    for key, rules in (spec.get("behavior") or {}).items():
        if rules is not None:
            _scaling_rules(rules, f"spec.behavior.{key}", out)
    return out


@on_update("autoscaling", "HorizontalPodAutoscaler")
def autoscaler_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed autoscaler."""
    if subresource != "status":
        return autoscaler(new)
    out: Errors = []
    for key in ("currentReplicas", "desiredReplicas"):
        common.non_negative(new.get("status") or {}, key, "status", out)
    return out


@on_create("scheduling.k8s.io", "PriorityClass")
def priority_class(obj: Obj) -> Errors:
    """A PriorityClass; names and values of the system are taken."""
    out: Errors = []
    name, value = obj["metadata"].get("name") or "", obj.get("value") or 0
    if name.startswith(SYSTEM_PREFIX):
        if SYSTEM_CLASSES.get(name) != value:
            text = "priority class names with 'system-' prefix are reserved for system use only"
            out.append(FieldError.forbidden("metadata.name", text + f". error: {_system_text(name)}"))
    elif value > HIGHEST_USER_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        out.append(FieldError.forbidden("value", text))
    policies = ("PreemptLowerPriority", "Never")
    common.choice(obj.get("preemptionPolicy"), policies, "preemptionPolicy", out)
    return out


def _system_text(name: str) -> str:
    if name not in SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    return f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"


@on_update("scheduling.k8s.io", "PriorityClass")
def priority_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed PriorityClass; value and policy stay."""
    out: Errors = []
    pairs: tuple[tuple[str, Any], ...] = (("value", 0), ("preemptionPolicy", "PreemptLowerPriority"))
    for key, default in pairs:
        if (new.get(key) or default) != (old.get(key) or default):
            out.append(FieldError.forbidden(key, "may not be changed in an update."))
    return out


@on_create("coordination.k8s.io", "Lease")
def lease(obj: Obj) -> Errors:
    """A Lease."""
    out: Errors = []
    spec = obj.get("spec") or {}
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        out.append(FieldError.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    common.non_negative(spec, "leaseTransitions", "spec", out)
    strategy, holder = spec.get("strategy"), spec.get("preferredHolder")
    if strategy and strategy != "OldestEmulationVersion":
        if "/" not in strategy:
            common.choice(strategy, ("OldestEmulationVersion",), "spec.strategy", out)
        elif names.qualified_name(strategy):
            common.messages(names.qualified_name(strategy), strategy, "spec.strategy", out)
    if holder and not strategy:
        text = "may only be specified when `strategy` is defined"
        out.append(FieldError.forbidden("spec.preferredHolder", text))
    return out
