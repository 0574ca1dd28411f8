"""Objects, writers and shorthands for tests of field ownership."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from orca.api import fields, strategy
from orca.api.builtin import BUILTIN, DEPLOYMENTS
from orca.api.conversion import convert
from orca.api.fields import sets
from orca.api.fields.sets import FieldSet
from orca.api.fields.types import Node, root
from orca.api.objects import Obj, meta
from orca.api.resources import Resource

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"


def writer(manager: str, resource: Resource = DEPLOYMENTS, subresource: str = "", time: str = EARLY) -> fields.Writer:
    return fields.Writer(manager, fields.door(resource, subresource), time)


def at(obj: Obj, version: str) -> tuple[Node, Obj] | None:
    row = BUILTIN.by_kind(version, obj["kind"])
    return None if row is None else (root(row), convert(obj, version))


def config(**spec: Any) -> Obj:
    """A Deployment as somebody applies it; without what is not given."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "d"}, "spec": spec}


def pods(*containers: Obj, **more: Any) -> Obj:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": list(containers), **more}}


SELECTOR = {"matchLabels": {"app": "web"}}
WEB = {"name": "web", "image": "nginx:1"}


def stored(obj: Obj) -> Obj:
    """As the server would have it, with a uid."""
    obj = deepcopy(obj)
    strategy.apply_defaults(DEPLOYMENTS, obj)
    obj["metadata"]["uid"] = "u"
    return obj


def create(obj: Obj, manager: str) -> Obj:
    """Created by a client that does not apply."""
    made = stored(obj)
    fields.track_create(DEPLOYMENTS, made, writer(manager))
    return made


def update(obj: Obj, new: Obj, manager: str, subresource: str = "", time: str = LATE) -> Obj:
    made = stored(new)
    fields.track_update(DEPLOYMENTS, made, obj, writer(manager, subresource=subresource, time=time), at)
    return made


def apply(live: Obj | None, body: Obj, manager: str, *, force: bool = False, time: str = LATE) -> Obj:
    done = fields.apply(DEPLOYMENTS, live, body, writer(manager, time=time), at, force=force)
    return stored(done.obj)


def owners(obj: Obj) -> dict[str, FieldSet]:
    """manager -> its set; its operation is told by a leading plus for appliers."""
    return {
        ("+" if entry["operation"] == "Apply" else "") + entry["manager"]: entry["fieldsV1"]
        for entry in meta(obj).get("managedFields", [])
    }


def paths(fields_: FieldSet) -> set[str]:
    return {sets.shown(path) for path in sets.members(fields_)}
