"""Applied configuration: is it well formed, what does it own, what does it make of the live object.

Reference: sigs.k8s.io/structured-merge-diff ``typed`` (validate, tofieldset, merge, remove).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orca.api.fields.sets import EMPTY, LEAF, SELF, FieldSet, is_member, shown
from orca.api.fields.types import OPEN, Node

_KEYED = "associative list with keys"


def problems(node: Node, value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """What is wrong with an applied configuration: undeclared fields, items without identity or with the same one."""
    if value is None or node.kind == "leaf":
        return
    if node.kind == "list":
        if value.__class__ is list:
            yield from _list_problems(node, value, path)
        else:
            yield f"{shown(path)}: expected list, got {_described(value)}"
        return
    if value.__class__ is not dict:
        if node.kind != "open":
            yield f"{shown(path)}: expected map, got {_described(value)}"
        return
    for name, inner in value.items():
        child = node.child(name)
        below = (*path, "f:" + name)
        if child is None:
            yield f"{shown(below)}: field not declared in schema"
        else:
            yield from problems(child, inner, below)


def _described(value: Any) -> str:
    return f"&{{{value}}}"


def _list_problems(node: Node, items: list[Any], path: tuple[str, ...]) -> Iterator[str]:
    seen = set()
    for index, item in enumerate(items):
        element = node.element(item)
        if element is None:
            yield f"{shown(path)}: element {index}: {_without_identity(node, item)}"
        elif element in seen:
            yield f"{shown(path)}: duplicate entries for key {shown((element,))}"
        else:
            seen.add(element)
            yield from problems(node.item or OPEN, item, (*path, element))


def _without_identity(node: Node, item: Any) -> str:
    if not node.keys:
        form = "null" if item is None else "a map" if item.__class__ is dict else "a list"
        return f"associative list without keys has an element that's {form} type"
    if item is None:
        return f"{_KEYED} may not have a null element"
    if item.__class__ is not dict:
        return f"{_KEYED} may not have non-map elements"
    return f'{_KEYED} has an element that omits key field "{node.keys[0]}" (and doesn\'t have default value)'


def owned(node: Node, value: Any) -> FieldSet:
    """The set of fields a configuration names. Structs are not named themselves, only what they hold."""
    if value.__class__ is not dict:
        return EMPTY
    found: FieldSet = {}
    for name, inner in value.items():
        child = node.child(name) or OPEN
        sub = _owned_below(child, inner)
        member = sub is None or inner is None or inner == {} or not node.declares(name)
        if sub:
            found["f:" + name] = {SELF: LEAF, **sub} if member else sub
        elif member:
            found["f:" + name] = LEAF
    return found


def _owned_below(node: Node, value: Any) -> FieldSet | None:
    """What is inside; None for a leaf."""
    if node.kind == "leaf" or (node.kind == "open" and value.__class__ is not dict):
        return None
    if value.__class__ is dict and node.kind != "list":
        return owned(node, value)
    if value.__class__ is list and node.kind == "list":
        found: FieldSet = {}
        for item in value:
            element = node.element(item)
            if element is None:
                continue
            sub = _owned_below(node.item or OPEN, item)
            found[element] = {SELF: LEAF, **sub} if sub else LEAF
        return found
    return EMPTY


def named(node: Node, fields: FieldSet) -> FieldSet:
    """``fields`` with the structs on the way to its members, so that what empties a struct takes it along."""
    found: FieldSet = {}
    for element, sub in fields.items():
        if element == SELF or not sub:
            found[element] = sub
            continue
        child = (node.item if node.kind == "list" else node.child(element[2:])) or OPEN
        inner = named(child, sub)
        if element.startswith("f:") and node.declares(element[2:]) and SELF not in inner:
            inner = {SELF: LEAF, **inner}
        found[element] = inner
    return found


def merge(node: Node, live: Any, config: Any) -> Any:
    """``live`` with what ``config`` says; shares parts with both, changes neither."""
    if node.kind == "leaf":
        return config
    if node.kind == "list":
        if config.__class__ is list and config and live.__class__ is list and live:
            return _merge_lists(node, live, config)
        return live if not config and live else config
    if config.__class__ is dict and live.__class__ is dict:
        made = dict(live)
        for name, value in config.items():
            made[name] = merge(node.child(name) or OPEN, live[name], value) if name in live else value
        return made
    if node.kind != "open" and not config and live:
        return live
    return config


def _merge_lists(node: Node, live: list[Any], config: list[Any]) -> list[Any]:
    """Items of ``config`` in their order; those only ``live`` has stay where they stood between common ones."""
    item = node.item or OPEN
    left, right = _by_element(node, live), {element: values[0] for element, values in _by_element(node, config).items()}
    left_order, right_order = list(left), list(right)
    shared = iter([element for element in right_order if element in left])
    following = next(shared, None)
    made: list[Any] = []

    def take(element: str) -> None:
        made.append(merge(item, left[element][0], right[element]) if element in left else right[element])

    i = j = 0
    while i < len(left_order) or j < len(right_order):
        if i < len(left_order) and j < len(right_order):
            element = left_order[i]
            if element == right_order[j]:
                take(element)
                i, j = i + 1, j + 1
                following = next(shared, None)
                continue
            if element in right and following is not None and following != element:
                i += 1  # common, but its turn comes later
                continue
        if i < len(left_order) and left_order[i] not in right:
            made += left[left_order[i]]
            i += 1
            continue
        if j < len(right_order):
            element = right_order[j]
            take(element)
            j += 1
            if following == element:
                following = next(shared, None)
            continue
        i += 1  # taken already with its counterpart
    return made


def _by_element(node: Node, items: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for index, item in enumerate(items):
        found.setdefault(node.element(item) or f"i:{index}", []).append(item)
    return found


_GONE = object()


def remove(node: Node, value: Any, fields: FieldSet, *, emptied: bool = False) -> Any:
    """``value`` without the members of ``fields``; what becomes empty by it goes too, or with ``emptied`` stays as
    null: still a member, though nothing is in it."""
    rest = _remove(node, value, fields, emptied)
    return {} if rest is _GONE else rest


def _remove(node: Node, value: Any, fields: FieldSet, emptied: bool) -> Any:
    if node.kind == "leaf" or not fields or not value:
        return value
    if value.__class__ is dict and node.kind != "list":
        made = {}
        for name, inner in value.items():
            sub = fields.get("f:" + name)
            if sub is None:
                made[name] = inner
            elif not is_member(sub):
                rest = _remove(node.child(name) or OPEN, inner, sub, emptied)
                if rest is not _GONE:
                    made[name] = rest
                elif emptied:
                    made[name] = None
        return made or _GONE
    if value.__class__ is list and node.kind == "list":
        kept = []
        for item in value:
            sub = fields.get(node.element(item) or "")
            if sub is None:
                kept.append(item)
            elif not is_member(sub):
                rest = _remove(node.item or OPEN, item, sub, emptied)
                kept.append({} if rest is _GONE else rest)
        return kept or _GONE
    return value
