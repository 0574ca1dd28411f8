"""PersistentVolumeClaimResize: a claim grows only when it is bound and its class says that volumes can grow."""

from orca.admission.chain import UPDATE, Attributes, Cluster
from orca.api.builtin import PERSISTENTVOLUMECLAIMS, STORAGECLASSES
from orca.api.objects import Obj, annotations
from orca.api.quantity import Quantity

_BETA = "volume.beta.kubernetes.io/storage-class"


class PersistentVolumeClaimResize:
    """As upstream's plugin of this name."""

    kinds = frozenset({PERSISTENTVOLUMECLAIMS})

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def validate(self, attrs: Attributes) -> None:
        """Raises ApiError 403."""
        if not attrs.of(PERSISTENTVOLUMECLAIMS, UPDATE) or attrs.obj is None or attrs.old is None:
            return
        now, was = _size(attrs.obj), _size(attrs.old)
        if now is None or was is None or now.value <= was.value:
            return
        if (attrs.old.get("status") or {}).get("phase") != "Bound":
            raise attrs.forbidden("Only bound persistent volume claims can be expanded")
        name = _class(attrs.obj)
        found = self._cluster.peek(STORAGECLASSES, "", name) if name and name == _class(attrs.old) else None
        if not (found or {}).get("allowVolumeExpansion"):
            raise attrs.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            )


def _size(claim: Obj) -> Quantity | None:
    value = (((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage")
    return None if value is None else Quantity.parse(str(value))


def _class(claim: Obj) -> str:
    return annotations(claim).get(_BETA) or (claim.get("spec") or {}).get("storageClassName") or ""
