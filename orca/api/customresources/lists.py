"""Lists of type ``set`` and ``map`` hold nothing twice.

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/listtype``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from orca.api.customresources.places import Path, member, told
from orca.api.customresources.places import item as item_at
from orca.api.customresources.structural import Structural
from orca.api.errors import FieldError


def check(value: Any, schema: Structural) -> list[FieldError]:
    """A Duplicate error for each item that is there already."""
    return told(_check(value, schema, ""))


def _check(value: Any, schema: Structural, path: Path) -> Iterator[FieldError]:
    if not schema.unique:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            below = schema.member(name)
            if below is not None and below.unique:
                yield from _check(inner, below, (member if name in schema.properties else item_at)(path, name))
    elif isinstance(value, list) and schema.items is not None:
        if schema.list_type == "set":
            yield from _repeated([(item, item) for item in value], path)
        elif schema.list_type == "map":
            yield from _repeated([_identity(item, schema) for item in value], path)
        for index, item in enumerate(value):
            yield from _check(item, schema.items, item_at(path, index))


def _identity(item: Any, schema: Structural) -> tuple[Any, Any]:
    """What tells an item from others, and how errors show it. Keys left out have their default's value."""
    if not isinstance(item, dict):
        return item, item
    shown = {}
    for key in schema.list_keys:
        known = schema.items.properties.get(key) if schema.items is not None else None
        if item.get(key) is not None:
            shown[key] = item[key]
        elif known is not None and known.has_default:
            shown[key] = known.default
    return shown, shown


def _repeated(identities: list[tuple[Any, Any]], path: Path) -> Iterator[FieldError]:
    seen: set[bytes] = set()
    named: set[bytes] = set()
    for index, (identity, shown) in enumerate(identities):
        key = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        if key in seen and key not in named:
            named.add(key)
            yield FieldError.duplicate(f"{path}[{index}]", shown)
        seen.add(key)
