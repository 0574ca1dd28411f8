"""What must be visited of each row of the resource table: derived from the row, never written down by hand."""

from __future__ import annotations

from orca.api.resources import Resource
from orca.server import patch_media

PATCH_TYPES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
"""Media type -> what the tests call it; a media type the server learns has to be added here."""

READING = ("get:json", "get:yaml", "get:Table", "get:PartialObjectMetadata", "get:406")
LISTING = (
    "list:json",
    "list:yaml",
    "list:Table",
    "list:PartialObjectMetadataList",
    "list:labelSelector",
    "list:fieldSelector",
    "list:limit",
)
WATCHING = ("watch:json", "watch:Table", "watch:PartialObjectMetadata", "watch:initialEvents")
CREATING = ("create", "create:again", "create:dryRun", "create:Strict", "create:Warn", "create:Ignore")
UPDATING = ("update", "update:dryRun", "update:stale", "update:Strict")
DELETING = ("delete", "delete:dryRun", "delete:precondition")
CLEARING = ("deletecollection:labelSelector", "deletecollection:dryRun")


def patch_types(row: Resource) -> list[str]:
    """The patches the kind takes, in the tests' words."""
    found = [PATCH_TYPES[media] for media in patch_media.ACCEPTED]
    return [one for one in found if not (row.custom and one == "strategic")]


def _patching(row: Resource, where: str = "patch") -> list[str]:
    return [f"{where}:{kind}" for kind in patch_types(row)]


def required(row: Resource) -> set[str]:
    """Every pair of this row: verbs with their forms, and each subresource with its verbs."""
    verbs = {
        "get": READING,
        "list": LISTING,
        "watch": WATCHING,
        "create": CREATING,
        "update": UPDATING,
        "delete": DELETING,
        "deletecollection": CLEARING,
        "patch": (*_patching(row), *_patching(row, "patch:dryRun"), "patch:Strict"),
    }
    found = {name for verb in row.verbs for name in verbs[verb]}
    for sub in row.subresources:
        for verb in sub.verbs:
            if verb == "patch" and sub.name != "proxy":
                found |= set(_patching(row, f"{sub.name}:patch"))
            else:
                found.add(f"{sub.name}:{verb}")
    return found
