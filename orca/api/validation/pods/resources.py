"""Requests and limits: names, amounts, and how the two go together."""

from __future__ import annotations

from functools import lru_cache

from orca.api import names
from orca.api.errors import FieldError
from orca.api.quantity import Quantity
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_STANDARD = {"cpu", "memory", "ephemeral-storage"}
_KNOWN = _STANDARD | {"storage", "requests.cpu", "requests.memory", "requests.storage", "requests.ephemeral-storage",
                      "limits.cpu", "limits.memory", "limits.ephemeral-storage", "pods", "services",
                      "replicationcontrollers", "resourcequotas", "secrets", "persistentvolumeclaims", "configmaps",
                      "services.nodeports", "services.loadbalancers"}  # fmt: skip
_HUGE = "hugepages-"
_POD_LEVEL = ("cpu", "memory")
NOT_STANDARD = "must be a standard resource type or fully qualified"


def is_native(name: str) -> bool:
    """Whether *name* belongs to the system rather than to a vendor."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Whether *name* is a resource that nodes advertise by a vendor's name."""
    return not is_native(name) and not name.startswith("requests.")


def overcommits(name: str) -> bool:
    """Whether requests may be below limits."""
    return is_native(name) and not name.startswith(_HUGE)


@lru_cache(maxsize=1024)
def _name_errors(name: str) -> tuple[str, ...]:
    found = names.qualified_name(name)
    if found:
        return tuple(found)
    if "/" not in name:
        if name not in _KNOWN and not name.startswith((_HUGE, "requests.hugepages-", "limits.hugepages-")):
            return (NOT_STANDARD,)
        if name not in _STANDARD and not name.startswith(_HUGE):
            return ("must be a standard resource for containers",)
    return ()


def _amount(name: str, value: object, path: str, out: Errors) -> Quantity | None:
    found = common.non_negative_quantity(value, path, out)
    if found is not None and is_extended(name) and found.value != found.value.to_integral_value():
        out.append(FieldError.invalid(path, value, "must be an integer"))
    return found


def requirements(obj: Obj, path: str, out: Errors, *, pod_level: bool = False) -> None:
    """``resources`` of a container, or of a whole pod."""
    limits = obj.get("limits") or {}
    requests = obj.get("requests") or {}
    amounts: dict[str, Quantity | None] = {}
    for name, value in limits.items():
        at = f"{path}.limits[{name}]"
        common.messages(_name_errors(name), name, at, out)
        if pod_level:
            _pod_level_name(name, at, out)
        amounts[name] = _amount(name, value, at, out)
    for name, value in requests.items():
        at = f"{path}.requests[{name}]"
        common.messages(_name_errors(name), name, at, out)
        if pod_level:
            _pod_level_name(name, at, out)
        amount = _amount(name, value, at, out)
        limit = amounts.get(name)
        if name in limits:
            if amount is not None and limit is not None:
                if not overcommits(name) and amount.value != limit.value:
                    text = f"must be equal to {name} limit of {limits[name]}"
                    out.append(FieldError.invalid(f"{path}.requests", value, text))
                elif overcommits(name) and amount.value > limit.value:
                    text = f"must be less than or equal to {name} limit of {limits[name]}"
                    out.append(FieldError.invalid(f"{path}.requests", value, text))
        elif not overcommits(name):
            text = "Limit must be set for non overcommitable resources"
            out.append(FieldError.required(f"{path}.limits", text))
    huge = [name for name in (*limits, *requests) if name.startswith(_HUGE)]
    if huge and not any(key in part for part in (limits, requests) for key in _POD_LEVEL):
        out.append(FieldError.forbidden(path, "HugePages require cpu or memory"))


def _pod_level_name(name: str, path: str, out: Errors) -> None:
    if name not in _POD_LEVEL and not name.startswith(_HUGE):
        out.append(FieldError.not_supported(path, name, ("cpu", "hugepages-", "memory")))
