"""From client-side to server-side apply: what the annotation of the one means to the other.

Only for the manager ``kubectl``. Reference: k8s.io/apimachinery ``util/managedfields/internal/lastapplied*.go``.
"""

from __future__ import annotations

import orjson

from orca.api import objects
from orca.api.fields import sets
from orca.api.fields.comparing import compare
from orca.api.fields.merging import owned
from orca.api.fields.sets import EMPTY, FieldSet
from orca.api.fields.types import Node
from orca.api.metadata import ANNOTATIONS_LIMIT
from orca.api.objects import Obj, ensure_meta

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl"


def allowed(node: Node, live: Obj) -> FieldSet | None:
    """Fields the annotation gave and nobody changed since: an apply may take them over. None without annotation."""
    text = objects.annotations(live).get(ANNOTATION)
    if not text:
        return None
    try:
        applied = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(applied, dict) or applied.get("apiVersion") != live.get("apiVersion"):
        return None
    change = compare(node, applied, live, EMPTY)
    differing = sets.union(change.written, change.removed)
    return sets.difference(owned(node, applied), differing)


def keep_up(obj: Obj, config: Obj) -> None:
    """Let the annotation of ``obj``, if it has one, say what was applied now; in place, shared parts are replaced."""
    if ANNOTATION not in objects.annotations(obj):
        return
    said = {**config, "metadata": dict(config.get("metadata") or {})}
    notes = dict(said["metadata"].get("annotations") or {})
    notes.pop(ANNOTATION, None)
    said["metadata"].pop("annotations", None)
    if notes:
        said["metadata"]["annotations"] = notes
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    obj["metadata"] = {**ensure_meta(obj)}
    new = {**objects.annotations(obj), ANNOTATION: text}
    if sum(len(key.encode()) + len(value.encode()) for key, value in new.items()) > ANNOTATIONS_LIMIT:
        del new[ANNOTATION]
    obj["metadata"]["annotations"] = new
