"""Objects as Go compares them, and how two of them differ."""

from __future__ import annotations

import json
from typing import Any

_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


def plain(value: Any) -> Any:
    """*value* without what Go's semantic equality does not see: null and empty members."""
    if isinstance(value, dict):
        return {k: p for k, v in value.items() if (p := plain(v)) not in _EMPTY}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def differences(new: Any, old: Any, path: str) -> list[str]:
    """Lines ``-path: old`` and ``+path: new`` for what differs, so that the reader sees what was refused."""
    if new == old:
        return []
    if isinstance(new, dict) and isinstance(old, dict):
        found: list[str] = []
        for key in sorted({*new, *old}):
            found += differences(new.get(key), old.get(key), f"{path}.{key}")
        return found
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        found = []
        for i, (left, right) in enumerate(zip(new, old, strict=True)):
            found += differences(left, right, f"{path}[{i}]")
        return found
    return [f"{sign}{path}: {json.dumps(value)}" for sign, value in (("-", old), ("+", new)) if value is not None]
