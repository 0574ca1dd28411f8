"""The definitions of built-in kinds as they are kept in memory: what is equal in them is there once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from orca.api import metricsapi
from orca.api.objects import Obj

_FOLDER = "kubernetes-json-schema"
_FILE = "v1.36.0-local/_definitions.json"


def read() -> dict[str, Obj]:
    """Name -> JSON Schema with upstream's ``x-kubernetes-*`` extensions; frozen, as their parts are shared."""
    # The package's data without its code, which would load a second validator.
    package = find_spec("kubernetes_validate")
    assert package is not None
    assert package.origin is not None
    raw = Path(package.origin).with_name(_FOLDER).joinpath(_FILE).read_bytes()
    known: dict[str, Obj] = orjson.loads(raw)["$defs"] | metricsapi.DEFINITIONS
    seen: dict[Any, Any] = {}
    for name, definition in known.items():
        known[name] = _once(definition, seen)
    return known


def _once(value: Any, seen: dict[Any, Any]) -> Any:
    """An equal value that was seen before, or this one, whose parts become such: in place, for what was read takes
    twice the room of what is kept."""
    if value.__class__ is dict:
        for key, inner in value.items():
            value[key] = _once(inner, seen)
        # What it is made of is there once, and stays: equal parts are the same.
        return seen.setdefault((*value, *map(id, value.values())), value)
    if value.__class__ is list:
        value[:] = [_once(inner, seen) for inner in value]
        return seen.setdefault((list, *map(id, value)), value)
    return seen.setdefault((value.__class__, value), value)
