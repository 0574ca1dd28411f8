"""Schema definitions as the two OpenAPI versions write them.

``kubernetes-validate`` writes JSON Schema (nullable types, ``$defs``); OpenAPI v2 knows no ``oneOf``, v3 no siblings of
``$ref``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orca.api.objects import Obj
from orca.api.schema import SCHEMA
from orca.api.structure import REF

INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
V2_PREFIX = "#/definitions/"
V3_PREFIX = "#/components/schemas/"
_GVK = "x-kubernetes-group-version-kind"
_DROPPED = frozenset({"$schema", "$id", "additionalProperties"})


def referenced(roots: Iterable[str]) -> list[str]:
    """The definitions ``roots`` and all they refer to, sorted; unknown names are left out."""
    found: set[str] = set()
    todo = [name for name in roots if name in SCHEMA.definitions]
    while todo:
        current = todo.pop()
        if current in found:
            continue
        found.add(current)
        todo += _references(SCHEMA.definitions[current])
    return sorted(found)


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    if not isinstance(value, dict):
        return []
    reference = value.get("$ref")
    own = [reference.removeprefix(REF)] if isinstance(reference, str) else []
    return own + [name for item in value.values() for name in _references(item)]


def v2_definition(name: str) -> Obj:
    """One definition for Swagger 2."""
    if name == INT_OR_STRING:
        return {
            "description": SCHEMA.definition(name).get("description", ""),
            "type": "string",
            "format": "int-or-string",
        }
    if name == QUANTITY:
        return {"description": SCHEMA.definition(name).get("description", ""), "type": "string"}
    schema = SCHEMA.definition(name)
    if _GVK in schema and schema.get("x-kubernetes-preserve-unknown-fields"):
        # A kind that may hold anything says nothing else: old kubectls would take what is said for all there is.
        return {"type": "object", _GVK: schema[_GVK]}
    return _convert(schema, _v2_reference, keep_alternatives=False)


def v3_definition(name: str) -> Obj:
    """One definition for OpenAPI 3."""
    if name == INT_OR_STRING:
        alternatives = [{"type": "integer"}, {"type": "string"}]
        return {"oneOf": alternatives, "format": "int-or-string"}
    if name == QUANTITY:
        alternatives = [{"type": "string"}, {"type": "number"}]
        return {"description": SCHEMA.definition(name).get("description", ""), "oneOf": alternatives}
    return _convert(SCHEMA.definition(name), _v3_reference, keep_alternatives=True)


def _v2_reference(schema: Obj) -> Obj:
    return {**schema, "$ref": V2_PREFIX + schema["$ref"].removeprefix(REF)}


def _v3_reference(schema: Obj) -> Obj:
    target = {"$ref": V3_PREFIX + schema["$ref"].removeprefix(REF)}
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    return {**rest, "allOf": [target]} if rest else target


def _plainer(schema: Obj) -> Obj:
    """Version 2 cannot say that null or unknown fields are allowed, so it says less."""
    if schema.get("nullable"):
        hidden = {"nullable", "type", "items", "properties", "additionalProperties", "required"}
        return {key: value for key, value in schema.items() if key not in hidden}
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        # Old kubectls take an object without properties for one of values that are never null, and know no array
        # without items: without a type they look no further.
        hidden = {"items", "properties"} | ({"type"} if schema.get("type") in ("object", "array") else set())
        return {key: value for key, value in schema.items() if key not in hidden}
    nullable = {name for name, item in schema.get("properties", {}).items() if item.get("nullable")}
    if nullable.intersection(schema.get("required", ())):
        required = [name for name in schema["required"] if name not in nullable]
        rest = {key: value for key, value in schema.items() if key != "required"}
        return {**rest, "required": required} if required else rest
    return schema


def _convert(schema: Obj, reference: Callable[[Obj], Obj], *, keep_alternatives: bool) -> Obj:
    if "$ref" in schema:
        return reference(schema)
    if not keep_alternatives:
        schema = _plainer(schema)
    made: Obj = {}
    for key, value in schema.items():
        if key == "type":
            types = [value] if isinstance(value, str) else [one for one in value if one != "null"]
            if types:
                made["type"] = types[0]
        elif key == "properties":
            made[key] = {
                name: _convert(item, reference, keep_alternatives=keep_alternatives) for name, item in value.items()
            }
        elif (key == "items" and isinstance(value, dict)) or (
            key == "additionalProperties" and isinstance(value, dict)
        ):
            made[key] = _convert(value, reference, keep_alternatives=keep_alternatives)
        elif key in ("oneOf", "anyOf", "allOf", "not"):
            if keep_alternatives:
                made[key] = (
                    [_convert(one, reference, keep_alternatives=True) for one in value]
                    if isinstance(value, list)
                    else _convert(value, reference, keep_alternatives=True)
                )
        elif key == "enum":
            made[key] = [one for one in value if one is not None]
        elif key not in _DROPPED:
            made[key] = value
    # apiVersion and kind carry one-value enums in the data; upstream's documents do not.
    for name in ("apiVersion", "kind"):
        field = made.get("properties", {}).get(name)
        if field is not None and _GVK in made:
            field.pop("enum", None)
    return made
