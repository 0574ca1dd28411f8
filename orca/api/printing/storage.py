"""Volumes, claims, classes and CSI objects."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing import formats
from orca.api.printing.columns import (
    AGE,
    NAME,
    Cells,
    Column,
    Obj,
    boolean,
    integer,
    name,
    printer,
    spec,
    status,
    text,
    wide,
)
from orca.api.printing.duration import since

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_GROUP = "storage.k8s.io"


def _age(obj: Obj, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def _class(obj: Obj) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    value: str = annotations.get(_CLASS_ANNOTATION) or spec(obj).get("storageClassName") or ""
    return value


def _phase(obj: Obj) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return status(obj).get("phase") or ""


def _text(value: str | None) -> str:
    return formats.UNSET if value is None else value


@printer(
    "",
    "PersistentVolume",
    NAME,
    text("Capacity", "Size of the volume."),
    text("Access Modes", "How the volume can be mounted."),
    text("Reclaim Policy", "What happens once the claim is gone."),
    text("Status", "Phase of the volume."),
    text("Claim", "The claim it is bound to."),
    text("StorageClass", "StorageClass of the pv"),
    text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
    text("Reason", "Why it failed."),
    AGE,
    wide(text("VolumeMode", "Filesystem or Block.")),
)
def persistent_volume(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get persistentvolumes -o wide``."""
    wanted, claim = spec(obj), spec(obj).get("claimRef")
    return [
        name(obj),
        formats.quantity((wanted.get("capacity") or {}).get("storage")),
        formats.access_modes(wanted.get("accessModes")),
        wanted.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class(obj),
        _text(wanted.get("volumeAttributesClassName")),
        status(obj).get("reason") or "",
        _age(obj, now),
        _text(wanted.get("volumeMode")),
    ]


@printer(
    "",
    "PersistentVolumeClaim",
    NAME,
    text("Status", "Phase of the claim."),
    text("Volume", "The volume it is bound to."),
    text("Capacity", "Size of that volume."),
    text("Access Modes", "How that volume can be mounted."),
    text("StorageClass", "StorageClass of the pvc"),
    text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
    AGE,
    wide(text("VolumeMode", "Filesystem or Block.")),
)
def persistent_volume_claim(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get persistentvolumeclaims -o wide``."""
    wanted, state = spec(obj), status(obj)
    bound = bool(wanted.get("volumeName"))
    return [
        name(obj),
        _phase(obj),
        wanted.get("volumeName") or "",
        formats.quantity((state.get("capacity") or {}).get("storage")) if bound else "",
        formats.access_modes(state.get("accessModes")) if bound else "",
        _class(obj),
        _text(wanted.get("volumeAttributesClassName")),
        _age(obj, now),
        _text(wanted.get("volumeMode")),
    ]


def _default_mark(obj: Obj, *keys: str) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return " (default)" if any(annotations.get(key) == "true" for key in keys) else ""


@printer(
    _GROUP,
    "StorageClass",
    NAME,
    text("Provisioner", "Who makes volumes of this class."),
    text("ReclaimPolicy", "What happens to a volume once its claim is gone."),
    text("VolumeBindingMode", "When a claim is bound."),
    text("AllowVolumeExpansion", "Whether claims may grow."),
    AGE,
)
def storage_class(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get storageclasses``."""
    mark = _default_mark(
        obj, "storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"
    )
    return [
        name(obj) + mark,
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        _age(obj, now),
    ]


@printer(_GROUP, "VolumeAttributesClass", NAME, text("DriverName", "The driver it configures."), AGE)
def volume_attributes_class(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get volumeattributesclasses``."""
    mark = _default_mark(obj, "volumeattributesclass.alpha.kubernetes.io/is-default-class")
    return [name(obj) + mark, obj.get("driverName") or "", _age(obj, now)]


@printer(
    _GROUP,
    "VolumeAttachment",
    NAME,
    Column("Attacher", format="name", description="The driver that attaches."),
    text("PV", "The volume."),
    text("Node", "The node it is attached to."),
    boolean("Attached", "Whether it is attached."),
    AGE,
)
def volume_attachment(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get volumeattachments``."""
    wanted = spec(obj)
    return [
        name(obj),
        wanted.get("attacher") or "",
        (wanted.get("source") or {}).get("persistentVolumeName") or "",
        wanted.get("nodeName") or "",
        bool(status(obj).get("attached")),
        _age(obj, now),
    ]


@printer(_GROUP, "CSINode", NAME,
         integer("Drivers", "Drivers indicates the number of CSI drivers registered on the node"), AGE)  # fmt: skip
def csi_node(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get csinodes``."""
    return [name(obj), len(spec(obj).get("drivers") or ()), _age(obj, now)]


@printer(
    _GROUP,
    "CSIDriver",
    NAME,
    boolean("AttachRequired", "Whether volumes must be attached first."),
    boolean("PodInfoOnMount", "Whether the driver wants the pod's details."),
    boolean("StorageCapacity", "Whether the driver reports capacity."),
    text("TokenRequests", "Audiences of the tokens the driver wants."),
    boolean("RequiresRepublish", "Whether mounts are refreshed."),
    text("Modes", "Kinds of volumes the driver makes."),
    AGE,
)
def csi_driver(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get csidrivers``."""
    wanted = spec(obj)
    attach, tokens = wanted.get("attachRequired"), wanted.get("tokenRequests")
    return [
        name(obj),
        True if attach is None else attach,
        bool(wanted.get("podInfoOnMount")),
        bool(wanted.get("storageCapacity")),
        formats.UNSET if tokens is None else ",".join(t.get("audience") or "" for t in tokens),
        bool(wanted.get("requiresRepublish")),
        ",".join(wanted.get("volumeLifecycleModes") or ()) or formats.NONE,
        _age(obj, now),
    ]


@printer(_GROUP, "CSIStorageCapacity", NAME, text("StorageClassName", "The class the capacity is for."),
         text("Capacity", "What is left."))  # fmt: skip
def csi_storage_capacity(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get csistoragecapacities``."""
    return [name(obj), obj.get("storageClassName") or "", _text(obj.get("capacity"))]
