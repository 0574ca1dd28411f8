"""Storage classes and CSI objects."""

from __future__ import annotations

from orca.api.defaults.quantities import canonical_value
from orca.api.defaults.registry import Obj, defaults, part, put

_GROUP = "storage.k8s.io"


@defaults(_GROUP, "StorageClass")
def storage_class(obj: Obj) -> None:
    """Defaults of a StorageClass."""
    put(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


@defaults(_GROUP, "CSIDriver")
def csi_driver(obj: Obj) -> None:
    """Defaults of a CSIDriver."""
    spec = part(obj, "spec")
    put(
        spec,
        attachRequired=True,
        podInfoOnMount=False,
        storageCapacity=False,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        requiresRepublish=False,
        seLinuxMount=False,
    )
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


@defaults(_GROUP, "CSIStorageCapacity")
def csi_storage_capacity(obj: Obj) -> None:
    """Canonical quantities."""
    for key in ("capacity", "maximumVolumeSize"):
        if obj.get(key) is not None:
            obj[key] = canonical_value(obj[key])
