"""ControllerRevisions: the history of pod templates that DaemonSets and StatefulSets keep."""

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

from orca.api.builtin import CONTROLLERREVISIONS
from orca.api.objects import Obj, is_terminating, labels, meta, name, namespace
from orca.api.resources import Resource
from orca.controllers.claims import owner_reference
from orca.controllers.deployment.revisions import template_hash

HASH_LABEL = "controller-revision-hash"


def data_of(owner: Obj) -> Obj:
    """What a revision stores: a patch that puts the template back, as `kubectl rollout undo` applies it.

    Members are in the order of their names: clients written in Go compare it byte by byte with what they make
    themselves (upstream's ``getPatch``).
    """
    return {"spec": {"template": _in_order({**owner["spec"]["template"], "$patch": "replace"})}}


def _in_order(value: Any) -> Any:
    """A copy, with the members of all objects in the order of their names."""
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_in_order(one) for one in value]
    return value


def same(one: Obj, other: Obj) -> bool:
    """Equal templates."""
    return _digest(one.get("data")) == _digest(other.get("data"))


def _digest(data: object) -> bytes:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).digest()


def build(resource: Resource, owner: Obj, number: int, collisions: int | None) -> Obj:
    """The revision of the owner's present template, not yet created."""
    digest = template_hash(owner["spec"]["template"], collisions)
    template_labels = (owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
    metadata: Obj = {
        "name": f"{name(owner)}-{digest}",
        "namespace": namespace(owner),
        "labels": {**template_labels, HASH_LABEL: digest},
        "ownerReferences": [owner_reference(resource, owner)],
    }
    if meta(owner).get("annotations"):
        metadata["annotations"] = dict(meta(owner)["annotations"])
    return {
        "apiVersion": CONTROLLERREVISIONS.api_version,
        "kind": CONTROLLERREVISIONS.kind,
        "metadata": metadata,
        "data": data_of(owner),
        "revision": number,
    }


def current(resource: Resource, owner: Obj, history: Sequence[Obj]) -> tuple[Obj, bool]:
    """The revision of the owner's template and whether it has to be written: created when it has no uid, updated when
    an older revision became the newest again."""
    ordered = sorted(history, key=lambda found: found.get("revision", 0))
    newest = ordered[-1].get("revision", 0) if ordered else 0
    made = build(resource, owner, newest + 1, (owner.get("status") or {}).get("collisionCount"))
    for found in reversed(ordered):
        if same(found, made):
            if found.get("revision", 0) == newest:
                return found, False
            return {**found, "revision": newest + 1}, True
    return made, True


def hash_of(revision: Obj) -> str:
    """The value of the hash label on its pods."""
    return labels(revision).get(HASH_LABEL, "")


def surplus(history: Sequence[Obj], current: str, live: Collection[str], limit: int) -> list[Obj]:
    """What a DaemonSet forgets: of revisions other than the `current` (a hash) as many as are over `limit`, the oldest
    first, but none that a pod has (`live`: hashes in use)."""
    former = [found for found in history if hash_of(found) != current and not is_terminating(found)]
    unused = sorted(
        (found for found in former if hash_of(found) not in live), key=lambda found: found.get("revision", 0)
    )
    return unused[: max(len(former) - limit, 0)]
