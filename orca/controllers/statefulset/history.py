"""Revisions of a StatefulSet. Pure.

As those of DaemonSets, but pods and status name the whole revision, and its own hash has another label.
"""

from collections.abc import Collection, Sequence

from orca.api.builtin import STATEFULSETS
from orca.api.objects import Obj, is_terminating, labels, name, uid
from orca.controllers import controllerrevisions
from orca.controllers.controllerrevisions import HASH_LABEL

REVISION_HASH = "controller.kubernetes.io/hash"


def update_revision(statefulset: Obj, history: Sequence[Obj]) -> tuple[Obj, bool]:
    """As `controllerrevisions.current`."""
    revision, changed = controllerrevisions.current(STATEFULSETS, statefulset, history)
    if uid(revision):
        return revision, changed
    found = dict(labels(revision))
    found[REVISION_HASH] = found.pop(HASH_LABEL)
    return {**revision, "metadata": {**revision["metadata"], "labels": found}}, changed


def current_revision(statefulset: Obj, history: Sequence[Obj], update: Obj) -> Obj:
    """The revision that the last finished update left."""
    wanted = (statefulset.get("status") or {}).get("currentRevision")
    return next((found for found in history if name(found) == wanted and name(found) != name(update)), update)


def template_of(revision: Obj) -> Obj:
    """The pod template it keeps."""
    template: Obj = revision["data"]["spec"]["template"]
    return {key: value for key, value in template.items() if key != "$patch"}


def surplus(history: Sequence[Obj], live: Collection[str], limit: int) -> list[Obj]:
    """Oldest revisions beyond `limit` among those whose names are not `live`."""
    unused = [found for found in history if name(found) not in live and not is_terminating(found)]
    unused.sort(key=lambda found: found.get("revision", 0))
    return unused[: max(len(unused) - limit, 0)]
