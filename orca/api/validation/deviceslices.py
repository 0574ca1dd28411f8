"""Dynamic resource allocation: the devices that drivers offer.

Reference: k8s.io/kubernetes ``pkg/apis/resource/validation``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.comparison import plain
from orca.api.validation.devices import (
    EFFECTS,
    GROUP,
    Judge,
    binding,
    each,
    label,
    label_name,
    pool_name,
    qualified,
    unique,
)
from orca.api.validation.pods import scheduling
from orca.api.validation.pods.volume_sources import driver_name
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_MAX_DEVICES, _MAX_ADVANCED = 128, 64
_MAX_DESCRIBED = 32
_MAX_SETS, _MAX_COUNTERS, _MAX_CONSUMED = 8, 32, 2
_MAX_TAINTS = 16
_MAX_VALUE = 64
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_ONE_PLACE = f"exactly one of {', '.join(f'`{key}`' for key in _PLACES)} is required"
_ONE_OF_DEVICE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)
_NOT_OF_DEVICE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
    "ResourceSlice spec"
)
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?"
)
_KINDS = ("bool", "int", "string", "version", "bools", "ints", "strings", "versions")


def _places(obj: Obj, path: str, empty: str, out: Errors, *, one_term: bool) -> list[str]:
    """Which ways to say where something is are taken, each judged."""
    found = []
    name = obj.get("nodeName")
    if name:
        found.append("`nodeName`")
        common.messages(names.dns1123_subdomain(name), name, f"{path}.nodeName", out)
    elif name is not None:
        out.append(FieldError.invalid(f"{path}.nodeName", name, empty))
    selector = obj.get("nodeSelector")
    if selector is not None:
        found.append("`nodeSelector`")
        scheduling.node_selector(selector, f"{path}.nodeSelector", out)
        terms = selector.get("nodeSelectorTerms") or []
        if one_term and len(terms) != 1:
            text = "must have exactly one node selector term"
            out.append(FieldError.invalid(f"{path}.nodeSelector.nodeSelectorTerms", terms, text))
    for key in _PLACES[2:]:
        if obj.get(key):
            found.append(f"`{key}`")
        elif obj.get(key) is not None:
            text = "must be either unset or set to true"
            out.append(FieldError.invalid(f"{path}.{key}", False, text))
    return found


def _slice(spec: Obj, before: Obj | None) -> Errors:
    out: Errors = []
    driver_name(spec.get("driver"), "spec.driver", out)
    pool = spec.get("pool") or {}
    pool_name(pool.get("name") or "", "spec.pool.name", out)
    if (pool.get("resourceSliceCount") or 0) <= 0:
        text = "must be greater than zero"
        out.append(FieldError.invalid("spec.pool.resourceSliceCount", pool.get("resourceSliceCount") or 0, text))
    if (pool.get("generation") or 0) < 0:
        text = "must be greater than or equal to zero"
        out.append(FieldError.invalid("spec.pool.generation", pool["generation"], text))
    if before is not None:
        left, right = pool.get("name"), (before.get("pool") or {}).get("name")
        common.immutable(left, right, "spec.pool.name", out)
        for key in ("driver", "nodeName"):
            common.immutable(spec.get(key), before.get(key), f"spec.{key}", out)
    places = _places(spec, "spec", "must be either unset or set to a non-empty string", out, one_term=True)
    if not places:
        out.append(FieldError.required("spec", _ONE_PLACE))
    elif len(places) > 1:
        text = f"{_ONE_PLACE}, but multiple fields are set"
        out.append(FieldError.invalid("spec", f"{{{', '.join(places)}}}", text))
    if spec.get("sharedCounters") is not None and spec.get("devices") is not None:
        text = "only one of `sharedCounters` or `devices` is allowed"
        out.append(FieldError.invalid("spec", "", text))
    _devices(spec, before or {}, out)
    at = "spec.sharedCounters"
    unique((one.get("name") for one in each(spec.get("sharedCounters"), _MAX_SETS, at, out, _counters)), at, out)
    return out


def _devices(spec: Obj, before: Obj, out: Errors) -> None:
    devices = spec.get("devices") or []
    advanced = any(
        one.get("taints")
        or one.get("consumesCounters")
        or any(value.get(kind) is not None for value in (one.get("attributes") or {}).values() for kind in _KINDS[4:])
        for one in devices
    )
    had = {one.get("name"): one for one in before.get("devices") or ()}
    apart = bool(spec.get("perDeviceNodeSelection"))

    def judge(device: Obj, path: str, found: Errors) -> None:
        _device(device, had.get(device.get("name")), path, found, apart=apart)

    limit = _MAX_ADVANCED if advanced else _MAX_DEVICES
    unique((one.get("name") for one in each(devices, limit, "spec.devices", out, judge)), "spec.devices", out)


def _device(device: Obj, before: Obj | None, path: str, out: Errors, *, apart: bool) -> None:
    label(device.get("name"), f"{path}.name", out)
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    count = len(attributes) + len(capacity)
    if count > _MAX_DESCRIBED:
        text = f"the total number of attributes and capacities must not exceed {_MAX_DESCRIBED}"
        out.append(FieldError.invalid(path, count, text))
    _map(attributes, qualified, _attribute, f"{path}.attributes", out)
    shared = bool(device.get("allowMultipleAllocations"))
    _map(capacity, qualified, _shared_capacity if shared else _whole_capacity, f"{path}.capacity", out)
    if before is None or plain(before.get("taints")) != plain(device.get("taints")):
        each(device.get("taints"), _MAX_TAINTS, f"{path}.taints", out, _taint)
    at = f"{path}.consumesCounters"
    consumed = each(device.get("consumesCounters"), _MAX_CONSUMED, at, out, _consumption)
    unique((one.get("counterSet") for one in consumed), at, out)
    _place(device, path, out, apart=apart)
    binding(device, path, out)


def _place(device: Obj, path: str, out: Errors, *, apart: bool) -> None:
    keys = _PLACES[:3]
    if not apart:
        if any(device.get(key) is not None for key in keys):
            out.append(FieldError.invalid(path, None, _NOT_OF_DEVICE))
        return
    places = _places({key: device.get(key) for key in keys}, path, "must not be empty", out, one_term=False)
    if not places:
        out.append(FieldError.required(path, _ONE_OF_DEVICE))
    elif len(places) > 1:
        out.append(FieldError.invalid(path, f"{{{', '.join(places)}}}", _ONE_OF_DEVICE))


def _map(values: Obj, key_judge: Callable[..., None], judge: Judge, path: str, out: Errors) -> None:
    for key, value in values.items():
        key_judge(key, path, out)
        judge(value, f"{path}[{key}]", out)


def _attribute(attribute: Obj, path: str, out: Errors) -> None:
    given = [kind for kind in _KINDS if attribute.get(kind) is not None]
    for kind in given:
        value: Any = attribute[kind]
        if kind.endswith("s") and not value:
            out.append(FieldError.invalid(f"{path}.{kind}", value, "must not be empty if specified"))
        texts = [(value, f"{path}.{kind}")]
        if isinstance(value, list):
            texts = [(one, f"{path}.{kind}[{i}]") for i, one in enumerate(value)]
        for one, at in texts:
            if kind.startswith("version") and not _SEMVER.fullmatch(one):
                text = "must be a string compatible with semver.org spec 2.0.0"
                out.append(FieldError.invalid(at, one, text))
            if isinstance(one, str) and len(one.encode()) > _MAX_VALUE:
                out.append(FieldError.too_long(at, "", _MAX_VALUE))
    if len(given) != 1:
        shown = attribute if given else ""
        out.append(FieldError.invalid(path, shown, "exactly one value must be specified"))


def _whole_capacity(capacity: Obj, path: str, out: Errors) -> None:
    common.quantity(capacity.get("value") or "0", f"{path}.value", out)
    if capacity.get("requestPolicy") is not None:
        out.append(FieldError.forbidden(f"{path}.requestPolicy", "allowMultipleAllocations must be true"))


def _shared_capacity(capacity: Obj, path: str, out: Errors) -> None:
    most = common.quantity(capacity.get("value") or "0", f"{path}.value", out)
    policy, at = capacity.get("requestPolicy"), f"{path}.requestPolicy"
    if policy is None or most is None:
        return
    values, span = policy.get("validValues") or [], policy.get("validRange")
    if values and span is not None:
        text = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        out.append(FieldError.forbidden(at, text))
        return
    name = "validValues" if values else "validRange" if span is not None else ""
    if name and policy.get("default") is None:
        out.append(FieldError.required(f"{at}.default", f"required when {name} is defined"))


def _taint(taint: Obj, path: str, out: Errors) -> None:
    label_name(taint.get("key"), f"{path}.key", out)
    value = taint.get("value") or ""
    common.messages(names.label_value(value), value, f"{path}.value", out)
    common.choice(taint.get("effect"), EFFECTS, f"{path}.effect", out, required=True)


def _counters(one: Obj, path: str, out: Errors) -> None:
    _named_counters(one, "name", path, out)


def _consumption(one: Obj, path: str, out: Errors) -> None:
    _named_counters(one, "counterSet", path, out)


def _named_counters(one: Obj, key: str, path: str, out: Errors) -> None:
    if common.required(one, key, path, out):
        label(one[key], f"{path}.{key}", out)
    counters, at = one.get("counters") or {}, f"{path}.counters"
    if not counters:
        out.append(FieldError.required(at))
    elif len(counters) > _MAX_COUNTERS:
        out.append(FieldError.too_many(at, len(counters), _MAX_COUNTERS))
    else:
        _map(counters, label, _counter, at, out)


def _counter(counter: Obj, path: str, out: Errors) -> None:
    common.quantity(counter.get("value") or "0", f"{path}.value", out)


@on_create(GROUP, "ResourceSlice")
def resource_slice(obj: Obj) -> Errors:
    """A ResourceSlice."""
    return _slice(obj.get("spec") or {}, None)


@on_update(GROUP, "ResourceSlice")
def resource_slice_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ResourceSlice: whose it is stays."""
    del subresource
    return _slice(new.get("spec") or {}, old.get("spec") or {})
