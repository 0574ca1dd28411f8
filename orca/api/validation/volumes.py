"""PersistentVolumes.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` ValidatePersistentVolume*.
"""

from __future__ import annotations

import posixpath

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.claims import VOLUME_MODES, access_modes
from orca.api.validation.comparison import differences, plain
from orca.api.validation.pods import scheduling
from orca.api.validation.pods import volume_sources as sources
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_RECLAIM = ("Delete", "Recycle", "Retain")
_CSI_SECRETS = (
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
)


def _glusterfs(source: Obj, path: str, out: Errors) -> None:
    sources.IN_TREE["glusterfs"](source, path, out)
    space = source.get("endpointsNamespace")
    if space == "":
        text = "if the endpointnamespace is set, it must be a valid namespace name"
        out.append(FieldError.invalid(f"{path}.endpointsNamespace", space, text))
    elif space is not None:
        common.messages(names.dns1123_label(space), space, f"{path}.endpointsNamespace", out)


def _iscsi(source: Obj, path: str, out: Errors) -> None:
    sources.iscsi(source, path, out, wrong_start="must be valid format")
    ref = source.get("secretRef")
    if ref is not None:
        common.required(ref, "name", f"{path}.secretRef", out)


def _azure_file(source: Obj, path: str, out: Errors) -> None:
    sources.IN_TREE["azureFile"](source, path, out)
    if source.get("secretNamespace") == "":
        out.append(FieldError.required(f"{path}.secretNamespace"))


def _csi(source: Obj, path: str, out: Errors) -> None:
    sources.driver_name(source.get("driver"), f"{path}.driver", out)
    common.required(source, "volumeHandle", path, out)
    for key in _CSI_SECRETS:
        ref = source.get(key)
        if ref is None:
            continue
        at = f"{path}.{key}"
        if common.required(ref, "name", at, out):
            common.messages(names.dns1123_subdomain(ref["name"]), ref["name"], f"{at}.name", out)
        if common.required(ref, "namespace", at, out):
            common.messages(names.dns1123_label(ref["namespace"]), ref["namespace"], f"{at}.namespace", out)


_TREE = sources.IN_TREE_PERSISTENT
# In upstream's order: of two kinds in one volume the later one is refused.
_SOURCES: dict[str, sources.Check] = {
    "hostPath": sources.host_path,
    "gcePersistentDisk": _TREE["gcePersistentDisk"],
    "awsElasticBlockStore": _TREE["awsElasticBlockStore"],
    "glusterfs": _glusterfs,
    "flocker": _TREE["flocker"],
    "nfs": sources.nfs,
    **{key: _TREE[key] for key in ("rbd", "quobyte", "cephfs")},
    "iscsi": _iscsi,
    **{key: _TREE[key] for key in ("cinder", "fc", "flexVolume")},
    "azureFile": _azure_file,
    **{key: _TREE[key] for key in ("vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk", "scaleIO")},
    "local": sources.local,
    "storageos": _TREE["storageos"],
    "csi": _csi,
}
_ORDER = {kind: i for i, kind in enumerate(_SOURCES)}


def _source(spec: Obj, name: str, out: Errors, path: str = "spec") -> None:
    kinds = sorted((key for key in spec if key in _ORDER and spec[key] is not None), key=_ORDER.__getitem__)
    if not kinds:
        out.append(FieldError.required(path, "must specify a volume type"))
        return
    first = kinds[0]
    if first == "iscsi" and (text := sources.portal_too_long(spec["iscsi"], name)):
        portal = spec["iscsi"].get("targetPortal") or ""
        out.append(FieldError.invalid(f"{path}.iscsi.targetportal", portal, text))
    _SOURCES[first](spec[first], f"{path}.{sources.ODD_PATHS.get(first, first)}", out)
    if first == "local" and spec.get("nodeAffinity") is None:
        out.append(FieldError.required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
    for kind in kinds[1:]:
        text = "may not specify more than 1 volume type"
        out.append(FieldError.forbidden(f"{path}.{sources.ODD_DOUBLES.get(kind, kind)}", text))


def _capacity(spec: Obj, out: Errors) -> None:
    capacity = spec.get("capacity") or {}
    if not capacity:
        out.append(FieldError.required("spec.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        out.append(FieldError.not_supported("spec.capacity", capacity or None, ("storage",)))
    for key, value in capacity.items():
        at = f"spec.capacity[{key}]"
        found = common.quantity(value, at, out)
        if found is not None and found.value < 0:
            out.append(FieldError.invalid(at, found.integer, "must be a valid resource quantity"))
        if found is not None and found.value <= 0:
            out.append(FieldError.invalid(at, value, "must be greater than zero"))


@on_create("", "PersistentVolume")
def persistent_volume(obj: Obj) -> Errors:
    """A PersistentVolume."""
    out: Errors = []
    spec = obj.get("spec") or {}
    access_modes(spec.get("accessModes"), "spec.accessModes", out)
    _capacity(spec, out)
    at = "spec.persistentVolumeReclaimPolicy"
    policy = spec.get("persistentVolumeReclaimPolicy")
    common.choice(policy, _RECLAIM, at, out)
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            text = "must specify required node constraints"
            out.append(FieldError.required("spec.nodeAffinity.required", text))
        else:
            scheduling.node_selector(affinity["required"], "spec.nodeAffinity.required", out)
    _source(spec, obj["metadata"].get("name") or "", out)
    where = (spec.get("hostPath") or {}).get("path")
    if where and policy == "Recycle" and posixpath.normpath(where) in ("/", "//"):
        out.append(FieldError.forbidden(at, "may not be 'recycle' for a hostPath mount of '/'"))
    common.subdomain(spec.get("storageClassName"), "spec.storageClassName", out)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        out.append(FieldError.not_supported("spec.volumeMode", mode, VOLUME_MODES))
    attributes = spec.get("volumeAttributesClassName")
    if attributes is not None:
        if attributes:
            common.subdomain(attributes, "spec.volumeAttributesClassName", out)
        else:
            out.append(FieldError.required("spec.volumeAttributesClassName", "an empty string is disallowed"))
        if spec.get("csi") is None:
            text = "has to be specified when using volumeAttributesClassName"
            out.append(FieldError.required("spec.csi", text))
    return out


_INLINE = "in the context of inline volumes"


def inline_spec(spec: Obj, path: str, out: Errors) -> None:
    """A volume that a VolumeAttachment describes itself: for CSI, and bound to nothing."""
    if spec.get("claimRef") is not None:
        out.append(FieldError.forbidden(f"{path}.claimRef", f"may not be specified {_INLINE}"))
    if spec.get("capacity"):
        out.append(FieldError.forbidden(f"{path}.capacity", f"may not be specified {_INLINE}"))
    if spec.get("csi") is None:
        out.append(FieldError.required(f"{path}.csi", f"has to be specified {_INLINE}"))
    access_modes(spec.get("accessModes"), f"{path}.accessModes", out)
    if spec.get("persistentVolumeReclaimPolicy") not in (None, "", "Retain"):
        out.append(FieldError.forbidden(f"{path}.persistentVolumeReclaimPolicy", f"may only be Retain {_INLINE}"))
    if spec.get("nodeAffinity") is not None:
        out.append(FieldError.forbidden(f"{path}.nodeAffinity", f"may not be specified {_INLINE}"))
    _source(spec, "", out, path)
    if spec.get("storageClassName"):
        out.append(FieldError.forbidden(f"{path}.storageClassName", f"may not be specified {_INLINE}"))
    if spec.get("volumeMode") not in (None, "Filesystem"):
        text = f"may not specify volumeMode other than Filesystem {_INLINE}"
        out.append(FieldError.forbidden(f"{path}.volumeMode", text))
    if spec.get("volumeAttributesClassName") is not None:
        out.append(FieldError.forbidden(f"{path}.volumeAttributesClassName", f"may not be specified {_INLINE}"))


def _where(spec: Obj, other: Obj) -> Obj:
    """The sources of *spec*; a secret for expansion counts only where *other* has one, too: it may be added."""
    found = {key: spec[key] for key in spec if key in _ORDER}
    key = "controllerExpandSecretRef"
    if (found.get("csi") or {}).get(key) is not None and (other.get("csi") or {}).get(key) is None:
        found["csi"] = {**found["csi"], key: None}
    return found


@on_update("", "PersistentVolume")
def persistent_volume_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed PersistentVolume: where its data is stays."""
    if subresource == "status":
        return []
    out = persistent_volume(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    source, had = plain(_where(wanted, before)), plain({key: before[key] for key in before if key in _ORDER})
    if source != had:
        lines = "\n".join(differences(source, had, "spec"))
        text = f"spec.persistentvolumesource is immutable after creation\n{lines}\n"
        out.append(FieldError.forbidden("spec.persistentvolumesource", text))
    common.immutable(wanted.get("volumeMode"), before.get("volumeMode"), "volumeMode", out)
    if before.get("nodeAffinity") is not None:
        common.immutable(wanted.get("nodeAffinity"), before.get("nodeAffinity"), "nodeAffinity", out)
    if before.get("volumeAttributesClassName") is not None and wanted.get("volumeAttributesClassName") is None:
        text = "update from non-nil value to nil is forbidden"
        out.append(FieldError.forbidden("spec.volumeAttributesClassName", text))
    return out
