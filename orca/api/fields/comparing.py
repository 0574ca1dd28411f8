"""What differs between two objects, as field sets: added, modified, removed.

Only subtrees that differ are walked; equal ones are skipped at the speed of ``==``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orca.api.fields.sets import EMPTY, LEAF, SELF, FieldSet, is_member, union
from orca.api.fields.shapes import added, filled
from orca.api.fields.types import OPEN, Node
from orca.api.objects import same_if_equal

Sides = tuple[FieldSet | None, FieldSet | None, FieldSet | None]
"""(added, modified, removed) nodes of one place; None where nothing is."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Fields that appeared, changed, disappeared."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet

    @property
    def written(self) -> FieldSet:
        """Fields whose new value somebody has to own."""
        return union(self.added, self.modified)

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed)


NOTHING = Comparison(EMPTY, EMPTY, EMPTY)


def compare(node: Node, old: Any, new: Any, ignored: FieldSet = EMPTY) -> Comparison:
    """``ignored`` fields and all below them count as equal."""
    plus, changed, minus = _mappings(node, old, new, ignored)
    if plus is None and changed is None and minus is None:
        return NOTHING
    return Comparison(plus or EMPTY, changed or EMPTY, minus or EMPTY)


def _same(node: Node, left: Any, right: Any) -> bool:
    return left == right and (node.typed or same_if_equal(left, right))


def _differ(node: Node, old: Any, new: Any, ignored: FieldSet) -> Sides:
    """Both are there and not equal."""
    kind = node.kind
    if kind == "leaf" or (not old and not new):
        return None, LEAF, None
    if kind == "list":
        if _is(list, old) and _is(list, new):
            return _lists(node, old or [], new or [])
        return None, LEAF, None
    old_maps, new_maps = _is(dict, old), _is(dict, new)
    if old_maps and new_maps:
        return _mappings(node, old or {}, new or {}, ignored)
    # An open value that turned from one form into another: the place changed, and so did all below it.
    plus = _inside(added(node, new)) if new_maps and new else None
    minus = _inside(added(node, old)) if old_maps and old else None
    return plus, LEAF, minus


def _is(form: type, value: Any) -> bool:
    return value is None or value.__class__ is form


def _inside(fields: FieldSet) -> FieldSet | None:
    rest = {element: node for element, node in fields.items() if element != SELF}
    return rest or None


def _mappings(node: Node, old: dict[str, Any], new: dict[str, Any], ignored: FieldSet) -> Sides:
    plus: FieldSet = {}
    changed: FieldSet = {}
    minus: FieldSet = {}
    for name, value in new.items():
        if name in old:
            before = old[name]
            below = None
            if ignored:
                below = ignored.get("f:" + name)
                if below is not None and is_member(below):
                    continue
            # Spelled out, as this is the loop that every write of anything runs through.
            if before is value or (before == value and (node.typed or same_if_equal(before, value))):
                continue
            element = "f:" + name
            more, other, less = _differ(node.child(name) or OPEN, before, value, below or EMPTY)
            if more is not None:
                plus[element] = more
            if other is not None:
                changed[element] = other
            if less is not None:
                minus[element] = less
        else:
            _one_sided(node, name, value, ignored, plus)
    if len(old) + len(plus) != len(new) or ignored:
        for name, value in old.items():
            if name not in new:
                _one_sided(node, name, value, ignored, minus)
    return plus or None, changed or None, minus or None


def _one_sided(node: Node, name: str, value: Any, ignored: FieldSet, into: FieldSet) -> None:
    """A member only one side has."""
    element = "f:" + name
    below = ignored.get(element) if ignored else None
    if below is not None and is_member(below):
        return
    child = node.child(name) or OPEN
    if name in node.by_value and child.kind == "struct":
        inside = filled(child, value, below or EMPTY)
        if inside:
            into[element] = inside
    else:
        into[element] = added(child, value)


def _lists(node: Node, old: list[Any], new: list[Any]) -> Sides:
    item = node.item or OPEN
    if len(old) == len(new):
        inside = _in_step(node, item, old, new)
        if inside is not None:
            return inside
    before, after = _indexed(node, old), _indexed(node, new)
    plus: FieldSet = {}
    changed: FieldSet = {}
    minus: FieldSet = {}
    for element, values in after.items():
        others = before.get(element)
        if others is None:
            plus[element] = added(item, values[0]) if len(values) == 1 else LEAF
        elif len(values) > 1 and len(others) > 1:
            if not _same(item, values, others):
                changed[element] = LEAF
        elif len(values) > 1:
            plus[element] = LEAF
            minus[element] = added(item, others[0])
        elif len(others) > 1:
            plus[element] = added(item, values[0])
            minus[element] = LEAF
        elif not _same(item, others[0], values[0]):
            more, other, less = _differ(item, others[0], values[0], EMPTY)
            if more is not None:
                plus[element] = more
            if other is not None:
                changed[element] = other
            if less is not None:
                minus[element] = less
    for element, values in before.items():
        if element not in after:
            minus[element] = added(item, values[0]) if len(values) == 1 else LEAF
    return plus or None, changed or None, minus or None


def _in_step(node: Node, item: Node, old: list[Any], new: list[Any]) -> Sides | None:
    """The common case: the same items in the same order, some of which changed inside. None when it is not that."""
    plus: FieldSet = {}
    changed: FieldSet = {}
    minus: FieldSet = {}
    seen = set()
    for before, after in zip(old, new, strict=True):
        element = node.element(after)
        if element is None or element in seen or node.element(before) != element:
            return None
        seen.add(element)
        if before is after or (before == after and (item.typed or same_if_equal(before, after))):
            continue
        more, other, less = _differ(item, before, after, EMPTY)
        if more is not None:
            plus[element] = more
        if other is not None:
            changed[element] = other
        if less is not None:
            minus[element] = less
    return plus or None, changed or None, minus or None


def _indexed(node: Node, items: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for item in items:
        element = node.element(item)
        if element is not None:
            found.setdefault(element, []).append(item)
    return found
