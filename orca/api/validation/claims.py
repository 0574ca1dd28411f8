"""PersistentVolumeClaims, and templates they are made from.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` ValidatePersistentVolumeClaim*.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.comparison import differences, plain
from orca.api.validation.registry import Errors, Obj, on_create, on_update

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_RESIZE_STATES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)
_ALLOWED = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


def access_modes(modes: list[str] | None, path: str, out: Errors, *, detail: str = "") -> None:
    """At least one, all known, the exclusive one alone; *detail* tells more when there is none."""
    if not modes:
        out.append(FieldError.required(path, detail))
        return
    for mode in modes:
        if mode not in ACCESS_MODES:
            out.append(FieldError.not_supported(path, mode, ACCESS_MODES))
    if "ReadWriteOncePod" in modes and any(mode in ACCESS_MODES and mode != "ReadWriteOncePod" for mode in modes):
        out.append(FieldError.forbidden(path, "may not use ReadWriteOncePod with other access modes"))


def _data_source(source: Obj, path: str, out: Errors, *, groups_checked: bool) -> None:
    common.required(source, "name", path, out)
    common.required(source, "kind", path, out)
    group = source.get("apiGroup")
    if not group and source.get("kind") != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        out.append(FieldError.invalid(path, source.get("kind") or "", text))
    if group and groups_checked:
        common.messages(names.dns1123_subdomain(group), group, f"{path}.apiGroup", out)
    space = source.get("namespace")
    if space:
        common.messages(names.dns1123_label(space), space, f"{path}.namespace", out)


def _data_sources(spec: Obj, path: str, out: Errors, *, groups_checked: bool) -> None:
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None:
        _data_source(source, f"{path}.dataSource", out, groups_checked=groups_checked)
    if ref is not None:
        _data_source(ref, f"{path}.dataSourceRef", out, groups_checked=groups_checked)
    if ref is not None and ref.get("namespace"):
        if source is not None:
            text = "may not be specified when dataSourceRef.namespace is specified"
            out.append(FieldError.invalid(path, f"{path}.dataSource", text))
    elif source is not None and ref is not None:
        same = all((source.get(key) or "") == (ref.get(key) or "") for key in ("apiGroup", "kind", "name"))
        if not same:
            out.append(FieldError.invalid(path, f"{path}.dataSource", "must match dataSourceRef"))


def claim_spec(spec: Obj, path: str, out: Errors, *, groups_checked: bool = True) -> None:
    """The spec of a claim, or of a template for claims; groups of sources stay as they were stored once."""
    access_modes(spec.get("accessModes"), f"{path}.accessModes", out, detail="at least 1 access mode is required")
    common.label_selector(spec.get("selector"), f"{path}.selector", out)
    requests = (spec.get("resources") or {}).get("requests") or {}
    at = f"{path}.resources[storage]"
    if "storage" not in requests:
        out.append(FieldError.required(at))
    else:
        found = common.quantity(requests["storage"], at, out)
        if found is not None and found.value <= 0:
            out.append(FieldError.invalid(at, requests["storage"], "must be greater than zero"))
    common.subdomain(spec.get("storageClassName"), f"{path}.storageClassName", out)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        out.append(FieldError.not_supported(f"{path}.volumeMode", mode, VOLUME_MODES))
    if "dataSource" in spec or "dataSourceRef" in spec:
        _data_sources(spec, path, out, groups_checked=groups_checked)
    common.subdomain(spec.get("volumeAttributesClassName"), f"{path}.volumeAttributesClassName", out)


@on_create("", "PersistentVolumeClaim")
def claim(obj: Obj) -> Errors:
    """A PersistentVolumeClaim."""
    out: Errors = []
    claim_spec(obj.get("spec") or {}, "spec", out)
    return out


def _storage(spec: Obj) -> Any:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage")


def _class(new: Obj, old: Obj, wanted: Obj, before: Obj, out: Errors) -> None:
    """A class may be named once: from nothing, or from the annotation that named it before the field did."""
    now = (new["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
    was = (old["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
    name, had = wanted.get("storageClassName"), before.get("storageClassName")
    if was is not None and had is None and name == was and now in (None, was):
        wanted["storageClassName"] = None
        return
    if (now or "") != (was or ""):
        out.append(FieldError.invalid(f"metadata.annotations.{_CLASS_ANNOTATION}", now or "", common.IMMUTABLE))
    if name is not None and had is None and was in (None, name):
        wanted["storageClassName"] = None


def _size(new: Obj, old: Obj, out: Errors) -> None:
    """A request shrinks only to more than what there is: to take back a growth that failed."""
    try:
        now, was = (common.parse_quantity(str(_storage(one.get("spec") or {}) or 0)).value for one in (new, old))
        there = common.parse_quantity(str(((old.get("status") or {}).get("capacity") or {}).get("storage") or 0)).value
    except ValueError:
        return
    if now < was and now <= there:
        text = "field can not be less than status.capacity"
        out.append(FieldError.forbidden("spec.resources.requests.storage", text))


def _attributes(new: Obj, old: Obj, out: Errors) -> None:
    name = (new.get("spec") or {}).get("volumeAttributesClassName")
    if (old.get("status") or {}).get("currentVolumeAttributesClassName") is None:
        return
    if name == (old.get("spec") or {}).get("volumeAttributesClassName"):
        return
    if not name:
        what = "nil" if name is None else "empty string"
        text = f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
        out.append(FieldError.forbidden("spec.volumeAttributesClassName", text))


@on_update("", "PersistentVolumeClaim")
def claim_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed claim: it may be bound, and once bound its request may grow."""
    if subresource == "status":
        return _status(new)
    out: Errors = []
    had = old.get("spec") or {}
    grouped = any((had.get(key) or {}).get("apiGroup") for key in ("dataSource", "dataSourceRef"))
    claim_spec(new.get("spec") or {}, "spec", out, groups_checked=not grouped)
    wanted, before = copy(new.get("spec") or {}), copy(had)
    if not before.get("volumeName"):
        before["volumeName"] = wanted.get("volumeName")
    _class(new, old, wanted, before, out)
    if (new.get("status") or {}).get("phase") == "Bound":
        resources = wanted.get("resources") or {}
        if resources.get("requests"):
            requests = {**resources["requests"], "storage": _storage(before)}
            wanted["resources"] = {**resources, "requests": requests}
        wanted["volumeAttributesClassName"] = before.get("volumeAttributesClassName")
    left, right = plain(wanted), plain(before)
    if left != right:
        lines = "\n".join(differences(left, right, "spec"))
        out.append(FieldError.forbidden("spec", f"{_ALLOWED}\n{lines}\n"))
    _size(new, old, out)
    common.immutable((new.get("spec") or {}).get("volumeMode"), had.get("volumeMode"), "volumeMode", out)
    _attributes(new, old, out)
    return out


def _key(name: str, path: str, out: Errors) -> bool:
    wrong = names.qualified_name(name)
    common.messages(wrong, name, path, out)
    if not wrong and name != "storage" and ("/" not in name or "kubernetes.io/" in name):
        out.append(FieldError.not_supported(path, name, ("storage",)))
        return False
    return not wrong


def _status(new: Obj) -> Errors:
    out: Errors = []
    status = new.get("status") or {}
    if not (new.get("spec") or {}).get("accessModes"):
        out.append(FieldError.required("Spec.accessModes"))
    for key, value in (status.get("capacity") or {}).items():
        at = f"status.capacity[{key}]"
        found = common.quantity(value, at, out)
        if found is not None and found.value < 0:
            out.append(FieldError.invalid(at, found.integer, "must be a valid resource quantity"))
    at = "status.allocatedResourceStatuses"
    for key, value in (status.get("allocatedResourceStatuses") or {}).items():
        _key(key, at, out)
        if value not in _RESIZE_STATES:
            out.append(FieldError.not_supported(at, key, _RESIZE_STATES))
    for key, value in (status.get("allocatedResources") or {}).items():
        if _key(key, "status.allocatedResources", out):
            common.non_negative_quantity(value, f"status.allocatedResources[{key}]", out)
    return out
