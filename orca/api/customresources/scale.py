"""What the Scale of a custom object is read from: numbers and a text, or the object is wrong.

Reference: k8s.io/apiextensions-apiserver ``pkg/registry/customresource/validator.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from orca.api.errors import FieldError
from orca.api.objects import Obj

if TYPE_CHECKING:
    from orca.api.strategy import ScalePaths

_MOST = 2**31 - 1


def check(obj: Obj, paths: ScalePaths, subresource: str = "") -> list[FieldError]:
    """Errors at the paths of a scale subresource; a write of the status is not judged by the spec."""
    found = [] if subresource == "status" else _replicas(obj, paths.spec)
    found += _replicas(obj, paths.status)
    if paths.selector:
        value, problem = _at(obj, paths.selector)
        if not problem and value is not None and not isinstance(value, str):
            problem = _unlike(paths.selector, value, "string")
        if problem:
            found.append(FieldError.invalid(_shown(paths.selector), "", problem))
    return found


def _replicas(obj: Obj, steps: Sequence[str]) -> list[FieldError]:
    value, problem = _at(obj, steps)
    if not problem and value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        problem = _unlike(steps, value, "int64")
    if problem:
        value = 0
    elif value is None:
        return []
    elif value < 0:
        problem = "should be a non-negative integer"
    elif value > _MOST:
        problem = f"should be less than or equal to {_MOST}"
    return [FieldError.invalid(_shown(steps), value, problem)] if problem else []


def _at(obj: Obj, steps: Sequence[str]) -> tuple[Any, str]:
    """(the value at the end, None when it is missing; why the way to it is none)."""
    value: Any = obj
    for index, step in enumerate(steps):
        if value is None:
            return None, ""
        if not isinstance(value, dict):
            return None, _unlike(steps[: index + 1], value, "map[string]interface{}")
        value = value.get(step)
    return value, ""


def _unlike(steps: Sequence[str], value: Any, wanted: str) -> str:
    return f"{_shown(steps)} accessor error: {_text(value)} is of the type {_go_type(value)}, expected {wanted}"


def _shown(steps: Sequence[str]) -> str:
    return "." + ".".join(steps)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _go_type(value: Any) -> str:
    """What upstream's messages call a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "int64" if isinstance(value, int) else "float64"
    if isinstance(value, str):
        return "string"
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"
