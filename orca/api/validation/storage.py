"""Storage classes, attachments and CSI objects.

Reference: k8s.io/kubernetes ``pkg/apis/storage/validation``.
"""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common, volumes
from orca.api.validation.comparison import plain
from orca.api.validation.pods.volume_sources import driver_name
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_GROUP = "storage.k8s.io"
_MAX_PARAMETERS = 512
_MAX_PARAMETER_BYTES = 256 * 1024
_MAX_ERROR_BYTES = 1024
_MAX_NODE_ID = 256
_RECLAIM = ("Delete", "Retain")
_BINDING = ("Immediate", "WaitForFirstConsumer")


def _size(values: Obj) -> int:
    return sum(len(key.encode()) + len((value or "").encode()) for key, value in values.items())


def _parameters(values: Obj | None, path: str, out: Errors) -> None:
    values = values or {}
    if len(values) > _MAX_PARAMETERS:
        out.append(FieldError.too_long(path, "", _MAX_PARAMETERS))
        return
    if "" in values:
        out.append(FieldError.invalid(path, "", "field can not be empty."))
    if _size(values) > _MAX_PARAMETER_BYTES:
        out.append(FieldError.too_long(path, "", _MAX_PARAMETER_BYTES))


def _provisioner(name: str, path: str, out: Errors) -> None:
    if not name:
        out.append(FieldError.required(path))
        return
    common.messages(names.qualified_name(name.lower()), name.lower(), path, out)


def _topology(term: Obj, path: str, out: Errors) -> dict[str, set[str]]:
    """One term of ``allowedTopologies`` as sets of values by label."""
    found: dict[str, set[str]] = {}
    for j, rule in enumerate(term.get("matchLabelExpressions") or ()):
        at = f"{path}.matchLabelExpressions[{j}]"
        key, values = rule.get("key") or "", rule.get("values") or []
        if not values:
            out.append(FieldError.required(f"{at}.values"))
        for k, again in enumerate(common.there_before(values)):
            if again:
                out.append(FieldError.duplicate(f"{at}.values[{k}]", values[k]))
        common.messages(names.qualified_name(key), key, f"{at}.key", out)
        if key in found:
            out.append(FieldError.duplicate(f"{at}.key", key))
        found[key] = set(values)
    return found


@on_create(_GROUP, "StorageClass")
def storage_class(obj: Obj) -> Errors:
    """A StorageClass."""
    out: Errors = []
    _provisioner(obj.get("provisioner") or "", "provisioner", out)
    _parameters(obj.get("parameters"), "parameters", out)
    common.choice(obj.get("reclaimPolicy"), _RECLAIM, "reclaimPolicy", out)
    if obj.get("volumeBindingMode") is None:
        out.append(FieldError.required("volumeBindingMode"))
    common.known(obj.get("volumeBindingMode"), _BINDING, "volumeBindingMode", out)
    terms = obj.get("allowedTopologies") or []
    seen: list[dict[str, set[str]]] = []
    for i, term in enumerate(terms):
        found = _topology(term, f"allowedTopologies[{i}]", out)
        # A term without expressions says nothing, which is as much a repetition.
        if not found or found in seen:
            out.append(FieldError.duplicate(f"allowedTopologies[{i}].matchLabelExpressions", ""))
        seen.append(found)
    return out


@on_update(_GROUP, "StorageClass")
def storage_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed StorageClass: only expansion, mount options and topologies may change."""
    del subresource
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
    _provisioner(obj.get("driverName") or "", "driverName", out)
    _parameters(obj.get("parameters"), "parameters", out)
    if not obj.get("parameters"):
        out.append(FieldError.required("parameters", "must contain at least one key/value pair"))
    return out


@on_update(_GROUP, "VolumeAttributesClass")
def volume_attributes_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed VolumeAttributesClass: nothing of it may change."""
    del subresource
    out: Errors = []
    if new.get("driverName") != old.get("driverName"):
        out.append(FieldError.forbidden("driverName", "updates to driverName are forbidden."))
    if (new.get("parameters") or {}) != (old.get("parameters") or {}):
        out.append(FieldError.forbidden("parameters", "updates to parameters are forbidden."))
    return out + volume_attributes_class(new)


def _attachment(obj: Obj) -> Errors:
    out: Errors = []
    spec = obj.get("spec") or {}
    if not spec.get("attacher"):
        out.append(FieldError.required("spec.attacher"))
    source = spec.get("source") or {}
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and name is None:
        out.append(FieldError.required("spec.source", text))
    elif inline is not None and name is not None:
        out.append(FieldError.forbidden("spec.source", text))
    elif inline is not None:
        volumes.inline_spec(inline, "spec.source.inlineVolumeSpec", out)
    elif not name:
        text = "must specify non empty persistentVolumeName"
        out.append(FieldError.required("spec.source.persistentVolumeName", text))
    node = spec.get("nodeName") or ""
    common.messages(names.dns1123_subdomain(node), node, "spec.nodeName", out)
    state = obj.get("status") or {}
    if _size(state.get("attachmentMetadata") or {}) > _MAX_PARAMETER_BYTES:
        out.append(FieldError.too_long("status.attachmentMetadata", "", _MAX_PARAMETER_BYTES))
    for key in ("attachError", "detachError"):
        _volume_error(state.get(key) or {}, f"status.{key}", out)
    return out


def _volume_error(error: Obj, path: str, out: Errors) -> None:
    if len((error.get("message") or "").encode()) > _MAX_ERROR_BYTES:
        # Upstream tells the limit of the metadata here.
        out.append(FieldError.too_long(f"{path}.message", "", _MAX_PARAMETER_BYTES))
    code = error.get("errorCode")
    if code is not None and code < 0:
        out.append(FieldError.invalid(f"{path}.errorCode", code, names.in_range(0, 2**31 - 1)))


@on_create(_GROUP, "VolumeAttachment")
def volume_attachment(obj: Obj) -> Errors:
    """A VolumeAttachment."""
    out = _attachment(obj)
    spec = obj.get("spec") or {}
    if spec.get("attacher"):
        driver_name(spec["attacher"], "spec.attacher", out)
    name = (spec.get("source") or {}).get("persistentVolumeName")
    if name is not None:
        common.messages(names.dns1123_subdomain(name), name, "spec.source.persistentVolumeName", out)
    return out


@on_update(_GROUP, "VolumeAttachment")
def volume_attachment_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed VolumeAttachment; its spec stays."""
    del subresource
    out = _attachment(new)
    if plain(new.get("spec")) != plain(old.get("spec")):
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
        elif len(node.encode()) > _MAX_NODE_ID:
            out.append(FieldError.invalid(f"{at}.nodeID", node, f"must be {_MAX_NODE_ID} characters or less"))
        common.non_negative(driver.get("allocatable") or {}, "count", f"{at}.allocatable", out)
        if name in seen:
            out.append(FieldError.duplicate(f"{at}.name", name))
        seen.add(name)
        keys = driver.get("topologyKeys") or []
        again = common.there_before(keys)
        for j, key in enumerate(keys):
            if not key:
                out.append(FieldError.required(at))
            if again[j]:
                out.append(FieldError.duplicate(at, key))
            common.messages(names.qualified_name(key), key, at, out)
    return out


@on_update(_GROUP, "CSINode")
def csi_node_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed CSINode: of a driver that stays only the limits change."""
    del subresource
    out = csi_node(new)
    had = {one.get("name"): one for one in (old.get("spec") or {}).get("drivers") or ()}
    for driver in (new.get("spec") or {}).get("drivers") or ():
        before = had.get(driver.get("name"))
        if before is not None:
            now, was = ({k: v for k, v in one.items() if k != "allocatable"} for one in (driver, before))
            if plain(now) != plain(was):
                out.append(FieldError.invalid("spec.drivers", now, common.IMMUTABLE))
    return out


_FS_GROUP = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLES = ("Persistent", "Ephemeral")
# As upstream tells of it.
_ATTACH = "spec.attachedRequired"


def _tokens(requests: list[Obj], path: str, out: Errors) -> None:
    seen = set()
    for i, request in enumerate(requests):
        audience = request.get("audience") or ""
        if audience in seen:
            out.append(FieldError.duplicate(f"{path}[{i}].audience", audience))
            continue
        seen.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            text = "may not specify a duration less than 10 minutes"
            out.append(FieldError.invalid(f"{path}[{i}].expirationSeconds", seconds, text))
        if seconds is not None and seconds > 1 << 32:
            text = "may not specify a duration larger than 2^32 seconds"
            out.append(FieldError.invalid(f"{path}[{i}].expirationSeconds", seconds, text))


@on_create(_GROUP, "CSIDriver")
def csi_driver(obj: Obj) -> Errors:
    """A CSIDriver."""
    out: Errors = []
    spec = obj.get("spec") or {}
    for key, at in (("attachRequired", _ATTACH), *((k, f"spec.{k}") for k in ("podInfoOnMount", "storageCapacity"))):
        if spec.get(key) is None:
            out.append(FieldError.required(at))
    common.known(spec.get("fsGroupPolicy"), _FS_GROUP, "spec.fsGroupPolicy", out)
    requests = spec.get("tokenRequests") or []
    _tokens(requests, "spec.tokenRequests", out)
    for mode in spec.get("volumeLifecycleModes") or ():
        common.known(mode, _LIFECYCLES, "spec.volumeLifecycleModes", out)
    if spec.get("seLinuxMount") is None:
        out.append(FieldError.required("spec.seLinuxMount"))
    period, in_secrets = spec.get("nodeAllocatableUpdatePeriodSeconds"), spec.get("serviceAccountTokenInSecrets")
    if period is not None and period < 10:
        text = "must be greater than or equal to 10 seconds"
        out.append(FieldError.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, text))
    if in_secrets is not None and not requests:
        text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        out.append(FieldError.invalid("spec.serviceAccountTokenInSecrets", in_secrets, text))
    return out


@on_update(_GROUP, "CSIDriver")
def csi_driver_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed CSIDriver."""
    del subresource
    out = csi_driver(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    common.immutable(wanted.get("attachRequired"), before.get("attachRequired"), _ATTACH, out)
    key = "volumeLifecycleModes"
    common.immutable(wanted.get(key), before.get(key), f"spec.{key}", out)
    return out


@on_create(_GROUP, "CSIStorageCapacity")
def csi_storage_capacity(obj: Obj) -> Errors:
    """A CSIStorageCapacity."""
    out: Errors = []
    common.label_selector(obj.get("nodeTopology"), "nodeTopology", out)
    name = obj.get("storageClassName") or ""
    common.messages(names.dns1123_subdomain(name), name, "storageClassName", out)
    if obj.get("capacity") is not None:
        common.non_negative_quantity(obj["capacity"], "capacity", out)
    return out


@on_update(_GROUP, "CSIStorageCapacity")
def csi_storage_capacity_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed CSIStorageCapacity: what it is about stays."""
    del subresource
    out = csi_storage_capacity(new)
    if plain(new.get("nodeTopology")) != plain(old.get("nodeTopology")):
        out.append(FieldError.invalid("nodeTopology", new.get("nodeTopology"), common.IMMUTABLE))
    common.immutable(new.get("storageClassName"), old.get("storageClassName"), "storageClassName", out)
    return out
