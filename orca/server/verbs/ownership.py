"""``metadata.managedFields`` on its way through the verbs: who writes, through which door, at what time. And
``metadata.ownerReferences``, of which each is kept once."""

from __future__ import annotations

import orjson

from orca.api import fields
from orca.api.conversion import convert
from orca.api.fields import managers
from orca.api.fields.types import Node, root
from orca.api.objects import Obj, meta
from orca.api.resources import Resource
from orca.api.times import format_time
from orca.server.verbs.core import Call, Core

_INVALID = (
    ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating "
    "admission controller; please fix your requests: "
)

_TWICE = (
    ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, "
    "and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uids}"
)


def single_owners(call: Call, obj: Obj, *, admitted: bool = False) -> None:
    """Leave out owner references that say the same as one before, in place, and warn of them. Patches and what
    admission makes are ``admitted``."""
    said = meta(obj).get("ownerReferences")
    if not said or len(said) == 1:
        return
    kept: list[Obj] = []
    twice: list[str] = []
    seen: set[bytes] = set()
    for reference in said:
        encoded = orjson.dumps(reference, option=orjson.OPT_SORT_KEYS)
        if encoded in seen:
            twice.append(reference.get("uid", ""))
        else:
            seen.add(encoded)
            kept.append(reference)
    if twice:
        obj["metadata"] = {**meta(obj), "ownerReferences": kept}
        when = " after mutating admission happens" if admitted else ""
        call.options.warnings.append(_TWICE.format(when=when, uids=", ".join(twice)))


def writer(core: Core, call: Call, resource: Resource, subresource: str = "") -> fields.Writer:
    """Whoever makes this call."""
    name = call.options.field_manager or call.manager
    return fields.Writer(name, fields.door(resource, subresource), stamp(core))


_stamped: tuple[int, str] = (0, "")


def stamp(core: Core) -> str:
    """The time as metadata tells it, made once a second."""
    global _stamped
    now = core.clock.now()
    second = int(now.timestamp())
    if _stamped[0] != second:
        _stamped = (second, format_time(now))
    return _stamped[1]


def created(core: Core, call: Call, resource: Resource, obj: Obj) -> None:
    """Everything ``obj`` says belongs to who creates it; in place."""
    fields.track_create(resource, obj, writer(core, call, resource))


def updated(core: Core, call: Call, resource: Resource, new: Obj, old: Obj, subresource: str = "") -> None:
    """What differs between ``old`` and ``new`` belongs to who writes it; ``new`` in place."""
    fields.track_update(resource, new, old, writer(core, call, resource, subresource), versions(core, resource))


def versions(core: Core, resource: Resource) -> fields.At:
    """Objects of a kind in the versions that are served."""

    def at(obj: Obj, api_version: str) -> tuple[Node, Obj] | None:
        row = core.table.by_kind(api_version, resource.kind)
        if row is None or row.storage != resource.storage:
            return None
        if resource.custom:
            # Versions without a webhook differ in their schema only, and nothing here may wait for one.
            return root(row), {**obj, "apiVersion": api_version}
        return root(row), convert(obj, api_version)

    return at


def guard(call: Call, before: Obj, after: Obj) -> None:
    """Undo what mutating admission made of managedFields, in place, when the result could not be stored."""
    was, now = meta(before).get("managedFields"), meta(after).get("managedFields")
    if now is was:
        return
    problem = managers.problems(now)
    if now == []:
        after["metadata"] = {name: value for name, value in meta(after).items() if name != "managedFields"}
    elif problem:
        call.options.warnings.append(_INVALID + problem)
        after["metadata"] = {**meta(after)}
        if was is None:
            after["metadata"].pop("managedFields", None)
        else:
            after["metadata"]["managedFields"] = was
    elif now:
        after["metadata"] = {**meta(after), "managedFields": managers.decode(now)}
