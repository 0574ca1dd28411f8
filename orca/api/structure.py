"""Schema nodes one by one: what they are, their strict form for the compiler, Go's words for values that misfit."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orca.api import quantity
from orca.api.objects import Obj
from orca.api.times import format_micro, format_time, parse_time

REF = "#/$defs/"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
SCALARS = (INT_OR_STRING, QUANTITY, TIME, MICRO_TIME)
_DAY = (
    r"\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
)
# How times are stored. Others that mean one (offsets, fractions, a leap day) take the slow path and are rewritten.
_CANONICAL = {TIME: f"^{_DAY}Z$", MICRO_TIME: rf"^{_DAY}\.\d{{6}}Z$"}
_TIME_PATTERN = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d([.,]\d+)?([Zz]|[+-]\d\d:\d\d)$"
_BASE64_PATTERN = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


@dataclass(frozen=True, slots=True)
class Field:
    """One node of the schema, as patches need to know it.

    ``kind`` is ``struct`` (fixed fields), ``map``, ``list``, ``leaf`` or ``open`` (anything goes). ``definition`` names
    the definition it was made from, if any.
    """

    kind: str
    schema: Obj
    definition: str = ""
    merge_key: str = ""
    strategies: tuple[str, ...] = ()
    list_type: str = ""
    map_keys: tuple[str, ...] = ()
    map_type: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an object something is. Its paths are made when they are told: whoever sends the object chooses how long
    they are, and of how many things."""

    struct: str
    outer: "Place | None" = None
    step: str = ""
    go_step: str = ""

    @property
    def path(self) -> str:
        """As people name it: ``spec.ports[0].name``."""
        return "".join(reversed([place.step for place in self._outward()])).removeprefix(".")

    @property
    def go_path(self) -> str:
        """As Go's decoder names it, without indexes and keys of maps."""
        return "".join(reversed([place.go_step for place in self._outward()])).removeprefix(".")

    def child(self, name: str, in_map: bool = False) -> "Place":
        return Place(self.struct, self, f".{name}", "" if in_map else f".{name}")

    def item(self, index: int) -> "Place":
        return Place(self.struct, self, f"[{index}]")

    def inside(self, struct: str) -> "Place":
        return Place(struct or self.struct, self.outer, self.step, self.go_step)

    def _outward(self) -> Iterator["Place"]:
        place: Place | None = self
        while place is not None:
            yield place
            place = place.outer


@dataclass(frozen=True, slots=True)
class Problem:
    """A value of the wrong type, and what Go's decoder says of it; or a field that is ``unknown``, and where."""

    text: str
    unknown: Place | None
    parent: Obj
    key: str


def types_of(schema: Obj) -> set[str]:
    kinds = schema.get("type", [])
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    return found - {"null"}


def go_leaf(schema: Obj) -> str:
    kinds = types_of(schema)
    if "integer" in kinds:
        return schema.get("format", "int64")
    if "boolean" in kinds:
        return "bool"
    if "number" in kinds:
        return "float64"
    if schema.get("format") == "byte":
        return "[]uint8"
    return "string"


def go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def mismatch(value: Any, place: Place, expected: str, shown: str = "") -> str:
    got = shown or go_kind(value)
    if not place.go_path:
        return f"json: cannot unmarshal {got} into Go value of type {expected}"
    return f"json: cannot unmarshal {got} into Go struct field {place.struct}.{place.go_path} of type {expected}"


def leaf_problem(field: Field, value: Any, place: Place) -> str:
    if field.definition == INT_OR_STRING:
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return ""
        return mismatch(value, place, "intstr.IntOrString")
    if field.definition == QUANTITY:
        return _quantity_problem(value)
    if field.definition in (TIME, MICRO_TIME):
        return _time_problem(value, place)
    kinds = types_of(field.schema)
    expected = go_leaf(field.schema)
    if "integer" in kinds:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return mismatch(value, place, expected)
        low, high = _RANGES.get(expected, _RANGES["int64"])
        if value != int(value) or not low <= value <= high:
            return mismatch(value, place, expected, f"number {json.dumps(value)}")
        return ""
    if "boolean" in kinds:
        return "" if isinstance(value, bool) else mismatch(value, place, expected)
    if "number" in kinds:
        fine = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if fine else mismatch(value, place, expected)
    if not isinstance(value, str):
        return mismatch(value, place, expected)
    if field.schema.get("format") == "byte":
        return _base64_problem(value)
    return ""


def _quantity_problem(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return quantity.FORMAT_TEXT
    try:
        quantity.Quantity.parse(value)
    except ValueError:
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*", value):
            return "unable to parse quantity's suffix"
        return quantity.FORMAT_TEXT
    return ""


def _time_problem(value: Any, place: Place) -> str:
    if not isinstance(value, str):
        return mismatch(value, place, "string")
    if re.match(_TIME_PATTERN, value):
        try:
            parse_time(value)
        except (ValueError, OverflowError):
            return f'parsing time "{value}": day out of range'
        return ""
    return f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'


def canonical_time(field: Field, value: str) -> str:
    """A time as it is stored: UTC, in seconds or in microseconds."""
    return (format_micro if field.definition == MICRO_TIME else format_time)(parse_time(value))


def _base64_problem(value: str) -> str:
    for index, character in enumerate(value):
        if not re.match(r"[A-Za-z0-9+/=\r\n]", character):
            return f"illegal base64 data at input byte {index}"
    clean = re.sub(r"[\r\n]", "", value)
    if len(clean) % 4 or not re.match(_BASE64_PATTERN, clean):
        return f"illegal base64 data at input byte {max(len(clean) - len(clean) % 4, 0)}"
    return ""


def strict(name: str, definition: Obj) -> Obj:
    if name == INT_OR_STRING:
        return {"type": ["string", "integer", "null"]}
    if name == QUANTITY:
        return {"type": ["string", "number", "null"], "pattern": quantity.PATTERN}
    if name in (TIME, MICRO_TIME):
        return {"type": ["string", "null"], "pattern": _CANONICAL[name]}
    return _strict_node(definition)


def _strict_node(schema: Obj) -> Obj:
    if "$ref" in schema:
        # A reference may be null; the targets themselves all allow it.
        return {"$ref": schema["$ref"]}
    found: Obj = {}
    if "type" in schema:
        kinds = types_of(schema)
        found["type"] = [*sorted(kinds), "null"]
        if "integer" in kinds:
            found["minimum"], found["maximum"] = _RANGES.get(schema.get("format", ""), _RANGES["int64"])
        if schema.get("format") == "byte" and "string" in kinds:
            found["pattern"] = _BASE64_PATTERN
    if "properties" in schema:
        found["properties"] = {key: _strict_node(value) for key, value in schema["properties"].items()}
        found["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _strict_node(schema["additionalProperties"])
    if isinstance(schema.get("items"), dict):
        found["items"] = _strict_node(schema["items"])
    return found


def references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        found = [schema["$ref"].removeprefix(REF)] if isinstance(schema.get("$ref"), str) else []
        return found + [name for key, value in schema.items() if key != "$ref" for name in references(value)]
    return []
