"""Claims and volumes: binding, provisioning, growing, reclaiming.

``plan`` decides, ``provisioning`` says what a new volume is, ``claims`` and ``volumes`` carry it out, one controller
each. Mounting and removing directories is the hosts' (``agents.volumes``).
"""

from orca.controllers.persistentvolume.claims import PersistentVolumeClaimBinder
from orca.controllers.persistentvolume.volumes import PersistentVolumeBinder

__all__ = ["PersistentVolumeBinder", "PersistentVolumeClaimBinder"]
