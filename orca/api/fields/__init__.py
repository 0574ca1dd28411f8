"""Who owns which field: field sets, server-side apply, and the upkeep of ``metadata.managedFields``.

Sets are kept in the very form the API shows them (``fieldsV1``), as frozen dicts that objects of one shape share.
Everything is pure: what to merge with what comes in, objects and entries come out. Storage, admission and the wording
of HTTP never belong here. Reference: sigs.k8s.io/structured-merge-diff and k8s.io/apimachinery
``util/managedfields``.
"""

from orca.api.fields.managers import Door, door, manager_of
from orca.api.fields.tracking import Applied, At, Writer, apply, check, revert_times, track_create, track_update

__all__ = [
    "Applied",
    "At",
    "Door",
    "Writer",
    "apply",
    "check",
    "door",
    "manager_of",
    "revert_times",
    "track_create",
    "track_update",
]
