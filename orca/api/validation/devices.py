"""Dynamic resource allocation: device classes, claims, templates and slices."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import scheduling
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_GROUP = "resource.k8s.io"
_MAX_REQUESTS = 32
_MAX_DEVICES = 128


def _selectors(items: list[Obj], path: str, out: Errors) -> None:
    if len(items) > _MAX_REQUESTS:
        out.append(FieldError.too_many(path, len(items), _MAX_REQUESTS))
    for i, selector in enumerate(items):
        cel = selector.get("cel")
        if cel is None:
            out.append(FieldError.required(f"{path}[{i}].cel"))
        elif not cel.get("expression"):
            out.append(FieldError.required(f"{path}[{i}].cel.expression"))


def _exact(request: Obj, path: str, out: Errors) -> None:
    name = request.get("deviceClassName") or ""
    if not name:
        out.append(FieldError.required(f"{path}.deviceClassName"))
    else:
        common.messages(names.dns1123_subdomain(name), name, f"{path}.deviceClassName", out)
    _selectors(request.get("selectors") or [], f"{path}.selectors", out)
    mode, count = request.get("allocationMode"), request.get("count") or 0
    if mode == "ExactCount":
        if count <= 0:
            out.append(FieldError.invalid(f"{path}.count", count, "must be greater than zero"))
    elif mode == "All":
        if count:
            text = "must not be specified when allocationMode is 'All'"
            out.append(FieldError.invalid(f"{path}.count", count, text))
    else:
        out.append(FieldError.not_supported(f"{path}.allocationMode", mode or "", ("All", "ExactCount")))
    scheduling.tolerations(request.get("tolerations") or [], f"{path}.tolerations", out)


def claim_spec(spec: Obj, path: str, out: Errors) -> None:
    """The spec of a claim, or of a template for claims."""
    devices = spec.get("devices") or {}
    requests = devices.get("requests") or []
    if len(requests) > _MAX_REQUESTS:
        out.append(FieldError.too_many(f"{path}.devices.requests", len(requests), _MAX_REQUESTS))
    known = set()
    for i, request in enumerate(requests):
        at = f"{path}.devices.requests[{i}]"
        name = request.get("name") or ""
        if not name:
            out.append(FieldError.required(f"{at}.name"))
        else:
            common.messages(names.dns1123_label(name), name, f"{at}.name", out)
        if name in known:
            out.append(FieldError.duplicate(f"{at}.name", name))
        known.add(name)
        exactly, first = request.get("exactly"), request.get("firstAvailable") or []
        if (exactly is None) == (not first):
            text = "exactly one of `exactly` or `firstAvailable` is required"
            out.append(FieldError.required(at, text) if not first else FieldError.invalid(at, None, text))
            continue
        if exactly is not None:
            _exact(exactly, f"{at}.exactly", out)
        for j, one in enumerate(first):
            known.add(f"{name}/{one.get('name')}")
            _exact(one, f"{at}.firstAvailable[{j}]", out)
    for key in ("constraints", "config"):
        for i, item in enumerate(devices.get(key) or ()):
            for j, name in enumerate(item.get("requests") or ()):
                if name not in known:
                    text = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"  # noqa: E501
                    out.append(FieldError.invalid(f"{path}.devices.{key}[{i}].requests[{j}]", name, text))


@on_create(_GROUP, "DeviceClass")
def device_class(obj: Obj) -> Errors:
    """A DeviceClass."""
    out: Errors = []
    _selectors((obj.get("spec") or {}).get("selectors") or [], "spec.selectors", out)
    return out


@on_create(_GROUP, "ResourceClaim")
def resource_claim(obj: Obj) -> Errors:
    """A ResourceClaim."""
    out: Errors = []
    claim_spec(obj.get("spec") or {}, "spec", out)
    return out


@on_update(_GROUP, "ResourceClaim")
def resource_claim_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ResourceClaim: spec and, once made, its allocation stay."""
    out: Errors = []
    if subresource == "status":
        wanted, before = new.get("status") or {}, old.get("status") or {}
        if before.get("allocation") and wanted.get("allocation"):
            common.immutable(wanted["allocation"], before["allocation"], "status.allocation", out)
        if len(wanted.get("reservedFor") or ()) > 256:
            out.append(FieldError.too_many("status.reservedFor", len(wanted["reservedFor"]), 256))
        return out
    common.immutable(new.get("spec"), old.get("spec"), "spec", out)
    return out


@on_create(_GROUP, "ResourceClaimTemplate")
def resource_claim_template(obj: Obj) -> Errors:
    """A ResourceClaimTemplate."""
    out: Errors = []
    claim_spec((obj.get("spec") or {}).get("spec") or {}, "spec.spec", out)
    return out


@on_update(_GROUP, "ResourceClaimTemplate")
def resource_claim_template_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ResourceClaimTemplate; its spec stays."""
    out: Errors = []
    common.immutable(new.get("spec"), old.get("spec"), "spec", out)
    return out


@on_create(_GROUP, "ResourceSlice")
def resource_slice(obj: Obj) -> Errors:
    """A ResourceSlice."""
    out: Errors = []
    spec = obj.get("spec") or {}
    places = [key for key in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection") if spec.get(key)]
    if len(places) != 1:
        text = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
        if places:
            out.append(FieldError.invalid("spec", f"{{{', '.join(places)}}}", text))
        else:
            out.append(FieldError.required("spec", text))
    driver = spec.get("driver") or ""
    if not driver:
        out.append(FieldError.required("spec.driver"))
    else:
        common.messages(names.dns1123_subdomain(driver), driver, "spec.driver", out)
    pool = spec.get("pool") or {}
    common.required(pool, "name", "spec.pool", out)
    if (pool.get("resourceSliceCount") or 0) <= 0:
        text = "must be greater than zero"
        out.append(FieldError.invalid("spec.pool.resourceSliceCount", pool.get("resourceSliceCount") or 0, text))
    common.non_negative(pool, "generation", "spec.pool", out)
    devices = spec.get("devices") or []
    if len(devices) > _MAX_DEVICES:
        out.append(FieldError.too_many("spec.devices", len(devices), _MAX_DEVICES))
    seen = set()
    for i, device in enumerate(devices):
        name = device.get("name") or ""
        if not name:
            out.append(FieldError.required(f"spec.devices[{i}].name"))
        else:
            common.messages(names.dns1123_label(name), name, f"spec.devices[{i}].name", out)
        if name in seen:
            out.append(FieldError.duplicate(f"spec.devices[{i}].name", name))
        seen.add(name)
    return out


@on_update(_GROUP, "ResourceSlice")
def resource_slice_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ResourceSlice: whose it is stays."""
    out = resource_slice(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    for key in ("driver", "nodeName"):
        common.immutable(wanted.get(key), before.get(key), f"spec.{key}", out)
    left, right = (wanted.get("pool") or {}).get("name"), (before.get("pool") or {}).get("name")
    common.immutable(left, right, "spec.pool.name", out)
    return out
