"""Structural schemas as generators for operators make them: built-in types written out, without references."""

from __future__ import annotations

from typing import Any

from orca.api.schema import SCHEMA
from orca.api.structure import INT_OR_STRING, QUANTITY, REF, types_of

_KEPT = ("description", "format", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type")


def written_out(definition: str) -> dict[str, Any]:
    """The definition as a structural schema."""
    return _node({"$ref": REF + definition}, 0)


def _node(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix(REF)
    if name in (INT_OR_STRING, QUANTITY):
        return {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    target = {**SCHEMA.definitions[name], **schema} if name else schema
    made = {key: target[key] for key in _KEPT if key in target}
    kinds = types_of(target) or {"object"}
    if "properties" in target and depth < 12:
        made["type"] = "object"
        made["properties"] = {key: _node(inner, depth + 1) for key, inner in target["properties"].items()}
        if target.get("required"):
            made["required"] = target["required"]
    elif "array" in kinds:
        made["type"] = "array"
        made["items"] = _node(target["items"], depth + 1)
        _complete_keys(made)
    elif isinstance(target.get("additionalProperties"), dict):
        made["type"] = "object"
        made["additionalProperties"] = _node(target["additionalProperties"], depth + 1)
    elif kinds == {"object"}:
        made |= {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    else:
        made["type"] = sorted(kinds)[0]
    return made


def _complete_keys(made: dict[str, Any]) -> None:
    """Keys of list maps are required or have a default, which built-in types have elsewhere."""
    items = made["items"]
    for key in made.get("x-kubernetes-list-map-keys") or ():
        if key not in items.get("required", ()) and key in items.get("properties", {}):
            items["properties"][key]["default"] = "TCP" if key == "protocol" else ""
