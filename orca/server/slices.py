"""Long lists in forms that are made object by object: Tables, metadata alone and YAML.

A Table of thousands of objects takes most of a second to make, YAML many. Made at once, everybody else would wait for
it. So they are made some objects at a time, and others are served in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import orjson

from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.server.fairness.portions import OBJECTS, portions
from orca.server.fairness.turns import Lane
from orca.server.lists import MadeBody
from orca.server.negotiation import YAML, Form
from orca.server.representation import as_table, partial, transform_list
from orca.server.responses import encode
from orca.store import Entry

_INDENTED_END = b"\n  ]\n}"

T = TypeVar("T")


async def encoded_list(
    resource: Resource,
    entries: Sequence[Entry],
    form: Form,
    include: str,
    now: datetime,
    metadata: Obj,
    lane: Lane,
    *,
    pretty: bool = False,
) -> MadeBody:
    """A list in the form that was negotiated. Raises ApiError 406."""
    if form.media == YAML:
        if form.kind != "Table":
            return await _yaml(resource, entries, form, include, now, metadata, lane)
        objs = [obj for part in await _made(entries, lambda some: [entry.obj for entry in some], lane) for obj in part]
        return MadeBody([encode(transform_list(resource, objs, form, include, now, metadata), form)])
    if pretty:
        return await _indented(resource, entries, form, include, now, metadata, lane)
    if form.kind == "Table":
        return await _table(resource, entries, form, include, now, metadata, lane)
    if form.kind == "PartialObjectMetadataList":
        return await _metadata_only(resource, entries, form, now, metadata, lane)
    objs = [obj for part in await _made(entries, lambda some: [entry.obj for entry in some], lane) for obj in part]
    return MadeBody([encode(transform_list(resource, objs, form, include, now, metadata), form)])


async def _indented(
    resource: Resource, entries: Sequence[Entry], form: Form, include: str, now: datetime, metadata: Obj, lane: Lane
) -> MadeBody:
    """For people. What is listed comes last in all forms, and is indented alike in each part."""
    listed = "rows" if form.kind == "Table" else "items"
    before = f'{{\n  "{listed}": [\n'.encode()

    def some(those: Sequence[Entry]) -> bytes:
        made = transform_list(resource, [entry.obj for entry in those], form, include, now, metadata)
        text = orjson.dumps({listed: made[listed]}, option=orjson.OPT_INDENT_2)
        return text[len(before) : -len(_INDENTED_END)]

    empty = encode(transform_list(resource, [], form, include, now, metadata), form, pretty=True)
    parts = await _made(entries, some, lane)
    if not parts:
        return MadeBody([empty])
    held = [empty.removesuffix(b"]\n}\n"), b"\n"]
    for part in parts:
        held += (part, b",\n")
    held[-1] = _INDENTED_END + b"\n"
    return MadeBody(held)


async def _table(
    resource: Resource, entries: Sequence[Entry], form: Form, include: str, now: datetime, metadata: Obj, lane: Lane
) -> MadeBody:
    def rows(some: Sequence[Entry]) -> bytes:
        return orjson.dumps(as_table(resource, [entry.obj for entry in some], form, include, now)["rows"])[1:-1]

    parts = await _made(entries, rows, lane)
    empty = orjson.dumps(as_table(resource, [], form, include, now, metadata))
    return _listed(empty, parts)


async def _metadata_only(
    resource: Resource, entries: Sequence[Entry], form: Form, now: datetime, metadata: Obj, lane: Lane
) -> MadeBody:
    def items(some: Sequence[Entry]) -> bytes:
        return orjson.dumps([partial(entry.obj, form.version) for entry in some])[1:-1]

    parts = await _made(entries, items, lane)
    empty = orjson.dumps(transform_list(resource, [], form, "", now, metadata))
    return _listed(empty, parts)


async def _yaml(
    resource: Resource, entries: Sequence[Entry], form: Form, include: str, now: datetime, metadata: Obj, lane: Lane
) -> MadeBody:
    def items(some: Sequence[Entry]) -> bytes:
        made = transform_list(resource, [entry.obj for entry in some], form, include, now, metadata)
        return encode(made["items"], form)

    whole = encode(transform_list(resource, [], form, include, now, metadata), form)
    parts = await _made(entries, items, lane, 1)
    return MadeBody([whole.removesuffix(b"items: []\n"), b"items:\n", *parts]) if parts else MadeBody([whole])


def _listed(empty: bytes, parts: list[bytes]) -> MadeBody:
    """What has no items yet, with those of ``parts``."""
    held = [empty.removesuffix(b"]}")]
    for part in parts:
        held += (part, b",")
    if parts:
        held.pop()
    return MadeBody([*held, b"]}\n"])


async def _made(
    entries: Sequence[Entry], make: Callable[[Sequence[Entry]], T], lane: Lane, objects: int = OBJECTS
) -> list[T]:
    found = []
    for some in portions(entries, objects):
        if not lane.has_room():
            await lane.wait()
        found.append(make(some))
    return found
