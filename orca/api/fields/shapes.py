"""The fields of a whole value, by its shape: values of one shape get one and the same set.

What a struct owns depends on which members it has, and on the shapes of those that are no leaves. So every node of the
schema remembers sets by member names and by the identity of the members' sets. A hit costs a tuple and a look-up, and
objects of one shape share their ``fieldsV1`` in memory.
"""

from __future__ import annotations

from typing import Any

import orjson

from orca.api.fields.sets import EMPTY, LEAF, SELF, FieldSet, is_member, place
from orca.api.fields.types import LEAF_NODE, OPEN, Node, remember

Plan = tuple[FieldSet, tuple[tuple[str, Node], ...], dict[Any, FieldSet]]
"""What all mappings with the same members share: the set of the leaves; members to look into; whole sets by those."""
FilledPlan = tuple[FieldSet, tuple[tuple[str, Node, FieldSet | None], ...], dict[Any, Any]]
_SERIAL = frozenset({"PodSpec", "JobSpec", "ReplicaSetSpec"})
"""Types that controllers write again and again; encoding one costs a tenth of walking it."""
_SERIAL_BYTES = 4096
_SERIES = 256
_series: dict[tuple[str, int, bytes], FieldSet] = {}
_REQUIRED: FieldSet = {"required": LEAF}
"""Marks lists that upstream's empty object holds as null: filling them does not add the list itself."""


def added(node: Node, value: Any) -> FieldSet:
    """The set node of a value that was not there before: all it holds, each mapping and item itself included."""
    kind = node.kind
    if kind == "leaf" or not value:
        return LEAF
    if value.__class__ is dict:
        return LEAF if kind == "list" else _mapping(node, value)
    if kind == "list" and value.__class__ is list:
        return _items(node, value, SELF)
    return LEAF


def _mapping(node: Node, value: dict[str, Any]) -> FieldSet:
    names = (SELF, *value)
    plan = node.plans.get(names)
    if plan is None:
        plan = _plan(node, names)
    fixed, deep, combined = plan
    if not deep:
        return fixed
    subs = [added(child, value[name]) for name, child in deep]
    key = tuple(map(id, subs))
    found = combined.get(key)
    if found is None:
        pairs = {"f:" + name: sub for (name, _), sub in zip(deep, subs, strict=True)}
        # What is kept holds the parts, so their identities stay theirs.
        found = _sorted({**fixed, **pairs})
        remember(combined, key, found)
    return found


def _plan(node: Node, names: tuple[str, ...]) -> Plan:
    """The part that is the same for all mappings with these members, and the members to look into."""
    fixed: FieldSet = {SELF: LEAF}
    deep = []
    for name in names[1:]:
        child = node.child(name) or OPEN
        if child is LEAF_NODE:
            fixed["f:" + name] = LEAF
        else:
            deep.append((name, child))
    for name in node.by_value:
        if name not in names and name != "metadata":
            fixed["f:" + name] = LEAF
    plan: Plan = (_sorted(fixed), tuple(deep), {})
    remember(node.plans, names, plan)
    return plan


def _items(node: Node, value: list[Any], own: str) -> FieldSet:
    item_node = node.item or OPEN
    elements = [node.element(item) for item in value]
    subs = [added(item_node, item) for item in value]
    key = (own, *elements, *map(id, subs))
    found = node.plans.get(key)
    if found is None:
        made: FieldSet = {own: LEAF} if own else {}
        for element, sub in zip(elements, subs, strict=True):
            if element is not None:
                # Of what is there twice nobody owns the parts.
                made[element] = LEAF if element in made else sub
        # The parts are kept with it, also those of items that do not count: identities must stay theirs.
        found = (_sorted(made), subs)
        remember(node.plans, key, found)
    answer: FieldSet = found[0]
    return answer


def filled(node: Node, value: Any, skip: FieldSet = EMPTY) -> FieldSet:
    """What a value adds to the empty one that upstream's type starts from; ``skip`` and all below is left out.

    Unlike :func:`added`, a struct held by value is not added itself. ``skip`` has to be one that lives on.
    """
    if value.__class__ is not dict or not value:
        return EMPTY
    names = ("", id(skip), *value)
    plan = node.plans.get(names)
    if plan is None:
        plan = _filled_plan(node, names, skip)
    fixed, deep, combined = plan
    if not deep:
        return fixed
    subs = []
    for name, child, below in deep:
        if below is None:
            subs.append(added(child, value[name]))
        elif below is _REQUIRED:
            subs.append(_items(child, value[name], "") if value[name].__class__ is list and value[name] else LEAF)
        else:
            subs.append(_filled_below(child, value[name], below))
    key = tuple(map(id, subs))
    found = combined.get(key)
    if found is None:
        made = dict(fixed)
        for (name, _, below), sub in zip(deep, subs, strict=True):
            if sub or below is None or below is _REQUIRED:
                made["f:" + name] = sub
        found = (_sorted(made), subs)
        remember(combined, key, found)
    answer: FieldSet = found[0]
    return answer


def _filled_below(node: Node, value: Any, skip: FieldSet) -> FieldSet:
    """:func:`filled` for a part that whole series of objects have alike: their spec, not their metadata."""
    if value.__class__ is not dict or node.type not in _SERIAL:
        return filled(node, value, skip)
    encoded = orjson.dumps(value)
    if len(encoded) > _SERIAL_BYTES:
        return filled(node, value, skip)
    key = (node.type, id(skip), encoded)
    found = _series.get(key)
    if found is None:
        if len(_series) >= _SERIES:
            _series.clear()
        _kept[id(skip)] = skip
        found = _series[key] = filled(node, value, skip)
    return found


def _filled_plan(node: Node, names: tuple[Any, ...], skip: FieldSet) -> FilledPlan:
    fixed: FieldSet = {}
    deep: list[tuple[str, Node, FieldSet | None]] = []
    for name in names[2:]:
        below = skip.get("f:" + name)
        if below is not None and is_member(below):
            continue
        child = node.child(name) or OPEN
        if name in node.by_value and child.kind == "struct":
            deep.append((name, child, below or EMPTY))
        elif child is LEAF_NODE:
            fixed["f:" + name] = LEAF
        else:
            deep.append((name, child, _REQUIRED if child.kind == "list" and name in node.required else None))
    plan: FilledPlan = (_sorted(fixed), tuple(deep), {})
    # The skipped set is kept with the plan, so that no other one can have its identity.
    remember(node.plans, names, plan)
    _kept[id(skip)] = skip
    return plan


_kept: dict[int, FieldSet] = {}


def _sorted(fields: FieldSet) -> FieldSet:
    return {element: fields[element] for element in sorted(fields, key=place)}
