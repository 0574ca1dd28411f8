"""The schema as field ownership sees it: where values are one leaf, and where they have owners part by part."""

from __future__ import annotations

from typing import Any

import orjson

from orca.api.fields.presence import BY_VALUE, KEY_DEFAULTS
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.api.schema import SCHEMA
from orca.api.structure import REF, Field, types_of

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
_REMEMBERED = 512
_LONG = 128
"""Members, items or characters from which on nothing is remembered: such values are rare, and clients choose them."""

Plans = dict[tuple[Any, ...], Any]


class Node:
    """One type at one place.

    ``kind`` is ``leaf`` (scalars, and everything atomic), ``struct``, ``map``, ``list`` (of type set or map, its keys
    in ``keys``) or ``open`` (decided by the value: mappings part by part, all else one leaf). ``by_value`` are fields
    that are there even when they are absent, ``required`` those that are there at least as null. Of values that are
    ``typed`` the schema says all the way down what they are: equal ones are the same, which ``true`` and 1 are not.
    """

    __slots__ = (
        "_children",
        "_elements",
        "_schema",
        "by_value",
        "custom",
        "item",
        "key_defaults",
        "keys",
        "kind",
        "plans",
        "required",
        "rest",
        "type",
        "typed",
    )

    def __init__(self, kind: str, *, custom: bool = False, type_: str = "", schema: Obj | None = None) -> None:
        self.kind = kind
        self.custom = custom
        self.type = type_
        self.typed = False
        self.by_value: frozenset[str] = frozenset()
        self.required: frozenset[str] = frozenset()
        self.keys: tuple[str, ...] = ()
        self.key_defaults: dict[str, str] = {}
        self.item: Node | None = None
        self.rest: Node | None = None
        self.plans: Plans = {}
        self._schema: Obj = schema or {}
        self._children: dict[str, Node | None] = {}
        self._elements: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Node {self.kind} {self.type}>"

    def child(self, name: str) -> Node | None:
        """The type of a member; None when the schema has none of that name."""
        if self.kind != "struct":
            return self.rest
        try:
            return self._children[name]
        except KeyError:
            pass
        schema = (self._schema.get("properties") or {}).get(name)
        found = self.rest if schema is None else _node(schema, self.custom)
        if schema is not None:
            self._children[name] = found
        return found

    def declares(self, name: str) -> bool:
        """Whether ``name`` is a field of a struct, not a key of a map."""
        return self.kind == "struct" and (name in self._children or name in (self._schema.get("properties") or {}))

    def element(self, item: Any) -> str | None:
        """The path element of a list's item; None for one without identity."""
        if not self.keys:
            if item.__class__ is str:
                return self._elements.get(item) or self._remember(item, "v:" + orjson.dumps(item).decode())
            if item.__class__ in (dict, list) or item is None:
                return None
            return "v:" + orjson.dumps(item).decode()
        if item.__class__ is not dict:
            return None
        if len(self.keys) == 1:
            value = item.get(self.keys[0])
            if value.__class__ is str:
                return self._elements.get(value) or self._remember(value, _key_element({self.keys[0]: value}))
        found = {}
        for key in self.keys:
            value = item.get(key)
            if value is None:
                value = self.key_defaults.get(key)
            if value is not None:
                found[key] = value
        if not found:
            return None
        return _key_element(found)

    def _remember(self, key: str, element: str) -> str:
        if len(key) <= _LONG:
            if len(self._elements) >= _REMEMBERED:
                self._elements.clear()
            self._elements[key] = element
        return element


def _key_element(keys: Obj) -> str:
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


_typed = {f"{REF}io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"}
"""References to definitions that say all the way down what their values are. What owners own is told apart by other
means."""


def _is_typed(schema: Obj) -> bool:
    """Whether a schema of ours says all the way down what its values are."""
    seen: set[str] = set()
    todo = [schema]
    while todo:
        one = todo.pop()
        reference = one.get("$ref", "")
        if reference in seen or reference in _typed:
            continue
        field = SCHEMA.resolve(one)
        if field.kind == "open":
            return False
        if reference:
            seen.add(reference)
        if field.kind == "struct":
            todo += field.schema["properties"].values()
        elif field.kind in ("map", "list"):
            inner = field.schema.get("additionalProperties" if field.kind == "map" else "items")
            todo.append(inner if isinstance(inner, dict) else {})
    _typed.update(seen)
    return True


LEAF_NODE = Node("leaf")
OPEN = Node("open")
OPEN.rest = OPEN
_shared: dict[tuple[str, str, str], Node] = {}


def _node(schema: Obj, custom: bool) -> Node:
    if custom and schema.get("x-kubernetes-int-or-string"):
        return LEAF_NODE
    field = SCHEMA.resolve(schema)
    custom = custom and not field.definition
    if field.definition and field.kind in ("struct", "map", "open") and not custom:
        key = (field.definition, field.map_type, field.kind)
        if key not in _shared:
            _shared[key] = _of_field(field, custom)
        return _shared[key]
    return _of_field(field, custom)


def _of_field(field: Field, custom: bool) -> Node:
    schema = field.schema
    if field.kind == "leaf" or field.map_type == "atomic":
        return LEAF_NODE
    if field.kind == "list":
        return _list(field, custom)
    if field.kind == "map":
        made = Node("map", custom=custom)
        values = schema.get("additionalProperties")
        made.rest = _node(values, custom) if isinstance(values, dict) and values else OPEN
        made.typed = not custom and _is_typed(schema)
        return made
    preserve = bool(schema.get(PRESERVE))
    if field.kind == "open":
        typed_object = custom and "object" in types_of(schema)
        if not typed_object or (preserve and not schema.get(EMBEDDED)):
            return OPEN
    made = Node("struct", custom=custom, type_=field.definition.rpartition(".")[2], schema=schema)
    if preserve:
        made.rest = OPEN
    if schema.get(EMBEDDED):
        _with_object_fields(made)
    if not custom:
        made.typed = _is_typed(schema)
        made.by_value = BY_VALUE.get(made.type, frozenset())
        made.required = frozenset(schema.get("required") or ())
        if "metadata" in (schema.get("properties") or {}):
            made.by_value |= {"metadata"}
    return made


def _list(field: Field, custom: bool) -> Node:
    kind = field.list_type or field.schema.get("x-kubernetes-list-type", "")
    keys = field.map_keys or tuple(field.schema.get("x-kubernetes-list-map-keys") or ())
    if not kind and "merge" in field.strategies:
        # Lists that only say how strategic merge treats them.
        kind, keys = ("map", (field.merge_key,)) if field.merge_key else ("set", ())
    if kind not in ("map", "set"):
        return LEAF_NODE
    items = field.schema.get("items")
    made = Node("list", custom=custom)
    made.item = _node(items, custom) if isinstance(items, dict) else OPEN
    made.keys = keys if kind == "map" else ()
    if custom and made.keys:
        properties = (items or {}).get("properties") or {}
        made.key_defaults = {
            key: properties[key]["default"] for key in keys if (properties.get(key) or {}).get("default") is not None
        }
    else:
        made.key_defaults = KEY_DEFAULTS.get(made.item.type, {})
    return made


def _with_object_fields(node: Node) -> None:
    node._children["apiVersion"] = node._children["kind"] = LEAF_NODE
    node._children["metadata"] = _node({"$ref": f"#/$defs/{OBJECT_META}"}, False)


_roots: dict[str, tuple[Obj | None, Node]] = {}


def root(resource: Resource, definition: str = "") -> Node:
    """The type of a kind's objects (or of ``definition``), made anew when its schema was replaced."""
    name = definition or resource.definition
    schema = SCHEMA.definitions.get(name)
    known = _roots.get(name)
    if known is not None and known[0] is schema:
        return known[1]
    custom = resource.custom and not definition
    if schema is None:
        made = Node("struct", custom=custom)
        made.rest = OPEN
    elif not custom:
        made = _node({"$ref": f"#/$defs/{name}"}, False)
    else:
        field = Field("struct", schema)
        made = _of_field(field, True)
    if custom or schema is None:
        _with_object_fields(made)
        made.by_value = frozenset({"metadata"})
    _roots[name] = (schema, made)
    return made


def remember(plans: Plans, key: tuple[Any, ...], value: Any) -> None:
    """Keep a node's memory of shapes small, in number and in size; what is lost is only sharing."""
    if len(key) > _LONG:
        return
    if len(plans) >= _REMEMBERED:
        plans.clear()
    plans[key] = value
