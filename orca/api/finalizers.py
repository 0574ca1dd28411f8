"""Finalizers with a meaning of their own that more than one side knows."""

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTRIBUTESCLASSES
from orca.api.resources import Resource

CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
VOLUME_CONTENT = "external-provisioner.volume.kubernetes.io/finalizer"
"""Holds a volume that was made for a claim, and is to go with it, until what is on it has been removed: also when
somebody deletes the volume first (KEP-2644)."""
SERVICE_CIDR = "networking.k8s.io/service-cidr-finalizer"
IN_USE: dict[Resource, str] = {
    PERSISTENTVOLUMECLAIMS: CLAIM_PROTECTION,
    PERSISTENTVOLUMES: VOLUME_PROTECTION,
    VOLUMEATTRIBUTESCLASSES: "kubernetes.io/vac-protection",
}
"""What holds a deleted object while it is used."""
