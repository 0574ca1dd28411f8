"""Owners of custom resources after their schema changed: from part by part to one leaf, and back.

Reference: sigs.k8s.io/structured-merge-diff ``typed/reconcile_schema.go``. Built-in kinds do not change their schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orca.api.fields import managers
from orca.api.fields.managers import Entry
from orca.api.fields.merging import owned
from orca.api.fields.sets import EMPTY, LEAF, SELF, FieldSet
from orca.api.fields.types import OPEN, Node
from orca.api.objects import Obj


def reconciled(entries: list[Entry], live: Obj, at: Callable[[Obj, str], tuple[Node, Obj] | None]) -> list[Entry]:
    """Entries as the schema of their versions has it now; ``entries`` itself when they fit. Unknown versions stay."""
    made = []
    for entry in entries:
        there = at(live, entry["apiVersion"])
        if there is not None:
            fields = _inside(there[0], entry["fieldsV1"], there[1])
            if fields is not entry["fieldsV1"]:
                entry = managers.with_fields(entry, fields)
        made.append(entry)
    return entries if all(one is other for one, other in zip(made, entries, strict=True)) else made


def _inside(node: Node, fields: FieldSet, value: Any) -> FieldSet:
    made: FieldSet | None = None
    for element, sub in fields.items():
        if element == SELF:
            continue
        child, inner = _descend(node, element, value)
        new = _at(child, sub, inner)
        if new is not sub:
            made = dict(fields) if made is None else made
            made[element] = new
    return fields if made is None else made


def _at(node: Node, fields: FieldSet, value: Any) -> FieldSet:
    if node is OPEN:
        return fields  # decided by values, so nothing that a schema could change
    if node.kind == "leaf":
        return LEAF if fields else fields
    if fields:
        return _inside(node, fields, value)
    parts = _parts(node, value)
    return {SELF: LEAF, **parts} if parts else fields


def _parts(node: Node, value: Any) -> FieldSet:
    if not value or node.kind not in ("list", "map", "struct"):
        return EMPTY
    # What a mapping with this one member owns, without the member itself.
    holder = Node("map")
    holder.rest = node
    found = owned(holder, {"it": value}).get("f:it") or EMPTY
    return {element: sub for element, sub in found.items() if element != SELF}


def _descend(node: Node, element: str, value: Any) -> tuple[Node, Any]:
    if node.kind == "list":
        items = value if isinstance(value, list) else ()
        return node.item or OPEN, next((item for item in items if node.element(item) == element), None)
    name = element[2:]
    return node.child(name) or OPEN, value.get(name) if isinstance(value, dict) else None
