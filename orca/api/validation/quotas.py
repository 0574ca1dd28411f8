"""ResourceQuotas and LimitRanges.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` ValidateResourceQuota, ValidateLimitRange.
"""

from __future__ import annotations

from decimal import Decimal

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import resources
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_COMPUTE = frozenset({"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"})
_COUNTED = _COMPUTE | {
    "ephemeral-storage", "requests.ephemeral-storage", "limits.ephemeral-storage", "requests.storage", "pods",
    "resourcequotas", "services", "replicationcontrollers", "secrets", "persistentvolumeclaims", "configmaps",
    "services.nodeports", "services.loadbalancers",
}  # fmt: skip
_PODS = _COMPUTE | {"pods"}
_SCOPES: dict[str, frozenset[str]] = {
    "BestEffort": frozenset({"pods"}),
    "CrossNamespacePodAffinity": _PODS,
    "NotBestEffort": _PODS,
    "NotTerminating": _PODS,
    "PriorityClass": _PODS,
    "Terminating": _PODS,
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
"""What each scope can be asked of: resources that a quota knows by name and that are not here cannot have it."""
_ONLY_EXISTS = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")
_EXISTS_TEXT = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)
_CONFLICTS = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_PARTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def _is_counted(name: str) -> bool:
    return name in _COUNTED or name.startswith(("hugepages-", "requests.hugepages-"))


def _amounts(values: Obj | None, path: str, out: Errors) -> None:
    for name, value in (values or {}).items():
        at = f"{path}[{name}]"
        common.messages(resources.name_errors(name), name, at, out)
        if "/" not in name and not _is_counted(name):
            out.append(FieldError.invalid(at, name, "must be a standard resource for quota"))
        resources.amount(name, value, at, out)


def _scope(scope: str, hard: Obj, path: str, shown: object, out: Errors, *, at: str) -> None:
    if scope not in _SCOPES:
        out.append(FieldError.invalid(at, scope if at != path else shown, "unsupported scope"))
    for name in sorted(hard):
        if _is_counted(name) and name not in _SCOPES.get(scope, ()):
            out.append(FieldError.invalid(path, shown, "unsupported scope applied to resource"))


def _conflicting(scopes: list[str], shown: object, path: str, out: Errors) -> None:
    for pair in _CONFLICTS:
        if all(scope in scopes for scope in pair):
            out.append(FieldError.invalid(path, shown, "conflicting scopes"))


def _selector(spec: Obj, out: Errors) -> None:
    selector = spec.get("scopeSelector")
    if selector is None:
        return
    at = "spec.scopeSelector.matchExpressions"
    rules = selector.get("matchExpressions") or []
    for rule in rules:
        scope, operator, values = rule.get("scopeName") or "", rule.get("operator") or "", rule.get("values")
        _scope(scope, spec.get("hard") or {}, at, selector, out, at=f"{at}.scopeName")
        if scope in _ONLY_EXISTS and operator != "Exists":
            out.append(FieldError.invalid(f"{at}.operator", operator, _EXISTS_TEXT))
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                out.append(FieldError.required(f"{at}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                out.append(FieldError.invalid(f"{at}.values", values, text))
        else:
            out.append(FieldError.invalid(f"{at}.operator", operator, "not a valid selector operator"))
    _conflicting([rule.get("scopeName") for rule in rules], spec.get("scopes"), at, out)


def _quota_spec(spec: Obj, out: Errors) -> None:
    _amounts(spec.get("hard"), "spec.hard", out)
    scopes = spec.get("scopes") or []
    for scope in scopes:
        _scope(scope, spec.get("hard") or {}, "spec.scopes", scopes, out, at="spec.scopes")
    _conflicting(scopes, scopes, "spec.scopes", out)
    _selector(spec, out)


def _quota_status(obj: Obj, out: Errors) -> None:
    status = obj.get("status") or {}
    _amounts(status.get("hard"), "status.hard", out)
    _amounts(status.get("used"), "status.used", out)


@on_create("", "ResourceQuota")
def resource_quota(obj: Obj) -> Errors:
    """A ResourceQuota."""
    out: Errors = []
    _quota_spec(obj.get("spec") or {}, out)
    _quota_status(obj, out)
    return out


@on_update("", "ResourceQuota")
def resource_quota_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ResourceQuota; its scopes stay."""
    out: Errors = []
    if subresource == "status":
        _quota_status(new, out)
        return out
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    _quota_spec(wanted, out)
    if set(wanted.get("scopes") or ()) != set(before.get("scopes") or ()):
        out.append(FieldError.invalid("spec.scopes", wanted.get("scopes"), common.IMMUTABLE))
    return out


def _type(kind: str, path: str, out: Errors) -> None:
    wrong = names.qualified_name(kind)
    common.messages(wrong, kind, path, out)
    if not wrong and "/" not in kind and kind not in _TYPES:
        out.append(FieldError.invalid(path, kind, "must be a standard limit type or fully qualified"))


@on_create("", "LimitRange")
def limit_range(obj: Obj) -> Errors:
    """A LimitRange: each type once, and min ≤ default request ≤ default ≤ max."""
    out: Errors = []
    seen = set()
    for i, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        at = f"spec.limits[{i}]"
        kind = item.get("type") or ""
        _type(kind, f"{at}.type", out)
        if kind in seen:
            out.append(FieldError.duplicate(f"{at}.type", kind))
        seen.add(kind)
        if kind == "Pod":
            for key in ("default", "defaultRequest"):
                if item.get(key):
                    text = "may not be specified when `type` is 'Pod'"
                    out.append(FieldError.forbidden(f"{at}.{key}", text))
        if kind == "PersistentVolumeClaim" and "storage" not in {**(item.get("min") or {}), **(item.get("max") or {})}:
            text = "either minimum or maximum storage value is required, but neither was provided"
            out.append(FieldError.required(f"{at}.limits", text))
        _limits(item, kind, at, out)
    return out


def _limits(item: Obj, kind: str, path: str, out: Errors) -> None:
    rule = resources.container_name_errors if kind in ("Pod", "Container") else resources.name_errors
    found: dict[str, dict[str, Decimal]] = {}
    for part in _PARTS:
        if kind == "Pod" and part in ("default", "defaultRequest"):
            continue
        for name, value in (item.get(part) or {}).items():
            at = f"{path}.{part}[{name}]"
            common.messages(rule(name), name, at, out)
            amount = common.quantity(value, at, out)
            if amount is not None:
                found.setdefault(name, {})[part] = amount.value
    for name, amounts in found.items():
        _ordered(item, name, amounts, path, out)


# Which of two amounts may not exceed the other, which of the two is blamed, whose value is shown, and their names.
_PAIRS = (
    ("min", "max", "min", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value", "default request value"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value", "max value"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest", "default request value", "default limit value"),
    ("min", "default", "default", "min", "min value", "default value"),
    ("default", "max", "default", "max", "default value", "max value"),
)


def _ordered(item: Obj, name: str, amounts: dict[str, Decimal], path: str, out: Errors) -> None:
    for low, high, blamed, shown, low_name, high_name in _PAIRS:
        if low in amounts and high in amounts and amounts[low] > amounts[high]:
            text = f"{low_name} {item[low][name]} is greater than {high_name} {item[high][name]}"
            out.append(FieldError.invalid(f"{path}.{blamed}[{name}]", item[shown][name], text))
    ratio = amounts.get("maxLimitRequestRatio")
    if ratio is not None:
        value = item["maxLimitRequestRatio"][name]
        at = f"{path}.maxLimitRequestRatio[{name}]"
        if ratio < 1:
            out.append(FieldError.invalid(at, value, f"ratio {value} is less than 1"))
        if amounts.get("min") and "max" in amounts and ratio > amounts["max"] / amounts["min"]:
            most = amounts["max"] / amounts["min"]
            out.append(FieldError.invalid(at, value, f"ratio {value} is greater than max/min = {most:.6f}"))
    both = ("default", "defaultRequest")
    if not resources.overcommits(name) and all(part in amounts for part in both):
        limit, request = (item[part][name] for part in both)
        if amounts["default"] != amounts["defaultRequest"]:
            text = f"default value {limit} must equal to defaultRequest value {request} in {name}"
            out.append(FieldError.invalid(f"{path}.defaultRequest[{name}]", request, text))
