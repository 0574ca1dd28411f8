"""PersistentVolumes and PersistentVolumeClaims."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import scheduling
from orca.api.validation.registry import Errors, Obj, on_create, on_update

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_RECLAIM = ("Delete", "Recycle", "Retain")
_VOLUME_MODES = ("Block", "Filesystem")
_NOT_SOURCES = ("accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
                "storageClassName", "volumeAttributesClassName", "volumeMode")  # fmt: skip
_REQUIRED = {
    "hostPath": ("path",), "local": ("path",), "nfs": ("server", "path"), "csi": ("driver", "volumeHandle"),
    "iscsi": ("targetPortal", "iqn"), "rbd": ("monitors", "image"), "cephfs": ("monitors",),
    "awsElasticBlockStore": ("volumeID",), "gcePersistentDisk": ("pdName",), "glusterfs": ("endpoints", "path"),
    "azureFile": ("secretName", "shareName"), "flexVolume": ("driver",),
}  # fmt: skip


def access_modes(modes: list[str] | None, path: str, out: Errors) -> None:
    """At least one, all known, the exclusive one alone."""
    if not modes:
        out.append(FieldError.required(path, "at least 1 access mode is required"))
        return
    for mode in modes:
        if mode not in ACCESS_MODES:
            out.append(FieldError.not_supported(path, mode, ACCESS_MODES))
    if "ReadWriteOncePod" in modes and set(modes) != {"ReadWriteOncePod"}:
        text = "may not use ReadWriteOncePod with other access modes"
        out.append(FieldError.forbidden(path, text))


def _source(spec: Obj, out: Errors) -> None:
    kinds = [key for key, value in spec.items() if key not in _NOT_SOURCES and value is not None]
    for kind in kinds[1:]:
        out.append(FieldError.forbidden(f"spec.{kind}", "may not specify more than 1 volume type"))
    if not kinds:
        out.append(FieldError.required("spec", "must specify a volume type"))
        return
    kind = kinds[0]
    for key in _REQUIRED.get(kind, ()):
        common.required(spec[kind], key, f"spec.{kind}", out)
    path = spec[kind].get("path") or ""
    if kind in ("hostPath", "local") and ".." in path.split("/"):
        out.append(FieldError.invalid(f"spec.{kind}.path", path, "must not contain '..'"))
    if kind == "local" and spec.get("nodeAffinity") is None:
        text = "Local volume requires node affinity"
        out.append(FieldError.required("metadata.annotations", text))


@on_create("", "PersistentVolume")
def persistent_volume(obj: Obj) -> Errors:
    """A PersistentVolume."""
    out: Errors = []
    spec = obj.get("spec") or {}
    access_modes(spec.get("accessModes"), "spec.accessModes", out)
    capacity = spec.get("capacity") or {}
    if not capacity:
        out.append(FieldError.required("spec.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        out.append(FieldError.not_supported("spec.capacity", capacity, ("storage",)))
    for key, value in capacity.items():
        found = common.quantity(value, f"spec.capacity[{key}]", out)
        if found is not None and found.value <= 0:
            out.append(FieldError.invalid(f"spec.capacity[{key}]", value, "must be greater than zero"))
    at = "spec.persistentVolumeReclaimPolicy"
    common.choice(spec.get("persistentVolumeReclaimPolicy"), _RECLAIM, at, out)
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            text = "must specify required node constraints"
            out.append(FieldError.required("spec.nodeAffinity.required", text))
        else:
            scheduling.node_selector(affinity["required"], "spec.nodeAffinity.required", out)
    _source(spec, out)
    if (spec.get("hostPath") or {}).get("path") == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        text = "may not be 'recycle' for a hostPath mount of '/'"
        out.append(FieldError.forbidden(at, text))
    common.subdomain(spec.get("storageClassName"), "spec.storageClassName", out)
    common.choice(spec.get("volumeMode"), _VOLUME_MODES, "spec.volumeMode", out)
    return out


@on_update("", "PersistentVolume")
def persistent_volume_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed PersistentVolume: where its data is stays."""
    if subresource == "status":
        return []
    out = persistent_volume(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    source = {k: v for k, v in wanted.items() if k not in _NOT_SOURCES}
    had = {k: v for k, v in before.items() if k not in _NOT_SOURCES}
    if source != had:
        text = "spec.persistentvolumesource is immutable after creation"
        out.append(FieldError.forbidden("spec.persistentvolumesource", text))
    common.immutable(wanted.get("volumeMode"), before.get("volumeMode"), "spec.volumeMode", out)
    if before.get("nodeAffinity") is not None:
        common.immutable(wanted.get("nodeAffinity"), before.get("nodeAffinity"), "spec.nodeAffinity", out)
    return out


def _data_source(spec: Obj, path: str, out: Errors) -> None:
    for key in ("dataSource", "dataSourceRef"):
        source = spec.get(key)
        if source is None:
            continue
        at = f"{path}.{key}"
        common.required(source, "name", at, out)
        common.required(source, "kind", at, out)
        if not source.get("apiGroup") and source.get("kind") != "PersistentVolumeClaim":
            text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
            out.append(FieldError.invalid(at, source.get("kind"), text))


def claim_spec(spec: Obj, path: str, out: Errors) -> None:
    """The spec of a claim, or of a template for claims."""
    access_modes(spec.get("accessModes"), f"{path}.accessModes", out)
    common.label_selector(spec.get("selector"), f"{path}.selector", out)
    requests = (spec.get("resources") or {}).get("requests") or {}
    if "storage" not in requests:
        out.append(FieldError.required(f"{path}.resources[storage]"))
    else:
        at = f"{path}.resources[storage]"
        found = common.quantity(requests["storage"], at, out)
        if found is not None and found.value <= 0:
            out.append(FieldError.invalid(at, requests["storage"], "must be greater than zero"))
    common.subdomain(spec.get("storageClassName"), f"{path}.storageClassName", out)
    common.choice(spec.get("volumeMode"), _VOLUME_MODES, f"{path}.volumeMode", out)
    _data_source(spec, path, out)
    common.subdomain(spec.get("volumeAttributesClassName"), f"{path}.volumeAttributesClassName", out)


@on_create("", "PersistentVolumeClaim")
def claim(obj: Obj) -> Errors:
    """A PersistentVolumeClaim."""
    out: Errors = []
    claim_spec(obj.get("spec") or {}, "spec", out)
    return out


@on_update("", "PersistentVolumeClaim")
def claim_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed claim: it may be bound, and once bound its request may grow."""
    if subresource == "status":
        return []
    out = claim(new)
    wanted, before = dict(new.get("spec") or {}), dict(old.get("spec") or {})
    bound = (new.get("status") or {}).get("phase") == "Bound"
    if not before.get("volumeName"):
        before["volumeName"] = wanted.get("volumeName")
    left = ((wanted.get("resources") or {}).get("requests") or {}).get("storage")
    right = ((before.get("resources") or {}).get("requests") or {}).get("storage")
    wanted.pop("volumeAttributesClassName", None)
    before.pop("volumeAttributesClassName", None)
    if left != right and left is not None and right is not None:
        try:
            smaller = common.parse_quantity(str(left)).value < common.parse_quantity(str(right)).value
        except ValueError:
            return out
        if bound:
            wanted["resources"] = before.get("resources")
        if smaller:
            text = "field can not be less than status.capacity"
            out.append(FieldError.forbidden("spec.resources.requests.storage", text))
            return out
    if {k: v for k, v in wanted.items() if v is not None} != {k: v for k, v in before.items() if v is not None}:
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        out.append(FieldError.forbidden("spec", text))
    return out


def class_name(value: str, path: str, out: Errors) -> None:
    """The name of a CSI driver: a subdomain, upper case allowed, of at most 63 bytes."""
    if not value:
        out.append(FieldError.required(path))
        return
    if len(value) > 63:
        out.append(FieldError.too_long(path, value, 63))
    common.messages(names.dns1123_subdomain(value.lower()), value, path, out)
