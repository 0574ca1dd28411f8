"""Defaults of custom kinds, from their schema.

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/defaulting``.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from orca.api.customresources.structural import Structural


def fill(value: Any, schema: Structural) -> None:
    """Set what is missing, or null where null is not allowed, in place; defaults are filled in turn."""
    if not schema.defaults:
        return
    if isinstance(value, dict):
        for name, known in schema.properties.items():
            if known.has_default and (name not in value or (value[name] is None and not known.nullable)):
                value[name] = deepcopy(known.default)
        for name, inner in value.items():
            below = schema.member(name)
            if below is None or not below.defaults:
                continue
            if inner is None and not below.nullable and below.has_default:
                value[name] = deepcopy(below.default)
            fill(value[name], below)
    elif isinstance(value, list) and schema.items is not None:
        for index, item in enumerate(value):
            if item is None and not schema.items.nullable and schema.items.has_default:
                value[index] = deepcopy(schema.items.default)
            fill(value[index], schema.items)


def is_complete(value: Any, schema: Structural) -> bool:
    """Whether :func:`fill` would change nothing."""
    if not schema.defaults:
        return True
    if isinstance(value, dict):
        for name, known in schema.properties.items():
            if known.has_default and (name not in value or (value[name] is None and not known.nullable)):
                return False
        for name, inner in value.items():
            below = schema.member(name)
            if below is None or not below.defaults:
                continue
            if (inner is None and not below.nullable and below.has_default) or not is_complete(inner, below):
                return False
    elif isinstance(value, list) and schema.items is not None:
        items = schema.items
        for item in value:
            if (item is None and not items.nullable and items.has_default) or not is_complete(item, items):
                return False
    return True
