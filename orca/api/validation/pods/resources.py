"""Requests and limits: names, amounts, how the two go together, and what a pod has for all its containers.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` validateResourceRequirements, ``pkg/apis/core/helper``.
"""

from __future__ import annotations

from collections.abc import Set

from orca.api import names
from orca.api.errors import FieldError
from orca.api.quantity import Quantity
from orca.api.remembering import remembered
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage"})
_OBJECTS = frozenset({
    "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "persistentvolumeclaims", "configmaps",
    "services.nodeports", "services.loadbalancers",
})  # fmt: skip
_KNOWN = _STANDARD | _OBJECTS | {
    "storage", "requests.cpu", "requests.memory", "requests.storage", "requests.ephemeral-storage", "limits.cpu",
    "limits.memory", "limits.ephemeral-storage",
}  # fmt: skip
_HUGE = "hugepages-"
_POD_LEVEL = ("cpu", "memory")
NOT_STANDARD = "must be a standard resource type or fully qualified"


def is_native(name: str) -> bool:
    """Whether *name* belongs to the system rather than to a vendor."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Whether *name* is a resource that nodes advertise by a vendor's name."""
    return not is_native(name) and not name.startswith("requests.")


def is_whole(name: str) -> bool:
    """Whether amounts of *name* are whole numbers: objects, and what vendors count."""
    return name in _OBJECTS or is_extended(name)


def overcommits(name: str) -> bool:
    """Whether requests may be below limits."""
    return is_native(name) and not name.startswith(_HUGE)


@remembered(1024)
def name_errors(name: str) -> tuple[str, ...]:
    """What is wrong with the name of any compute resource, or of what a quota counts."""
    found = names.qualified_name(name)
    if not found and "/" not in name and name not in _KNOWN and not name.startswith((_HUGE, "requests.hugepages-")):
        return (NOT_STANDARD,)
    return tuple(found)


@remembered(1024)
def container_name_errors(name: str) -> tuple[str, ...]:
    """What is wrong with the name of a resource that a container asks for."""
    found = name_errors(name)
    if "/" not in name:
        if name not in _STANDARD and not name.startswith(_HUGE):
            return (*found, "must be a standard resource for containers")
    elif not is_native(name) and (not is_extended(name) or names.qualified_name(f"requests.{name}")):
        return (*found, "doesn't follow extended resource name standard")
    return found


def amount(name: str, value: object, path: str, out: Errors) -> Quantity | None:
    """*value* as an amount of *name*, or None after an error."""
    found = common.non_negative_quantity(value, path, out)
    if found is not None and is_whole(name) and found.value != found.value.to_integral_value():
        out.append(FieldError.invalid(path, value, "must be an integer"))
    return found


def _page_size(name: str) -> Quantity | None:
    try:
        return common.parse_quantity(name.removeprefix(_HUGE))
    except ValueError:
        return None


def _checked(name: str, value: object, path: str, out: Errors, *, pod_level: bool) -> Quantity | None:
    wrong = name_errors(name) if pod_level else container_name_errors(name)
    if wrong:
        common.messages(wrong, name, path, out)
    elif pod_level and name not in _POD_LEVEL and not name.startswith(_HUGE):
        out.append(FieldError.not_supported(path, name, ("cpu", "hugepages-", "memory")))
    found = amount(name, value, path, out)
    if found is not None and name.startswith(_HUGE):
        size = _page_size(name)
        if size is None or size.value <= 0 or found.value <= 0 or found.value % size.value:
            out.append(FieldError.invalid(path, value, f"{value} is not positive integer multiple of {name}"))
    return found


def requirements(obj: Obj, path: str, out: Errors, *, pod_level: bool = False, claims: Set[str] = frozenset()) -> None:
    """``resources`` of a container, or of a whole pod; *claims* are the names of the pod's resourceClaims."""
    limits = obj.get("limits") or {}
    requests = obj.get("requests") or {}
    amounts: dict[str, Quantity | None] = {}
    for name, value in limits.items():
        amounts[name] = _checked(name, value, f"{path}.limits[{name}]", out, pod_level=pod_level)
    for name, value in requests.items():
        found = _checked(name, value, f"{path}.requests[{name}]", out, pod_level=pod_level)
        limit = amounts.get(name)
        if name in limits:
            if found is not None and limit is not None and found.value != limit.value:
                if not overcommits(name):
                    text = f"must be equal to {name} limit of {limits[name]}"
                    out.append(FieldError.invalid(f"{path}.requests", value, text))
                elif found.value > limit.value:
                    text = f"must be less than or equal to {name} limit of {limits[name]}"
                    out.append(FieldError.invalid(f"{path}.requests", value, text))
        elif not overcommits(name):
            text = "Limit must be set for non overcommitable resources"
            out.append(FieldError.required(f"{path}.limits", text))
    if any(name.startswith(_HUGE) for part in (limits, requests) for name in part) and not any(
        key in part for part in (limits, requests) for key in _POD_LEVEL
    ):
        out.append(FieldError.forbidden(path, "HugePages require cpu or memory"))
    if obj.get("claims") and not pod_level:
        _claims(obj["claims"], claims, f"{path}.claims", out)


def _claims(items: list[Obj], known: Set[str], path: str, out: Errors) -> None:
    """Every claim, or request within one, once, and of the pod's."""
    seen: set[str] = set()
    for i, item in enumerate(items):
        at = f"{path}[{i}]"
        name, request = item.get("name") or "", item.get("request") or ""
        if not name:
            out.append(FieldError.required(at))
            continue
        key = f"{name}/{request}" if request else name
        if name in seen:
            out.append(FieldError.duplicate(at, name))
        else:
            if request:
                common.messages(names.dns1123_label(request), request, f"{at}.request", out)
            if key in seen:
                out.append(FieldError.duplicate(at, key))
            elif not request:
                out += [FieldError.duplicate(at, name) for one in seen if one.startswith(f"{name}/")]
            seen.add(key)
        if name not in known:
            text = "must be one of the names in pod.spec.resourceClaims"
            text += f": {', '.join(sorted(known))}" if known else " which is empty"
            out.append(FieldError("NotFound", at, name, text))


def pod_resources(spec: Obj, path: str, out: Errors) -> None:
    """``spec.resources``: well formed, and enough for what the containers ask for; *path* is the spec's."""
    obj = spec["resources"]
    at = f"{path}.resources"
    if (spec.get("os") or {}).get("name") == "windows":
        out.append(FieldError.forbidden(at, "may not be set for a windows pod"))
        return
    if obj.get("claims") is not None:
        out.append(FieldError.forbidden(f"{at}.claims", "claims may not be set for Resources at pod-level"))
    before = len(out)
    requirements(obj, at, out, pod_level=True)
    if len(out) > before:
        return
    try:
        _consistent(spec, obj, at, out)
    except ValueError:
        return  # the container's own check has said which amount is none


def _value(text: object) -> Quantity:
    return common.parse_quantity(str(text))


def _total(spec: Obj, kind: str, name: str) -> Quantity:
    """What all containers need at once of *name*: all regular ones and sidecars, or an init container meanwhile."""
    zero = Quantity.parse("0")
    total, sidecars, most = zero, zero, zero
    for container in spec.get("containers") or ():
        total += _value(((container.get("resources") or {}).get(kind) or {}).get(name, "0"))
    for container in spec.get("initContainers") or ():
        own = _value(((container.get("resources") or {}).get(kind) or {}).get(name, "0"))
        if container.get("restartPolicy") == "Always":
            sidecars += own
            own = sidecars
        else:
            own += sidecars
        most = max(most, own, key=lambda one: one.value)
    return max(total + sidecars, most, key=lambda one: one.value)


def _consistent(spec: Obj, obj: Obj, path: str, out: Errors) -> None:
    for name, value in (obj.get("requests") or {}).items():
        needed = _total(spec, "requests", name)
        if needed.value > _value(value).value:
            text = f"must be greater than or equal to aggregate container requests of {needed}"
            out.append(FieldError.invalid(f"{path}.requests[{name}]", value, text))
    limits = obj.get("limits") or {}
    for name, value in limits.items():
        if not name.startswith(_HUGE):
            continue
        most = _total(spec, "limits", name)
        if most.value > _value(value).value:
            text = f"must be greater than or equal to aggregate container limits of {most}"
            out.append(FieldError.invalid(f"{path}.limits[{name}]", value, text))
    for i, container in enumerate(spec.get("containers") or ()):
        for name, value in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and _value(value).value > _value(limits[name]).value:
                text = f"must be less than or equal to pod limits of {limits[name]}"
                out.append(FieldError.invalid(f"{path}.containers[{i}][{name}].limits", value, text))
