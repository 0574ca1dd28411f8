"""Sets of fields as ``fieldsV1`` writes them: tries of ``f:name``, ``k:{"key":"value"}``, ``v:value``.

A node without children is a member. A node with children is a member when it holds ``"."``. The root is never one, so
an empty root is the empty set. Sets are frozen: every function answers a new one, or an argument itself where nothing
changes, and shares whatever it can.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

FieldSet = dict[str, Any]
"""A set, or one node of a set."""
Path = tuple[str, ...]
"""Encoded path elements from the root down."""

LEAF: FieldSet = {}
"""The node of a member without children."""
EMPTY: FieldSet = {}
SELF = "."
_ONLY_SELF = {SELF: LEAF}


def is_member(node: FieldSet) -> bool:
    """Whether a node's own path belongs to the set."""
    return not node or SELF in node


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of either."""
    if left is right or not right:
        return left
    if not left:
        return right
    made: FieldSet | None = None
    for element, other in right.items():
        own = left.get(element)
        merged = other if own is None else _union_node(own, other)
        if merged is not own:
            if made is None:
                made = dict(left)
            made[element] = merged
    return left if made is None else made


def _union_node(left: FieldSet, right: FieldSet) -> FieldSet:
    if left is right:
        return left
    if not left:
        return right if is_member(right) else {SELF: LEAF, **right}
    if not right:
        return left if SELF in left else {SELF: LEAF, **left}
    return union(left, right)


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of ``left`` that ``right`` does not have; each path counts for itself, not for what is below it."""
    if not left or not right:
        return left
    made: FieldSet | None = None
    for element, other in right.items():
        own = left.get(element)
        if own is None:
            continue
        rest = _difference_node(own, other)
        if rest is own:
            continue
        if made is None:
            made = dict(left)
        if rest is None:
            del made[element]
        else:
            made[element] = rest
    return left if made is None else made


def _difference_node(left: FieldSet, right: FieldSet) -> FieldSet | None:
    if not left:
        return None if is_member(right) else left
    if not right:
        if SELF not in left:
            return left
        return {element: node for element, node in left.items() if element != SELF}
    rest = difference(left, right)
    return (LEAF if rest == _ONLY_SELF else rest) if rest else None


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of both."""
    if left is right:
        return left
    made: FieldSet = {}
    for element, own in left.items():
        other = right.get(element)
        if other is None:
            continue
        shared = _intersection_node(own, other)
        if shared is not None:
            made[element] = shared
    return made


def _intersection_node(left: FieldSet, right: FieldSet) -> FieldSet | None:
    if left is right:
        return left
    if not left or not right:
        return LEAF if is_member(left) and is_member(right) else None
    shared = intersection(left, right)
    return (LEAF if shared == _ONLY_SELF else shared) if shared else None


def overlaps(left: FieldSet, right: FieldSet) -> bool:
    """Whether the intersection has members."""
    if left is right:
        return bool(left)
    if len(right) < len(left):
        left, right = right, left
    for element, own in left.items():
        other = right.get(element)
        if other is None:
            continue
        if not own or not other:
            if is_member(own) and is_member(other):
                return True
        elif overlaps(own, other):
            return True
    return False


def covers(whole: FieldSet, part: FieldSet) -> bool:
    """Whether every member of ``part`` is one of ``whole``."""
    if whole is part:
        return True
    for element, wanted in part.items():
        own = whole.get(element)
        if own is None:
            return False
        if own is wanted:
            continue
        if not own:
            if wanted:
                return False
        elif not wanted:
            if SELF not in own:
                return False
        elif not covers(own, wanted):
            return False
    return True


def exclude(fields: FieldSet, roots: FieldSet) -> FieldSet:
    """``fields`` without the members of ``roots`` and all that is below them."""
    made: FieldSet | None = None
    for element, root in roots.items():
        own = fields.get(element)
        if own is None or element == SELF:
            continue
        rest = None if is_member(root) else exclude(own, root) if own else own
        if rest is own:
            continue
        if made is None:
            made = dict(fields)
        if rest:
            made[element] = LEAF if rest == _ONLY_SELF else rest
        else:
            del made[element]
    return fields if made is None else made


def keep(fields: FieldSet, roots: FieldSet) -> FieldSet:
    """Only the members of ``fields`` at or below members of ``roots``."""
    made: FieldSet = {}
    for element, root in roots.items():
        own = fields.get(element)
        if own is None or element == SELF:
            continue
        rest = own if is_member(root) else keep(own, root)
        if rest or (rest is own and is_member(root)):
            made[element] = rest
    return made


def of(*paths: Path) -> FieldSet:
    """The set of these paths."""
    made = EMPTY
    for path in paths:
        node = LEAF
        for element in reversed(path):
            node = {element: node}
        made = union(made, node)
    return made


def members(fields: FieldSet, prefix: Path = ()) -> Iterator[Path]:
    """Every member, parents before children."""
    for element, node in fields.items():
        if element == SELF:
            continue
        path = (*prefix, element)
        if is_member(node):
            yield path
        if node:
            yield from members(node, path)


def in_order(fields: FieldSet) -> FieldSet:
    """The same set as upstream writes it: members before others' names, names by letters, keys by their values.

    Answers ``fields`` itself where it is so already, and shares all parts of it that are.
    """
    names = list(fields)
    wanted = sorted(names, key=place)
    parts = {name: in_order(node) if (node := fields[name]) else node for name in wanted}
    if names == wanted and all(parts[name] is fields[name] for name in names):
        return fields
    return parts


def place(element: str) -> tuple[Any, ...]:
    """What elements of one node are sorted by: ``PathElement.Less`` of structured-merge-diff."""
    kind = element[:1]
    if kind in ("k", "v", "i"):
        try:
            value = orjson.loads(element[2:])
        except orjson.JSONDecodeError:
            return kind, 0, (), element
        if isinstance(value, dict):
            return kind, 0, tuple((name, *_rank(value[name])) for name in sorted(value)), ""
        return kind, 1, _rank(value), ""
    return kind, 0, (), element


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers by size, then texts, then truth values, then all others as they are written."""
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, (int, float)):
        return 0, value
    if isinstance(value, str):
        return 1, value
    return 3, orjson.dumps(value)


def is_field_set(value: Any) -> bool:
    """Whether a client's ``fieldsV1`` is a well formed set."""
    if not isinstance(value, dict):
        return False
    return all(_is_element(element) and is_field_set(node) for element, node in value.items())


def _is_element(element: str) -> bool:
    if element == SELF:
        return True
    kind, value = element[:2], element[2:]
    if kind == "f:":
        return True
    if kind not in ("k:", "v:", "i:"):
        return False
    try:
        read = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    if kind == "k:":
        return isinstance(read, dict)
    return kind == "v:" or (isinstance(read, int) and not isinstance(read, bool))


def shown(path: Path) -> str:
    """A path as errors show it: ``.spec.containers[name="web"].image``."""
    return "".join(_shown_element(element) for element in path)


def _shown_element(element: str) -> str:
    kind, value = element[:2], element[2:]
    if kind == "f:":
        return f".{value}"
    if kind == "k:":
        keys = orjson.loads(value)
        return "[" + ",".join(f"{name}={orjson.dumps(keys[name]).decode()}" for name in sorted(keys)) + "]"
    return f"[={value}]" if kind == "v:" else f"[{value}]"
