"""What a set of fields has at a path."""

from __future__ import annotations

from orca.api.fields.sets import FieldSet, Path, is_member


def has(fields: FieldSet, path: Path) -> bool:
    """Whether ``path`` is a member."""
    node = fields
    for element in path:
        found = node.get(element)
        if found is None:
            return False
        node = found
    return bool(path) and is_member(node)


def below(fields: FieldSet, path: Path) -> FieldSet | None:
    """The node at ``path``; None when the set has nothing there."""
    node: FieldSet | None = fields
    for element in path:
        if node is None:
            return None
        node = node.get(element)
    return node
