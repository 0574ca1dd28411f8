"""Storage classes, attachments and CSI objects."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods.volume_sources import driver_name
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_GROUP = "storage.k8s.io"
_MAX_PARAMETERS = 512
_MAX_PARAMETER_BYTES = 256 * 1024


def _parameters(values: Obj | None, path: str, out: Errors, *, allow_empty: bool = True) -> None:
    if not values:
        if not allow_empty:
            out.append(FieldError.required(path, "must contain at least one key/value pair"))
        return
    if len(values) > _MAX_PARAMETERS:
        out.append(FieldError.too_long(path, "Provisioner Parameters exceeded max allowed", _MAX_PARAMETERS))
        return
    if "" in values:
        out.append(FieldError.invalid(path, "", "field can not be empty."))
    size = sum(len(key.encode()) + len((value or "").encode()) for key, value in values.items())
    if size > _MAX_PARAMETER_BYTES:
        out.append(FieldError.too_long(path, "", _MAX_PARAMETER_BYTES))


@on_create(_GROUP, "StorageClass")
def storage_class(obj: Obj) -> Errors:
    """A StorageClass."""
    out: Errors = []
    provisioner = obj.get("provisioner") or ""
    if not provisioner:
        out.append(FieldError.required("provisioner"))
    else:
        common.messages(names.qualified_name(provisioner.lower()), provisioner, "provisioner", out)
    _parameters(obj.get("parameters"), "parameters", out)
    common.choice(obj.get("reclaimPolicy"), ("Delete", "Retain"), "reclaimPolicy", out)
    modes = ("Immediate", "WaitForFirstConsumer")
    common.choice(obj.get("volumeBindingMode"), modes, "volumeBindingMode", out, required=True)
    for i, term in enumerate(obj.get("allowedTopologies") or ()):
        seen = set()
        for j, rule in enumerate(term.get("matchLabelExpressions") or ()):
            at = f"allowedTopologies[{i}].matchLabelExpressions[{j}]"
            key = rule.get("key") or ""
            common.messages(names.qualified_name(key), key, f"{at}.key", out)
            if not rule.get("values"):
                out.append(FieldError.required(f"{at}.values"))
            if key in seen:
                out.append(FieldError.duplicate(f"{at}.key", key))
            seen.add(key)
    return out


@on_update(_GROUP, "StorageClass")
def storage_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed StorageClass: only expansion, mount options and topologies may change."""
    out = storage_class(new)
    if (new.get("parameters") or {}) != (old.get("parameters") or {}):
        out.append(FieldError.forbidden("parameters", "updates to parameters are forbidden."))
    if new.get("provisioner") != old.get("provisioner"):
        out.append(FieldError.forbidden("provisioner", "updates to provisioner are forbidden."))
    if new.get("reclaimPolicy") != old.get("reclaimPolicy"):
        out.append(FieldError.forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."))
    common.immutable(new.get("volumeBindingMode"), old.get("volumeBindingMode"), "volumeBindingMode", out)
    return out


@on_create(_GROUP, "VolumeAttributesClass")
def volume_attributes_class(obj: Obj) -> Errors:
    """A VolumeAttributesClass."""
    out: Errors = []
    driver_name(obj.get("driverName") or "", "driverName", out)
    _parameters(obj.get("parameters"), "parameters", out, allow_empty=False)
    return out


@on_update(_GROUP, "VolumeAttributesClass")
def volume_attributes_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed VolumeAttributesClass: nothing of it may change."""
    out: Errors = []
    if new.get("driverName") != old.get("driverName"):
        out.append(FieldError.forbidden("driverName", "updates to driverName are forbidden."))
    if (new.get("parameters") or {}) != (old.get("parameters") or {}):
        out.append(FieldError.forbidden("parameters", "updates to parameters are forbidden."))
    return out


@on_create(_GROUP, "VolumeAttachment")
def volume_attachment(obj: Obj) -> Errors:
    """A VolumeAttachment."""
    out: Errors = []
    spec = obj.get("spec") or {}
    driver_name(spec.get("attacher") or "", "spec.attacher", out)
    source = spec.get("source") or {}
    given = [key for key in ("inlineVolumeSpec", "persistentVolumeName") if source.get(key) is not None]
    if not given:
        text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        out.append(FieldError.required("spec.source", text))
    elif len(given) == 2:
        text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        out.append(FieldError.forbidden("spec.source", text))
    elif given == ["persistentVolumeName"]:
        name = source["persistentVolumeName"]
        if not name:
            text = "must specify non empty persistentVolumeName"
            out.append(FieldError.required("spec.source.persistentVolumeName", text))
        common.subdomain(name, "spec.source.persistentVolumeName", out)
    node = spec.get("nodeName") or ""
    common.messages(names.dns1123_subdomain(node), node, "spec.nodeName", out)
    return out


@on_update(_GROUP, "VolumeAttachment")
def volume_attachment_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed VolumeAttachment; its spec stays."""
    out: Errors = []
    if new.get("spec") != old.get("spec"):
        out.append(FieldError.invalid("spec", new.get("spec"), common.IMMUTABLE))
    return out


@on_create(_GROUP, "CSINode")
def csi_node(obj: Obj) -> Errors:
    """A CSINode: each driver once, with its own name for the node."""
    out: Errors = []
    seen = set()
    for i, driver in enumerate((obj.get("spec") or {}).get("drivers") or ()):
        at = f"spec.drivers[{i}]"
        name, node = driver.get("name") or "", driver.get("nodeID") or ""
        driver_name(name, f"{at}.name", out)
        if not node:
            out.append(FieldError.required(f"{at}.nodeID"))
        elif len(node) > 256:
            out.append(FieldError.invalid(f"{at}.nodeID", node, "must be 256 characters or less"))
        if name in seen:
            out.append(FieldError.duplicate(f"{at}.name", name))
        seen.add(name)
        count = (driver.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            out.append(FieldError.invalid(f"{at}.allocatable.count", count, common.NON_NEGATIVE))
        keys = driver.get("topologyKeys") or []
        for j, key in enumerate(keys):
            common.messages(names.qualified_name(key), key, f"{at}.topologyKeys", out)
            if key in keys[:j]:
                out.append(FieldError.duplicate(f"{at}.topologyKeys", key))
    return out


_FS_GROUP = ("File", "None", "ReadWriteOnceWithFSType")


@on_create(_GROUP, "CSIDriver")
def csi_driver(obj: Obj) -> Errors:
    """A CSIDriver."""
    out: Errors = []
    name = obj["metadata"].get("name") or ""
    if len(name) > 63:
        out.append(FieldError.too_long("metadata.name", name, 63))
    spec = obj.get("spec") or {}
    for key in ("attachRequired", "podInfoOnMount", "storageCapacity", "seLinuxMount"):
        if spec.get(key) is None:
            out.append(FieldError.required(f"spec.{key}"))
    common.choice(spec.get("fsGroupPolicy"), _FS_GROUP, "spec.fsGroupPolicy", out, required=True)
    seen = set()
    for i, request in enumerate(spec.get("tokenRequests") or ()):
        audience = request.get("audience") or ""
        if audience in seen:
            out.append(FieldError.duplicate(f"spec.tokenRequests[{i}].audience", audience))
        seen.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            text = "may not specify a duration less than 10 minutes"
            out.append(FieldError.invalid(f"spec.tokenRequests[{i}].expirationSeconds", seconds, text))
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in ("Persistent", "Ephemeral"):
            path = "spec.volumeLifecycleModes"
            out.append(FieldError.not_supported(path, mode, ("Ephemeral", "Persistent")))
    return out


@on_update(_GROUP, "CSIDriver")
def csi_driver_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed CSIDriver."""
    out = csi_driver(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    for key in ("attachRequired", "volumeLifecycleModes"):
        common.immutable(wanted.get(key), before.get(key), f"spec.{key}", out)
    return out


@on_create(_GROUP, "CSIStorageCapacity")
def csi_storage_capacity(obj: Obj) -> Errors:
    """A CSIStorageCapacity."""
    out: Errors = []
    common.label_selector(obj.get("nodeTopology"), "nodeTopology", out)
    name = obj.get("storageClassName") or ""
    common.messages(names.dns1123_subdomain(name), name, "storageClassName", out)
    for key in ("capacity", "maximumVolumeSize"):
        if obj.get(key) is not None:
            common.non_negative_quantity(obj[key], key, out)
    return out


@on_update(_GROUP, "CSIStorageCapacity")
def csi_storage_capacity_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed CSIStorageCapacity: what it is about stays."""
    out = csi_storage_capacity(new)
    for key in ("nodeTopology", "storageClassName"):
        common.immutable(new.get(key), old.get(key), key, out)
    return out
