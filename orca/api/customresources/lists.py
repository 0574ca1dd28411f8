"""Lists of type ``set`` and ``map`` hold nothing twice.

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/listtype``.
"""

from __future__ import annotations

from typing import Any

import orjson

from orca.api.customresources.structural import Structural
from orca.api.errors import FieldError


def check(value: Any, schema: Structural, path: str = "") -> list[FieldError]:
    """A Duplicate error for each item that is there already."""
    if not schema.unique:
        return []
    found: list[FieldError] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            below = schema.member(name)
            if below is not None and below.unique:
                at = f"{path}.{name}" if name in schema.properties else f"{path}[{name}]"
                found += check(inner, below, at.removeprefix("."))
    elif isinstance(value, list) and schema.items is not None:
        if schema.list_type == "set":
            found += _repeated([(item, item) for item in value], path)
        elif schema.list_type == "map":
            found += _repeated([_identity(item, schema) for item in value], path)
        for index, item in enumerate(value):
            found += check(item, schema.items, f"{path}[{index}]")
    return found


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


def _repeated(identities: list[tuple[Any, Any]], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[bytes] = set()
    told: set[bytes] = set()
    for index, (identity, shown) in enumerate(identities):
        key = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        if key in seen and key not in told:
            told.add(key)
            found.append(FieldError.duplicate(f"{path}[{index}]", shown))
        seen.add(key)
    return found
