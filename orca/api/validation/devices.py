"""Dynamic resource allocation: device classes, claims and templates for claims.

Reference: k8s.io/kubernetes ``pkg/apis/resource/validation``.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.metadata import validate_annotations
from orca.api.validation import common
from orca.api.validation.comparison import plain
from orca.api.validation.pods import resources, scheduling
from orca.api.validation.pods.volume_sources import driver_name
from orca.api.validation.registry import Errors, Obj, on_create, on_update

GROUP = "resource.k8s.io"
Judge = Callable[[Any, str, Errors], None]
_MAX = 32
_MAX_ALTERNATIVES = 8
_MAX_RESERVED = 256
_MAX_TEXT = 10 * 1024
_MAX_STATUS_CONDITIONS = 8
_MAX_POOL = 253
_MAX_ID = 32
_MAX_ADDRESSES = 16
_MAX_INTERFACE, _MAX_HARDWARE = 256, 128
_UUID_LENGTHS = (32, 36, 38, 45)
EFFECTS = ("NoExecute", "NoSchedule", "None")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_LATE = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"


def each(items: list[Any] | None, limit: int, path: str, out: Errors, judge: Judge) -> list[Any]:
    """Judge every item, unless there are more than *limit*; those that were judged."""
    found = items or []
    if len(found) > limit:
        out.append(FieldError.too_many(path, len(found), limit))
        return []
    for i, item in enumerate(found):
        judge(item, f"{path}[{i}]", out)
    return found


def unique(keys: Iterable[Any], path: str, out: Errors) -> None:
    """No key twice."""
    seen = set()
    for i, key in enumerate(keys):
        if key in seen:
            out.append(FieldError.duplicate(f"{path}[{i}]", key))
        seen.add(key)


def label(value: str | None, path: str, out: Errors) -> None:
    """An RFC 1123 label."""
    common.messages(names.dns1123_label(value or ""), value or "", path, out)


def label_name(value: str | None, path: str, out: Errors) -> None:
    """The name of a label, which names of taints and of conditions are, too."""
    common.messages(names.qualified_name(value or ""), value or "", path, out)


def pool_name(name: str, path: str, out: Errors) -> None:
    """Subdomains joined by slashes."""
    if not name:
        out.append(FieldError.required(path))
        return
    if len(name) > _MAX_POOL:
        out.append(FieldError.too_long(path, "", _MAX_POOL))
    for part in name.split("/"):
        common.messages(names.dns1123_subdomain(part), part, path, out)


def identifier(name: str, path: str, out: Errors) -> None:
    """An identifier as C has them."""
    if len(name) > _MAX_ID:
        out.append(FieldError.too_long(path, "", _MAX_ID))
    if not _IDENTIFIER.fullmatch(name):
        text = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'"  # noqa: E501
        text = names.regex_error(text, _IDENTIFIER.pattern, "my_name", "MY_NAME", "MyName")
        out.append(FieldError.invalid(path, name, text))


def qualified(name: str, path: str, out: Errors, *, fully: bool = False) -> None:
    """An identifier, with the domain it is from before a slash; *fully*: with a domain in any case."""
    parts = name.split("/")
    if len(parts) == 1:
        identifier(name, path, out)
    elif len(parts) == 2:
        if parts[0]:
            driver_name(parts[0], path, out)
        else:
            out.append(FieldError.invalid(path, "", "the domain must not be empty"))
        if parts[1]:
            identifier(parts[1], path, out)
        else:
            out.append(FieldError.invalid(path, "", "the name must not be empty"))
    if fully and len(parts) == 1:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        out.append(FieldError.invalid(path, name, text))


def _selector(selector: Obj, path: str, out: Errors) -> None:
    cel = selector.get("cel")
    if cel is None:
        out.append(FieldError.required(f"{path}.cel"))
        return
    expression, at = cel.get("expression") or "", f"{path}.cel.expression"
    if len(expression.encode()) > _MAX_TEXT:
        out.append(FieldError.too_long(at, "", _MAX_TEXT))
        return
    # Imported here: the language is heavy, and few clusters have devices.
    from orca.api.cel.devices import wrong

    if text := wrong(expression):
        out.append(FieldError.invalid(at, expression, text))


def _toleration(toleration: Obj, path: str, out: Errors) -> None:
    if toleration.get("key"):
        label_name(toleration["key"], f"{path}.key", out)
    operator, value = toleration.get("operator") or "", toleration.get("value") or ""
    if operator == "Exists":
        if value:
            text = "must be empty for operator `Exists`"
            out.append(FieldError.invalid(f"{path}.value", value, text))
    elif operator == "Equal":
        common.messages(names.label_value(value), value, f"{path}.value", out)
    else:
        common.choice(operator, ("Equal", "Exists"), f"{path}.operator", out, required=True)
    common.choice(toleration.get("effect"), EFFECTS, f"{path}.effect", out)


def _tolerations(obj: Obj, path: str, out: Errors) -> None:
    for i, toleration in enumerate(obj.get("tolerations") or ()):
        _toleration(toleration, f"{path}.tolerations[{i}]", out)


def _exact(request: Obj, path: str, out: Errors) -> None:
    if common.required(request, "deviceClassName", path, out):
        name = request["deviceClassName"]
        common.messages(names.dns1123_subdomain(name), name, f"{path}.deviceClassName", out)
    each(request.get("selectors"), _MAX, f"{path}.selectors", out, _selector)
    mode, count = request.get("allocationMode"), request.get("count") or 0
    if mode == "All":
        if count:
            text = "must not be specified when allocationMode is 'All'"
            out.append(FieldError.invalid(f"{path}.count", count, text))
    elif mode == "ExactCount":
        if count <= 0:
            out.append(FieldError.invalid(f"{path}.count", count, "must be greater than zero"))
    else:
        out.append(FieldError.not_supported(f"{path}.allocationMode", mode or "", ("All", "ExactCount")))
    _tolerations(request, path, out)


def _alternative(request: Obj, path: str, out: Errors) -> None:
    label(request.get("name"), f"{path}.name", out)
    _exact(request, path, out)


def _request(request: Obj, path: str, out: Errors) -> None:
    label(request.get("name"), f"{path}.name", out)
    exactly, first = request.get("exactly"), request.get("firstAvailable") or []
    text = "exactly one of `exactly` or `firstAvailable` is required"
    if exactly is None and not first:
        out.append(FieldError.required(path, text))
    elif exactly is not None and first:
        out.append(FieldError.invalid(path, None, f"{text}, but multiple fields are set"))
    elif exactly is not None:
        _exact(exactly, f"{path}.exactly", out)
    else:
        at = f"{path}.firstAvailable"
        unique((one.get("name") for one in each(first, _MAX_ALTERNATIVES, at, out, _alternative)), at, out)


def _known(spec: Obj) -> set[str]:
    """What requests, and alternatives within them, are called."""
    found = set()
    for request in (spec.get("devices") or {}).get("requests") or ():
        name = request.get("name") or ""
        found.add(name)
        found |= {f"{name}/{one.get('name') or ''}" for one in request.get("firstAvailable") or ()}
    return found


def _reference(known: set[str]) -> Judge:
    def judge(name: str, path: str, out: Errors) -> None:
        parts = name.split("/")
        if len(parts) > 2:
            out.append(FieldError.invalid(path, name, _REFERENCE))
            return
        for part in parts:
            label(part, path, out)
        if name not in known:
            out.append(FieldError.invalid(path, name, _REFERENCE))

    return judge


def _references(item: Obj, known: set[str], path: str, out: Errors) -> None:
    at = f"{path}.requests"
    unique(each(item.get("requests"), _MAX, at, out, _reference(known)), at, out)


def _object(value: Any, path: str, out: Errors) -> None:
    """Anything a driver wants to know, as an object."""
    if value is None:
        out.append(FieldError.required(path))
    elif len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) > _MAX_TEXT:
        out.append(FieldError.too_long(path, "", _MAX_TEXT))
    elif not isinstance(value, dict):
        out.append(FieldError.invalid(path, "<value omitted>", "must be a valid JSON object"))


def _config(config: Obj, path: str, out: Errors) -> None:
    opaque = config.get("opaque")
    if opaque is None:
        out.append(FieldError.required(f"{path}.opaque"))
        return
    driver_name(opaque.get("driver"), f"{path}.opaque.driver", out)
    _object(opaque.get("parameters"), f"{path}.opaque.parameters", out)


def claim_spec(spec: Obj, path: str, out: Errors) -> None:
    """The spec of a claim, or of a template for claims."""
    devices, at = spec.get("devices") or {}, f"{path}.devices"
    known = _known(spec)
    requests = each(devices.get("requests"), _MAX, f"{at}.requests", out, _request)
    unique((one.get("name") for one in requests), f"{at}.requests", out)

    def constraint(item: Obj, where: str, found: Errors) -> None:
        _references(item, known, where, found)
        if item.get("matchAttribute") is not None:
            qualified(item["matchAttribute"], f"{where}.matchAttribute", found, fully=True)
        elif item.get("distinctAttribute") is not None:
            qualified(item["distinctAttribute"], f"{where}.distinctAttribute", found, fully=True)
        else:
            text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
            found.append(FieldError.required(where, text))

    def config(item: Obj, where: str, found: Errors) -> None:
        _references(item, known, where, found)
        _config(item, where, found)

    each(devices.get("constraints"), _MAX, f"{at}.constraints", out, constraint)
    each(devices.get("config"), _MAX, f"{at}.config", out, config)


@on_create(GROUP, "DeviceClass")
def device_class(obj: Obj) -> Errors:
    """A DeviceClass."""
    return _class(obj.get("spec") or {}, {})


@on_update(GROUP, "DeviceClass")
def device_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed DeviceClass; selectors that stay were judged when they came."""
    del subresource
    return _class(new.get("spec") or {}, old.get("spec") or {})


def _class(spec: Obj, old: Obj) -> Errors:
    out: Errors = []
    if plain(spec.get("selectors")) != plain(old.get("selectors")):
        each(spec.get("selectors"), _MAX, "spec.selectors", out, _selector)
    each(spec.get("config"), _MAX, "spec.config", out, _config)
    name = spec.get("extendedResourceName")
    if name is not None and (not resources.is_extended(name) or names.qualified_name(f"requests.{name}")):
        text = "must be a valid extended resource name"
        out.append(FieldError.invalid("spec.extendedResourceName", name, text))
    return out


@on_create(GROUP, "ResourceClaim")
def resource_claim(obj: Obj) -> Errors:
    """A ResourceClaim."""
    out: Errors = []
    claim_spec(obj.get("spec") or {}, "spec", out)
    return out


@on_update(GROUP, "ResourceClaim")
def resource_claim_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ResourceClaim: spec and, once made, its allocation stay."""
    out: Errors = []
    if subresource == "status":
        _status(new, old, out)
    elif plain(new.get("spec")) != plain(old.get("spec")):
        out.append(FieldError.invalid("spec", new.get("spec"), common.IMMUTABLE))
    return out


def _consumer(ref: Obj, path: str, out: Errors) -> None:
    for key in ("resource", "name", "uid"):
        common.required(ref, key, path, out)


def _device_id(device: Obj) -> str:
    parts = [device.get(key) or "" for key in ("driver", "pool", "device")]
    return "/".join((*parts, device["shareID"]) if device.get("shareID") else parts)


def _status(new: Obj, old: Obj, out: Errors) -> None:
    state, before = new.get("status") or {}, old.get("status") or {}
    allocation, at = state.get("allocation"), "status.reservedFor"
    reserved = each(state.get("reservedFor"), _MAX_RESERVED, at, out, _consumer)
    unique((one.get("uid") or "" for one in reserved), at, out)
    allocated = {_device_id(one) for one in ((allocation or {}).get("devices") or {}).get("results") or ()}
    devices = state.get("devices") or []
    for i, device in enumerate(devices):
        _device_status(device, allocated, f"status.devices[{i}]", out)
    unique(map(_device_id, devices), "status.devices", out)
    if reserved and allocation is None:
        out.append(FieldError.forbidden(at, "may not be specified when `allocated` is not set"))
    elif new["metadata"].get("deletionTimestamp") and any(
        one not in (before.get("reservedFor") or []) for one in reserved
    ):
        out.append(FieldError.forbidden(at, _LATE))
    if allocation is not None and before.get("allocation") is not None:
        if plain(allocation) != plain(before["allocation"]):
            out.append(FieldError.invalid("status.allocation", allocation, common.IMMUTABLE))
    elif allocation is not None:
        _allocation(allocation, _known(new.get("spec") or {}), "status.allocation", out)


def _allocation(allocation: Obj, known: set[str], path: str, out: Errors) -> None:
    devices = allocation.get("devices") or {}

    def result(one: Obj, at: str, found: Errors) -> None:
        _reference(known)(one.get("request") or "", f"{at}.request", found)
        driver_name(one.get("driver"), f"{at}.driver", found)
        pool_name(one.get("pool") or "", f"{at}.pool", found)
        label(one.get("device"), f"{at}.device", found)
        binding(one, at, found)
        _tolerations(one, at, found)
        _share(one, at, found)

    def config(one: Obj, at: str, found: Errors) -> None:
        common.choice(one.get("source"), ("FromClaim", "FromClass"), f"{at}.source", found, required=True)
        _references(one, known, at, found)
        _config(one, at, found)

    each(devices.get("results"), _MAX, f"{path}.devices.results", out, result)
    each(devices.get("config"), 2 * _MAX, f"{path}.devices.config", out, config)
    if allocation.get("nodeSelector") is not None:
        scheduling.node_selector(allocation["nodeSelector"], f"{path}.nodeSelector", out)


def _share(device: Obj, path: str, out: Errors) -> None:
    """An UUID in its usual form, when there is one."""
    value = device.get("shareID")
    if value is None:
        return
    wrong = f"length: {len(value)}" if len(value) not in _UUID_LENGTHS else ""
    usual = ""
    if not wrong:
        try:
            usual = str(uuid.UUID(value))
        except ValueError:
            wrong = "format"
    if wrong:
        out.append(FieldError.invalid(f"{path}.shareID", value, f"error validating uid: invalid UUID {wrong}"))
        return
    if usual != value:
        text = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters"  # noqa: E501
        out.append(FieldError.invalid(f"{path}.shareID", value, text))


def binding(device: Obj, path: str, out: Errors) -> None:
    """Conditions of binding and of its failure: both or none, and none that is both."""
    wait, fail = "bindingConditions", "bindingFailureConditions"
    for key in (wait, fail):
        each(device.get(key), 4, f"{path}.{key}", out, label_name)
    awaited, failing = device.get(wait) or [], device.get(fail) or []
    unique(awaited, f"{path}.{wait}", out)
    before, wanted = common.there_before(failing), set(awaited)
    for i, condition in enumerate(failing):
        if before[i]:
            out.append(FieldError.duplicate(f"{path}.{fail}[{i}]", condition))
        if condition in wanted:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            out.append(FieldError.invalid(f"{path}.{fail}[{i}]", condition, text))
    if failing and not awaited:
        text = "bindingConditions are required to use bindingFailureConditions"
        out.append(FieldError.invalid(f"{path}.{wait}", None, text))
    if awaited and not failing:
        text = "bindingFailureConditions are required to use bindingConditions"
        out.append(FieldError.invalid(f"{path}.{fail}", None, text))


def _device_status(device: Obj, allocated: set[str], path: str, out: Errors) -> None:
    driver_name(device.get("driver"), f"{path}.driver", out)
    pool_name(device.get("pool") or "", f"{path}.pool", out)
    label(device.get("device"), f"{path}.device", out)
    _share(device, path, out)
    if _device_id(device) not in allocated:
        out.append(FieldError.invalid(path, _device_id(device), "must be an allocated device in the claim"))
    conditions = device.get("conditions") or []
    if len(conditions) > _MAX_STATUS_CONDITIONS:
        out.append(FieldError.too_many(f"{path}.conditions", len(conditions), _MAX_STATUS_CONDITIONS))
    common.conditions(conditions, f"{path}.conditions", out)
    if device.get("data") is not None:
        _object(device["data"], f"{path}.data", out)
    network, at = device.get("networkData") or {}, f"{path}.networkData"
    for key, limit in (("interfaceName", _MAX_INTERFACE), ("hardwareAddress", _MAX_HARDWARE)):
        if len((network.get(key) or "").encode()) > limit:
            out.append(FieldError.too_long(f"{at}.{key}", "", limit))
    unique(each(network.get("ips"), _MAX_ADDRESSES, f"{at}.ips", out, _interface), f"{at}.ips", out)


def _interface(value: str, path: str, out: Errors) -> None:
    """An address with the length of its prefix."""
    address, slash, bits = value.partition("/")
    if not slash or names.ip_address(address) or not bits.isdigit() or int(bits) > (128 if ":" in address else 32):
        text = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
        out.append(FieldError.invalid(path, value, text))


@on_create(GROUP, "ResourceClaimTemplate")
def resource_claim_template(obj: Obj) -> Errors:
    """A ResourceClaimTemplate."""
    out: Errors = []
    spec = obj.get("spec") or {}
    meta = spec.get("metadata") or {}
    common.labels(meta.get("labels"), "spec.metadata.labels", out)
    out += validate_annotations(meta.get("annotations"), "spec.metadata.annotations")
    for key, value in meta.items():
        if value and key not in ("labels", "annotations"):
            out.append(FieldError.forbidden(f"spec.metadata.{key}", "cannot be set"))
    claim_spec(spec.get("spec") or {}, "spec.spec", out)
    return out


@on_update(GROUP, "ResourceClaimTemplate")
def resource_claim_template_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ResourceClaimTemplate; its spec stays."""
    del subresource
    out: Errors = []
    if plain(new.get("spec")) != plain(old.get("spec")):
        out.append(FieldError.invalid("spec", new.get("spec"), common.IMMUTABLE))
    return out
