"""Structural schemas as types of expressions, and values as such types.

Reference: k8s.io/apiserver ``pkg/cel/common/schemas.go``, ``pkg/cel/escaping.go``, ``pkg/cel/limits.go``.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orca.api.cel.errors import CelError
from orca.api.cel.libraries.times import parse_duration, parse_timestamp
from orca.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    ObjectType,
    Type,
    list_of,
    map_of,
)
from orca.api.cel.values import ListMap, ListSet, Timestamp

MAX_REQUEST = 3 * 1024 * 1024
"""Bytes of a request: what no list, map or string can exceed."""

_ESCAPABLE = re.compile(r"[A-Za-z_./-][A-Za-z0-9_./-]*")
_SPECIAL = re.compile(r"__|\.|-|/")
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_RESERVED = frozenset(
    (
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    )
)
_DATE_LENGTH, _DATETIME_MIN, _DATETIME_MAX = 10, 20, 35
_META = {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}
_ROOT_FIELDS = {"kind": {"type": "string"}, "apiVersion": {"type": "string"}, "metadata": _META}

Convert = Callable[[Any], Any]


@dataclass(slots=True)
class Declared:
    """What a schema says about a value.

    ``max_elements`` bounds its size, ``min_size`` is the least number of bytes it takes in JSON. ``convert`` makes
    the expression's value from the JSON value; None where both are the same.
    """

    type: Type
    max_elements: int = MAX_REQUEST
    min_size: int = 0
    element: Declared | None = None
    key: Declared | None = None
    fields: dict[str, Declared] = field(default_factory=dict)
    convert: Convert | None = None


def escape(name: str) -> str | None:
    """A property's name as expressions write it; None when they cannot."""
    if name in _RESERVED:
        return f"__{name}__"
    if not _ESCAPABLE.fullmatch(name):
        return None
    return _SPECIAL.sub(lambda match: _ESCAPES[match.group()], name)


def with_root_fields(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a whole object: apiVersion, kind, and of metadata name and generateName only."""
    properties = {**(schema.get("properties") or {}), **_ROOT_FIELDS}
    return {**schema, "type": "object", "properties": properties}


def declare_schema(schema: dict[str, Any], name: str = "selfType", *, root: bool = False) -> Declared | None:
    """The declaration of a structural schema; None for values that expressions cannot see.

    ``root``: the schema of a whole object. ``name`` is the type's name in messages.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return Declared(DYN, _limit(schema.get("maxLength"), 1), 1)
    kind = schema.get("type") or ""
    if root or schema.get("x-kubernetes-embedded-resource"):
        schema, kind = with_root_fields(schema), "object"
    if kind == "array":
        return _array(schema, name)
    if kind == "object":
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            return _map(schema, additional, name)
        return _object(schema, name)
    if kind == "string":
        return _string(schema)
    if kind == "boolean":
        return Declared(BOOL, 1, 4)
    if kind == "number":
        return Declared(DOUBLE, 1, 1, convert=_double)
    if kind == "integer":
        return Declared(INT, 1, 1)
    return None


def _limit(told: Any, smallest: int) -> int:
    return int(told) if isinstance(told, int) else MAX_REQUEST // max(smallest, 1)


def _array(schema: dict[str, Any], name: str) -> Declared | None:
    items = schema.get("items")
    element = declare_schema(items, f"{name}.@idx") if isinstance(items, dict) else None
    if element is None:
        return None
    # A comma after each element.
    limit = _limit(schema.get("maxItems"), element.min_size + 1)
    return Declared(list_of(element.type), limit, 2, element, convert=_array_convert(schema, element.convert))


def _array_convert(schema: dict[str, Any], inner: Convert | None) -> Convert | None:
    kind = schema.get("x-kubernetes-list-type")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        made = value if inner is None else [None if one is None else inner(one) for one in value]
        if kind == "set":
            return ListSet(made)
        return ListMap(made, keys) if kind == "map" else made

    return convert if inner is not None or kind in ("set", "map") else None


def _map(schema: dict[str, Any], additional: dict[str, Any], name: str) -> Declared | None:
    value = declare_schema(additional, f"{name}.@elem")
    if value is None:
        return None
    # Quotes, colon and comma around each entry.
    limit = _limit(schema.get("maxProperties"), value.min_size + 4)
    inner = value.convert

    def convert(values: Any) -> Any:
        if inner is None or not isinstance(values, dict):
            return values
        return {key: None if one is None else inner(one) for key, one in values.items()}

    key = Declared(STRING, MAX_REQUEST - 2, 2)
    return Declared(map_of(STRING, value.type), limit, 2, value, key, convert=convert if inner else None)


def _object(schema: dict[str, Any], name: str) -> Declared:
    required = set(schema.get("required") or ())
    fields: dict[str, Declared] = {}
    real: dict[str, str] = {}
    converts: dict[str, Convert] = {}
    smallest = 2
    for key, inner in (schema.get("properties") or {}).items():
        declared = declare_schema(inner, f"{name}.{key}")
        if declared is None:
            continue
        if declared.convert is not None:
            converts[key] = declared.convert
        written = escape(key)
        if written is None:
            continue
        fields[written] = declared
        if written != key:
            real[written] = key
        if key in required and "default" not in inner:
            smallest += len(key) + declared.min_size + 4

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        made = dict(value)
        for key, run in converts.items():
            found = made.get(key)
            if found is not None:
                made[key] = run(found)
        return made

    type_ = ObjectType(name, (), {key: one.type for key, one in fields.items()}, real)
    return Declared(type_, MAX_REQUEST, smallest, None, None, fields, convert if converts else None)


def _string(schema: dict[str, Any]) -> Declared:
    form = schema.get("format") or ""
    if form == "byte":
        return Declared(BYTES, _limit(schema.get("maxLength"), 1), 2, convert=_bytes)
    if form == "duration":
        return Declared(DURATION, _limit(schema.get("maxLength"), 1), 2, convert=_converted(parse_duration))
    if form == "date":
        return Declared(TIMESTAMP, _DATE_LENGTH, _DATE_LENGTH + 2, convert=_converted(_date))
    if form == "date-time":
        return Declared(TIMESTAMP, _DATETIME_MAX, _DATETIME_MIN + 2, convert=_converted(parse_timestamp))
    enum = [one for one in schema.get("enum") or () if isinstance(one, str)]
    if enum:
        longest = max(len(one) for one in enum)
        return Declared(STRING, longest, min(len(one) for one in enum) + 2)
    smallest = schema.get("minLength") or 0
    limit = schema.get("maxLength")
    if isinstance(limit, int):
        # A character may take four bytes, sizes are counted in bytes.
        return Declared(STRING, limit * 4, smallest + 2)
    return Declared(STRING, MAX_REQUEST - 2, smallest + 2)


def _date(text: str) -> Timestamp:
    return parse_timestamp(f"{text}T00:00:00Z")


def _double(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return b64decode(value)
    except (Base64Error, ValueError):
        return value


def _converted(parse: Callable[[str], Any]) -> Convert:
    """What does not parse stays a string: the schema's format says so elsewhere, and functions refuse it."""

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except CelError:
            return value

    return convert


__all__ = ["MAX_REQUEST", "Declared", "declare_schema", "escape", "with_root_fields"]
