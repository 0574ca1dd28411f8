"""StorageObjectInUseProtection: claims and volumes are born with the finalizer that holds them while they are used.

The controllers in :mod:`orca.controllers.storageprotection` take it away again.
"""

from orca.admission.chain import CREATE, Attributes
from orca.api.finalizers import IN_USE


class StorageObjectInUseProtection:
    """As upstream's plugin of this name."""

    kinds = frozenset(IN_USE)

    async def admit(self, attrs: Attributes) -> None:
        """Adds the finalizer on create."""
        if attrs.operation != CREATE or attrs.subresource or attrs.obj is None:
            return
        ours = IN_USE.get(attrs.resource)
        if ours is None:
            return
        metadata = attrs.obj.setdefault("metadata", {})
        if ours not in (metadata.get("finalizers") or ()):
            metadata["finalizers"] = [*(metadata.get("finalizers") or ()), ours]
