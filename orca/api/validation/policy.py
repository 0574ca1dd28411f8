"""Disruption budgets, priorities and leases."""

from __future__ import annotations

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
    common.known(spec.get("unhealthyPodEvictionPolicy"), policies, "spec.unhealthyPodEvictionPolicy", out)
    return out


@on_update("policy", "PodDisruptionBudget")
def disruption_budget_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed PodDisruptionBudget."""
    if subresource != "status":
        return disruption_budget(new)
    out: Errors = []
    common.conditions((new.get("status") or {}).get("conditions"), "status.conditions", out)
    for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        common.non_negative(new.get("status") or {}, key, "status", out)
    return out


@on_create("scheduling.k8s.io", "PriorityClass")
def priority_class(obj: Obj) -> Errors:
    """A PriorityClass; names and values of the system are taken."""
    out: Errors = []
    name, value = obj["metadata"].get("name") or "", obj.get("value") or 0
    if name.startswith(SYSTEM_PREFIX):
        if wrong := _not_system(name, value, default=bool(obj.get("globalDefault"))):
            text = (
                f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {wrong}"
            )
            out.append(FieldError.forbidden("metadata.name", text))
    elif value > HIGHEST_USER_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        out.append(FieldError.forbidden("value", text))
    policy = obj.get("preemptionPolicy")
    if policy is not None:
        common.choice(policy, ("PreemptLowerPriority", "Never"), "preemptionPolicy", out, required=True)
    return out


def _not_system(name: str, value: int, *, default: bool) -> str:
    """Why this is none of the system's classes, or ""."""
    if name not in SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if default else ""


@on_update("scheduling.k8s.io", "PriorityClass")
def priority_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed PriorityClass; value and policy stay."""
    del subresource
    out: Errors = []
    if (new.get("value") or 0) != (old.get("value") or 0):
        out.append(FieldError.forbidden("value", "may not be changed in an update."))
    common.immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy", out)
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
    # Upstream names the field twice.
    at = "spec.strategy.strategy"
    if strategy is not None and "/" not in strategy:
        common.known(strategy, ("OldestEmulationVersion",), at, out)
    elif strategy:
        common.messages(names.qualified_name(strategy), strategy, at, out)
    if holder and not strategy:
        text = "may only be specified if `strategy` is defined"
        out.append(FieldError.forbidden("spec.preferredHolder", text))
    return out
