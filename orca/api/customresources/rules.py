"""Is a schema structural? Are its lists, maps and defaults well said? Errors at the fields of the schema.

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/{validation,complete}.go``, ``schema/defaulting`` and
``pkg/apis/apiextensions/validation`` (ValidateCustomResourceDefinitionOpenAPISchema).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final

from orca.api import patterns
from orca.api.customresources import embedded, pruning, values
from orca.api.customresources.structural import (
    EMBEDDED,
    INT_OR_STRING,
    LIST_KEYS,
    LIST_TYPE,
    MAP_TYPE,
    META_FIELDS,
    PRESERVE,
    RULES,
    parse,
)
from orca.api.errors import FieldError
from orca.api.objects import Obj

TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_ALTERNATIVES = [{"type": "integer"}, {"type": "string"}]
_JUNCTORS = ("anyOf", "allOf", "oneOf")
_EMPTY_WHERE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_UNDEFINED = "must be undefined to be structural"
_FALSE = "must be false to be structural"
_NONE = "must be empty to be structural"
_NOT_NESTED = (
    ("type", _NONE),
    ("default", _UNDEFINED),
    ("title", _NONE),
    ("description", _NONE),
    ("nullable", _FALSE),
    ("externalDocs", _UNDEFINED),
    (PRESERVE, _FALSE),
    (EMBEDDED, _FALSE),
    (INT_OR_STRING, _FALSE),
    (LIST_KEYS, _NONE),
    (LIST_TYPE, _UNDEFINED),
    (MAP_TYPE, _UNDEFINED),
    (RULES, _NONE),
)
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")


def check(schema: Obj, path: str) -> list[FieldError]:
    """Errors of a whole ``openAPIV3Schema`` that stands at ``path``, but for its CEL rules."""
    found = sorted([*_structural(schema, "root", path), *_complete(schema, schema, path, path)], key=str)
    if not found:
        found = list(_defaults(schema, path, root=True))
    return found + list(_openapi(schema, path, _Context(root=True)))


def key(path: str, name: str) -> str:
    """The path of one property."""
    return f"{path}.properties[{name}]"


# -- structural


def _structural(schema: Obj, level: str, path: str) -> Iterator[FieldError]:
    kind, items, additional = schema.get("type") or "", schema.get("items"), schema.get("additionalProperties")
    members = schema.get("properties") or {}
    if kind == "array" and items is None:
        yield FieldError.required(f"{path}.items", "must be specified")
    if isinstance(items, dict):
        yield from _structural(items, "item", f"{path}.items")
    for name, inner in members.items():
        yield from _structural(inner, "field", key(path, name))
    if additional is not None:
        if level == "root":
            yield FieldError.forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if isinstance(additional, dict):
            yield from _structural(additional, "field", f"{path}.additionalProperties")
    if schema.get(INT_OR_STRING):
        for other in (PRESERVE, EMBEDDED):
            if schema.get(other):
                text = f"must be false if {INT_OR_STRING} is true"
                yield FieldError.invalid(f"{path}.{other}", True, text)
    yield from _validations(schema, path, outer=True)
    yield from _type(schema, level, path)
    if level == "root" or schema.get(EMBEDDED):
        for name in ("kind", "apiVersion"):
            if name in members and members[name].get("type") != "string":
                yield FieldError.invalid(f"{key(path, name)}.type", members[name].get("type") or "", "must be string")
    if "metadata" in members:
        yield from _metadata(members["metadata"], level, bool(schema.get(EMBEDDED)), key(path, "metadata"))
    if schema.get(EMBEDDED) and not schema.get(PRESERVE) and not members:
        text = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        yield FieldError.required(f"{path}.properties", text)


def _type(schema: Obj, level: str, path: str) -> Iterator[FieldError]:
    kind = schema.get("type") or ""
    if schema.get(EMBEDDED) and kind != "object":
        text = f"must be object if {EMBEDDED} is true"
        yield FieldError.invalid(f"{path}.type", kind, text) if kind else FieldError.required(f"{path}.type", text)
    elif not kind and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE):
        yield FieldError.required(f"{path}.type", _EMPTY_WHERE[level])
    if schema.get(EMBEDDED) and schema.get("additionalProperties") is not None:
        text = f"must not be used if {EMBEDDED} is set"
        yield FieldError.forbidden(f"{path}.additionalProperties", text)
    if level == "root" and kind and kind != "object":
        yield FieldError.invalid(f"{path}.type", kind, "must be object at the root")


def _metadata(schema: Obj, level: str, is_embedded: bool, path: str) -> Iterator[FieldError]:
    if (level == "root" or is_embedded) and schema.get("type") != "object":
        yield FieldError.invalid(f"{path}.type", schema.get("type") or "", "must be object")
    if level != "root":
        return
    rest = {name: value for name, value in schema.items() if name not in ("type", "default") and value}
    if set(rest.get("properties") or ()) <= {"name", "generateName"}:
        rest.pop("properties", None)
    if rest:
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        yield FieldError.forbidden(path, text)


def _validations(schema: Obj, path: str, *, outer: bool) -> Iterator[FieldError]:
    """Value validation: what stands under a junctor may only judge values, not describe them."""
    skip_any = schema.get("anyOf") == _ALTERNATIVES if outer else False
    for junctor in _JUNCTORS:
        for index, inner in enumerate(schema.get(junctor) or ()):
            if junctor == "anyOf" and skip_any:
                continue
            skip = outer and junctor == "allOf" and index == 0 and inner.get("anyOf") == _ALTERNATIVES
            yield from _nested(inner, f"{path}.{junctor}[{index}]", skip_any=skip)
    if isinstance(schema.get("not"), dict):
        yield from _nested(schema["not"], f"{path}.not")
    if schema.get("pattern"):
        try:
            patterns.matcher(schema["pattern"])
        except patterns.BadPattern as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            yield FieldError.invalid(f"{path}.pattern", schema["pattern"], text)


def _nested(schema: Obj, path: str, *, skip_any: bool = False) -> Iterator[FieldError]:
    judged = {name: value for name, value in schema.items() if name != "anyOf"} if skip_any else schema
    yield from _validations(judged, path, outer=False)
    if isinstance(schema.get("items"), dict):
        yield from _nested(schema["items"], f"{path}.items")
    for name, inner in (schema.get("properties") or {}).items():
        yield from _nested(inner, key(path, name))
    if schema.get("additionalProperties") is not None:
        yield FieldError.forbidden(f"{path}.additionalProperties", _UNDEFINED)
    for name, text in _NOT_NESTED:
        if schema.get(name):
            yield FieldError.forbidden(f"{path}.{name}", text)
    if "metadata" in (schema.get("properties") or {}):
        yield FieldError.forbidden(key(path, "metadata"), "must not be specified in a nested context")


def _complete(judging: Obj, schema: Obj, path: str, judging_path: str) -> Iterator[FieldError]:
    """What a value validation speaks of is described outside of it."""
    inner = [
        (one, f"{judging_path}.{junctor}[{index}]")
        for junctor in ("allOf", "anyOf", "oneOf")
        for index, one in enumerate(judging.get(junctor) or ())
    ]
    if isinstance(judging.get("not"), dict):
        inner.append((judging["not"], f"{judging_path}.not"))
    for one, at in inner:
        yield from _complete_nested(one, schema, path, at)


def _complete_nested(judging: Obj, schema: Obj, path: str, judging_path: str) -> Iterator[FieldError]:
    yield from _complete(judging, schema, path, judging_path)
    if isinstance(judging.get("items"), dict):
        if isinstance(schema.get("items"), dict):
            below, at = f"{path}.items", f"{judging_path}.items"
            yield from _complete_nested(judging["items"], schema["items"], below, at)
        else:
            yield FieldError.required(f"{path}.items", f"because it is defined in {judging_path}.items")
    for name, member in (judging.get("properties") or {}).items():
        described, at = (schema.get("properties") or {}).get(name), key(judging_path, name)
        if described is None:
            yield FieldError.required(key(path, name), f"because it is defined in {at}")
        else:
            yield from _complete_nested(member, described, key(path, name), at)


# -- defaults


def _defaults(schema: Obj, path: str, *, root: bool = False, in_meta: bool = False) -> Iterator[FieldError]:
    if schema.get("default") is not None:
        yield from _default(schema, f"{path}.default", in_meta)
    for name, inner in (schema.get("properties") or {}).items():
        meta = in_meta or ((root or bool(schema.get(EMBEDDED))) and name in META_FIELDS)
        yield from _defaults(inner, key(path, name), in_meta=meta)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _defaults(schema["additionalProperties"], f"{path}.additionalProperties", in_meta=in_meta)
    if isinstance(schema.get("items"), dict):
        yield from _defaults(schema["items"], f"{path}.items", in_meta=in_meta)


def _default(schema: Obj, path: str, in_meta: bool) -> Iterator[FieldError]:
    default = schema["default"]
    tree = parse(schema)
    pruned = {"default": deepcopy(default)}
    holder = parse({"type": "object", "properties": {"default": schema}})
    if pruning.prune(pruned, holder) and not in_meta:
        yield FieldError.invalid(path, default, "must not have unknown fields")
        return
    problem, _ = embedded.settle_embedded(pruned["default"], tree, path)
    if problem:
        yield FieldError.invalid(path, default, problem)
        return
    wrong = embedded.check(default, tree, path) or values.check(default, schema, path)
    yield from wrong
    if not wrong and tree.ruled:
        yield from _unruly(schema, default, path)


def _unruly(schema: Obj, default: Any, path: str) -> Iterator[FieldError]:
    """What the schema's own CEL rules say of its default."""
    # Here, because most schemas have no rules, and what evaluates them is large.
    from orca.api.cel.rules import compile_rules

    compiled = compile_rules({"type": "object", "properties": {"default": schema}})
    if compiled.errors(""):
        return  # told at the rules
    for error in compiled.validate({"default": default}):
        yield replace(error, field=path + error.field.removeprefix("default"))


# -- the rest


@dataclass(frozen=True, slots=True)
class _Context:
    root: bool = False
    in_meta: bool = False
    no_defaults: str = ""


def _openapi(schema: Obj, path: str, context: _Context) -> Iterator[FieldError]:
    kind = schema.get("type") or ""
    if kind == "null":
        text = "type cannot be set to null, use nullable as an alternative"
        yield FieldError.forbidden(f"{path}.type", text)
    elif kind and kind not in TYPES:
        yield FieldError.not_supported(f"{path}.type", kind, TYPES)
    if "default" in schema and schema["default"] is not None and context.no_defaults:
        yield FieldError.forbidden(f"{path}.default", f"must not be set {context.no_defaults}")
    for name in _UNSUPPORTED:
        if schema.get(name):
            yield FieldError.forbidden(f"{path}.{name}", f"{name} is not supported")
    if isinstance(schema.get("items"), list):
        yield FieldError.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if context.in_meta and schema.get(EMBEDDED):
        yield FieldError.forbidden(f"{path}.{EMBEDDED}", "must not be used inside of resource meta")
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield FieldError.forbidden(f"{path}.uniqueItems", text)
    yield from _openapi_below(schema, path, context)
    if schema.get(PRESERVE) is False:
        yield FieldError.invalid(f"{path}.{PRESERVE}", False, "must be true or undefined")
    yield from _map_type(schema, path)
    yield from _list_type(schema, path)


def _openapi_below(schema: Obj, path: str, context: _Context) -> Iterator[FieldError]:
    members, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    below = replace(context, root=False)
    if additional is not None:
        if members and additional is not True:
            text = "additionalProperties and properties are mutual exclusive"
            yield FieldError.forbidden(f"{path}.additionalProperties", text)
        if isinstance(additional, dict):
            inside = "inside additionalProperties applying to object metadata"
            inner = replace(below, no_defaults=inside) if context.in_meta else below
            yield from _openapi(additional, f"{path}.additionalProperties", inner)
    for name, member in members.items():
        inner = below
        if (context.root or schema.get(EMBEDDED)) and name in META_FIELDS:
            inner = replace(inner, in_meta=True)
            if context.root:
                inner = replace(inner, no_defaults=f"in top-level {name}")
        yield from _openapi(member, key(path, name), inner)
    if isinstance(schema.get("not"), dict):
        yield from _openapi(schema["not"], f"{path}.not", below)
    for junctor in _JUNCTORS:
        for index, inner_schema in enumerate(schema.get(junctor) or ()):
            yield from _openapi(inner_schema, f"{path}.{junctor}[{index}]", below)
    if isinstance(schema.get("items"), dict):
        yield from _openapi(schema["items"], f"{path}.items", below)


def _needs_type(kind: Any, wanted: str, extension: str, path: str) -> Iterator[FieldError]:
    if kind == wanted:
        return
    text = f"must be {wanted} if {extension} is specified"
    yield FieldError.invalid(f"{path}.type", kind, text) if kind else FieldError.required(f"{path}.type", text)


def _map_type(schema: Obj, path: str) -> Iterator[FieldError]:
    told = schema.get(MAP_TYPE)
    if told is None:
        return
    yield from _needs_type(schema.get("type"), "object", MAP_TYPE, path)
    if told not in ("atomic", "granular"):
        yield FieldError.not_supported(f"{path}.{MAP_TYPE}", told, ("atomic", "granular"))


def _list_type(schema: Obj, path: str) -> Iterator[FieldError]:
    told, keys = schema.get(LIST_TYPE), schema.get(LIST_KEYS) or []
    items = schema.get("items")
    if told is not None:
        yield from _needs_type(schema.get("type"), "array", LIST_TYPE, path)
        if told == "set" and isinstance(items, dict) and schema.get("type") == "array":
            yield from _set_items(items, f"{path}.items")
        if told not in ("atomic", "set", "map"):
            yield FieldError.not_supported(f"{path}.{LIST_TYPE}", told, ("atomic", "set", "map"))
    if keys and told != "map":
        text = f"must be map if {LIST_KEYS} is non-empty"
        at = f"{path}.{LIST_TYPE}"
        yield FieldError.required(at, text) if told is None else FieldError.invalid(at, told, text)
    if told == "map":
        yield from _list_map(keys, items, path)
    if told in ("set", "map") and isinstance(items, dict) and items.get("nullable"):
        yield FieldError.forbidden(f"{path}.items.nullable", f"cannot be nullable when {LIST_TYPE} is {told}")


def _set_items(items: Obj, path: str) -> Iterator[FieldError]:
    text = f"must be atomic as item of a list with {LIST_TYPE}=set"
    if items.get("type") == "array" and items.get(LIST_TYPE) not in (None, "atomic"):
        yield FieldError.invalid(f"{path}.{LIST_TYPE}", items.get(LIST_TYPE), text)
    elif items.get("type") == "object" and items.get(MAP_TYPE) != "atomic":
        yield FieldError.invalid(f"{path}.{MAP_TYPE}", items.get(LIST_TYPE), text)


def _list_map(keys: list[str], items: Any, path: str) -> Iterator[FieldError]:
    at = f"{path}.{LIST_KEYS}"
    if not keys:
        yield FieldError.required(at, f"must not be empty if {LIST_TYPE} is map")
    if items is None:
        yield FieldError.required(f"{path}.items", f"must have a schema if {LIST_TYPE} is map")
    if not isinstance(items, dict):
        return
    if items.get("type") != "object":
        text = f"must be object if parent array's {LIST_TYPE} is map"
        yield FieldError.invalid(f"{path}.items.type", items.get("type") or "", text)
        return
    members, needed = items.get("properties") or {}, items.get("required") or ()
    this = f"this property is in {LIST_KEYS}, so it"
    seen: set[str] = set()
    for name in keys:
        member = members.get(name)
        if name in seen:
            yield FieldError.invalid(at, keys, "must not contain duplicate entries")
        seen.add(name)
        if member is None:
            yield FieldError.invalid(at, keys, "entries must all be names of item properties")
            continue
        where = key(f"{path}.items", name)
        if member.get("type") in ("array", "object"):
            text = f"must be a scalar type if parent array's {LIST_TYPE} is map"
            yield FieldError.invalid(f"{where}.type", items.get("type"), text)
        if name not in needed and member.get("default") is None:
            yield FieldError.required(f"{where}.default", f"{this} must have a default or be a required property")
        if member.get("nullable"):
            yield FieldError.forbidden(f"{where}.nullable", f"{this} cannot be nullable")
