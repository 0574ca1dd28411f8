"""Where a pod comes from: the annotations by which static pods and their mirrors are known. Pure."""

from __future__ import annotations

from orca.api.objects import Obj
from orca.api.objects import annotations as notes

SOURCE = "kubernetes.io/config.source"
HASH = "kubernetes.io/config.hash"
SEEN = "kubernetes.io/config.seen"
MIRROR = "kubernetes.io/config.mirror"


def is_static(pod: Obj) -> bool:
    """The pod comes from a file or URL of this host (its mirror does not)."""
    return notes(pod).get(SOURCE) in ("file", "http") and not is_mirror(pod)


def is_mirror(pod: Obj) -> bool:
    """The object in the API that shows a static pod."""
    return MIRROR in notes(pod)


def mirrored(pod: Obj) -> str:
    """Uid of the static pod that a mirror shows, "" when it is none."""
    return str(notes(pod).get(MIRROR) or "")
