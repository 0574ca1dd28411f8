"""Writes that happen together or not at all: an object, and what must be true of others for it to exist.

A Service holds its address by an IPAddress of that name, a pod its place in a quota by the quota's status. Both are
written in the etcd transaction that writes the object, so no server can hand out the same twice and nothing is left
over when a write fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.resources import Resource


@dataclass(frozen=True, slots=True)
class Also:
    """One write beside another. `obj` None deletes. `revision` is what the object's last one must be (0: there must be
    none; None: whatever it is)."""

    resource: Resource
    namespace: str
    name: str
    obj: Obj | None
    revision: int | None


class Raced(ApiError):
    """Something that was to be written beside an object has changed meanwhile: look again and try anew."""

    def __init__(self, lost: Also) -> None:
        name = f"{lost.namespace}/{lost.name}" if lost.namespace else lost.name
        text = (
            f"{lost.resource.group_resource} {name} was changed by another request at the same time; please try again"
        )
        super().__init__(409, "Conflict", text)
        self.lost = lost
