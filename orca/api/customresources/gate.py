"""Schemas compiled: two fast answers, so that objects that are in order are never walked in Python.

``shape`` says whether decoding would change anything, ``values`` whether validation would find anything. Both speak
JSON Schema and are about a microsecond a kilobyte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema_rs

from orca.api import patterns
from orca.api.customresources import formats
from orca.api.customresources.structural import EMBEDDED, INT_OR_STRING, META_FIELDS, PRESERVE
from orca.api.objects import Obj

_COPIED = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf")
_RANGES = {"int32": (-(2**31), 2**31 - 1)}


def values(schema: Obj) -> Any:
    """A validator of everything ``values.check`` checks; None when the library cannot compile the schema."""
    checks: _Checks = dict(formats.CHECKS)
    try:
        return jsonschema_rs.Draft202012Validator(
            _values(schema, checks), formats=checks, validate_formats=True, offline=True
        )
    except (ValueError, jsonschema_rs.ValidationError):
        return None


_Checks = dict[str, Callable[[str], bool]]


def _values(schema: Obj, checks: _Checks) -> Obj:
    """`checks` gets one for each pattern: the library's own have the syntax of another language."""
    found: Obj = {}
    kinds = ["integer", "string"] if schema.get(INT_OR_STRING) else [schema["type"]] if schema.get("type") else []
    nullable = bool(schema.get("nullable")) and bool(kinds)
    if kinds:
        found["type"] = [*kinds, "null"] if nullable else kinds
    for key in _COPIED:
        if schema.get(key) is not None:
            found[key] = schema[key]
    if schema.get("required"):
        found["required"] = schema["required"]
    if schema.get("enum"):
        found["enum"] = schema["enum"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if schema.get(bound) is not None:
            found[exclusive if schema.get(exclusive) else bound] = schema[bound]
    told = schema.get("format")
    if told in formats.CHECKS and ("string" in kinds or not kinds):
        found["format"] = told
    elif told in _RANGES and ("integer" in kinds or not kinds):
        low, high = _RANGES[told]
        found["allOf"] = [{"minimum": low, "maximum": high}]
    if schema.get("pattern"):
        key = f"pattern {schema['pattern']}"
        checks[key] = patterns.matcher(schema["pattern"])
        found["allOf"] = [*found.get("allOf", ()), {"format": key}]
    if schema.get("properties"):
        found["properties"] = {name: _values(inner, checks) for name, inner in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _values(schema["additionalProperties"], checks)
    if isinstance(schema.get("items"), dict):
        found["items"] = _values(schema["items"], checks)
    for junctor in ("allOf", "anyOf", "oneOf"):
        if schema.get(junctor):
            found[junctor] = [*found.get(junctor, ()), *(_values(inner, checks) for inner in schema[junctor])]
    if schema.get("not") is not None:
        found["not"] = _values(schema["not"], checks)
    return found


def shape(schema: Obj) -> Any:
    """A validator that passes only objects without unknown fields and without nulls where they are not allowed."""
    return jsonschema_rs.Draft202012Validator(_shape(schema, root=True), offline=True)


def _shape(schema: Obj, *, root: bool = False) -> Any:
    if not schema.get("properties") and not schema.get("items") and "additionalProperties" not in schema:
        if schema.get(EMBEDDED) or root or schema.get("type") in ("object", "array", None):
            return _leaf_shape(schema, root=root)
        return _SCALAR if schema.get("nullable") else _SCALAR_NOT_NULL
    found: Obj = {} if schema.get("nullable") else {"not": {"type": "null"}}
    members = {name: _shape(inner) for name, inner in (schema.get("properties") or {}).items()}
    if root or schema.get(EMBEDDED):
        members |= dict.fromkeys(META_FIELDS, True)
    found["properties"] = members
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        found["additionalProperties"] = _shape(additional)
    elif additional:
        # True keeps members, and prunes inside them: only what has no inside passes.
        found["additionalProperties"] = _SCALAR
    else:
        found["additionalProperties"] = bool(schema.get(PRESERVE))
    if isinstance(schema.get("items"), dict):
        found["items"] = _shape(schema["items"])
    else:
        found["items"] = _SCALAR  # a list where none belongs: what its members hold is unknown
    return found


_SCALAR: Obj = {"type": ["string", "number", "boolean", "null"]}
_SCALAR_NOT_NULL: Obj = {"type": ["string", "number", "boolean"]}


def _leaf_shape(schema: Obj, *, root: bool) -> Any:
    """A node of which no member is described."""
    found: Obj = {} if schema.get("nullable") else {"not": {"type": "null"}}
    if schema.get(PRESERVE):
        return found or True
    if root or schema.get(EMBEDDED):
        found["properties"] = dict.fromkeys(META_FIELDS, True)
    found["additionalProperties"] = False
    found["items"] = _SCALAR
    return found
