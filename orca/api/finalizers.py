"""Finalizers with a meaning of their own that more than one side knows."""

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orca.api.resources import Resource

CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
SERVICE_CIDR = "networking.k8s.io/service-cidr-finalizer"
IN_USE: dict[Resource, str] = {PERSISTENTVOLUMECLAIMS: CLAIM_PROTECTION, PERSISTENTVOLUMES: VOLUME_PROTECTION}
"""What holds a deleted object while it is used."""
