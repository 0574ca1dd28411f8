"""Disruption budgets, priorities and leases."""

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
