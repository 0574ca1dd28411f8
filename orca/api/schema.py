"""The schema of every kind: structural checks on the hot path, decode errors worded as upstream's, patch metadata.

Definitions come from ``kubernetes-validate``'s data for v1.36. A definition with all it refers to is compiled on first
use with ``jsonschema-rs`` into one strict validator (about 1 µs an object) that refuses wrong types and unknown fields
alike; only objects it refuses are walked in Python to find out what to say. Required fields are not its business: as
upstream, a missing one is a validation error (422), not a decode error (400).
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import jsonschema_rs
import orjson

from orca.api import definitions, zeros
from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj
from orca.api.repeated import MAX_STRICT_ERRORS
from orca.api.resources import Resource
from orca.api.structure import (
    MICRO_TIME,
    QUANTITY,
    REF,
    SCALARS,
    TIME,
    Field,
    Place,
    Problem,
    canonical_time,
    go_kind,
    go_leaf,
    leaf_problem,
    mismatch,
    references,
    strict,
    types_of,
)

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_APART = frozenset({"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "io.k8s.api.core.v1.PodSpec"})
"""Definitions with one validator for all kinds. In that of each kind they would be most of it: 50 and 640 KB."""
_LEADING = ("Spec", "Template")
"""Ends of names of definitions on the way to them: a Deployment's spec, its template."""
_Apart = tuple[tuple[str, ...], Any]
"""Where such a part is in an object, and its validator."""

_MADE_KEPT = 256
"""Definitions made on demand that are kept."""


class Definitions(dict[str, Obj]):
    """Definitions by name; those of custom kinds are made when somebody asks for them, and may be made again."""

    def __init__(self, known: dict[str, Obj]) -> None:
        super().__init__(known)
        self._makers: dict[str, Callable[[], Obj]] = {}
        self._made: OrderedDict[str, Obj] = OrderedDict()

    def put(self, name: str, make: Callable[[], Obj]) -> None:
        """Add or replace a definition that ``make`` makes."""
        self._makers[name] = make
        self._made.pop(name, None)

    def drop(self, name: str) -> None:
        """Forget a definition that was put."""
        self._makers.pop(name, None)
        self._made.pop(name, None)

    def __missing__(self, name: str) -> Obj:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._makers[name]()
            if len(self._made) > _MADE_KEPT:
                self._made.popitem(last=False)
        return made

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._makers

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - this is get


class Schema:
    """All definitions by name, e.g. ``io.k8s.api.core.v1.Pod``."""

    def __init__(self) -> None:
        self._validators: dict[str, tuple[Any, list[_Apart]]] = {}
        """By definition: its validator, and what that leaves to others."""
        self._fields: dict[tuple[str, str], Field | None] = {}

    @cached_property
    def definitions(self) -> Definitions:
        """Name -> JSON Schema with upstream's ``x-kubernetes-*`` extensions; frozen."""
        return Definitions(definitions.read())

    def definition(self, name: str) -> Obj:
        """One definition. Raises KeyError."""
        return self.definitions[name]

    def add(self, name: str, definition: Obj) -> None:
        """Add or replace a definition."""
        self.definitions[name] = definition
        self._forget(name)

    def put(self, name: str, make: Callable[[], Obj]) -> None:
        """Add or replace a definition that is made when somebody asks for it (custom kinds)."""
        self.definitions.put(name, make)
        self._forget(name)

    def drop(self, name: str) -> None:
        """Forget a definition that was put."""
        self.definitions.drop(name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._validators.pop(name, None)
        self._fields = {key: field for key, field in self._fields.items() if key[0] != name}

    def is_valid(self, what: Resource | str, obj: Any) -> bool:
        """Right types and no unknown field."""
        name = what if isinstance(what, str) else what.definition
        found = self._validators.get(name)
        if found is None:
            if name not in self.definitions:
                return True
            found = self._validators[name] = self._compiled(name)
        validator, apart = found
        if not validator.is_valid(obj):
            return False
        for path, of_part in apart:
            part = obj
            for key in path:
                if part is None:
                    break
                part = part.get(key)
            if part is not None and not of_part.is_valid(part):
                return False
        return True

    def check(self, what: Resource | str, obj: Any) -> list[str]:
        """Wrong types, worded as Go's decoder does; empty when all is well."""
        return self.judged(what, obj)[0]

    def prune(self, what: Resource | str, obj: Any) -> list[str]:
        """Remove fields that no definition has, in place; ``unknown field "spec.foo"`` for each that is told of."""
        return self.judged(what, obj)[1]()

    def judged(self, what: Resource | str, obj: Any) -> tuple[list[str], Callable[[], list[str]]]:
        """What :meth:`check` says, and what does :meth:`prune`, by one look."""
        problems = self._problems(what, obj)

        def prune() -> list[str]:
            unknown = []
            for problem in problems:
                if problem.unknown is not None:
                    problem.parent.pop(problem.key, None)
                    unknown.append(problem.unknown)
            return [f'unknown field "{place.path}"' for place in unknown[:MAX_STRICT_ERRORS]]

        return [problem.text for problem in problems if problem.unknown is None], prune

    @cached_property
    def optional_maps(self) -> frozenset[bytes]:
        """Names of members of built-in kinds that are maps somewhere and may be left out."""
        return frozenset(
            key.encode()
            for definition in self.definitions.values()
            for key, schema in definition.get("properties", {}).items()
            if key not in definition.get("required", ()) and self.resolve(schema).kind == "map"
        )

    def struct(self, name: str) -> Field:
        """The root field of a definition; an unknown one is open."""
        schema = self.definitions.get(name)
        return self.resolve({"$ref": REF + name}) if schema is not None else Field("open", {})

    def child(self, parent: Field, key: str) -> Field | None:
        """The field ``key`` of a struct or map; anything in the open; None when a struct has no such field."""
        if parent.kind == "open":
            return parent
        if parent.kind == "map":
            return self.items(parent)
        if parent.kind != "struct":
            return None
        if not parent.definition:
            schema = parent.schema.get("properties", {}).get(key)
            return None if schema is None else self.resolve(schema)
        cache_key = (parent.definition, key)
        if cache_key not in self._fields:
            schema = parent.schema.get("properties", {}).get(key)
            self._fields[cache_key] = None if schema is None else self.resolve(schema)
        return self._fields[cache_key]

    def items(self, parent: Field) -> Field:
        """The element of a list or the value of a map."""
        schema = parent.schema.get("items" if parent.kind == "list" else "additionalProperties")
        return self.resolve(schema) if isinstance(schema, dict) else Field("open", {})

    def resolve(self, schema: Obj) -> Field:
        """A schema node as :class:`Field`; annotations beside a ``$ref`` win over those inside."""
        target, name = schema, ""
        reference = schema.get("$ref", "")
        if reference:
            name = reference.removeprefix(REF)
            target = self.definitions[name]
        extra: dict[str, Any] = {
            "merge_key": schema.get("x-kubernetes-patch-merge-key", ""),
            "strategies": tuple(s for s in schema.get("x-kubernetes-patch-strategy", "").split(",") if s),
            "list_type": schema.get("x-kubernetes-list-type", ""),
            "map_keys": tuple(schema.get("x-kubernetes-list-map-keys") or ()),
            "map_type": schema.get("x-kubernetes-map-type") or target.get("x-kubernetes-map-type", ""),
        }
        if name in SCALARS:
            return Field("leaf", target, name, **extra)
        if "properties" in target:
            return Field("struct", target, name, **extra)
        kinds = types_of(target)
        if "array" in kinds:
            return Field("list", target, name, **extra)
        if "additionalProperties" in target:
            return Field("map", target, name, **extra)
        if "object" in kinds or not kinds:
            return Field("open", target, name, **extra)
        return Field("leaf", target, name, **extra)

    # -- compiling

    def _compiled(self, name: str) -> tuple[Any, list[_Apart]]:
        apart: list[_Apart] = []
        root = self._strict(name, (), apart)
        wanted: Obj = {}
        todo = references(root)
        while todo:
            current = todo.pop()
            if current in wanted:
                continue
            wanted[current] = strict(current, self.definitions[current])
            todo += references(wanted[current])
        return jsonschema_rs.Draft202012Validator({"$schema": _DIALECT, **root, "$defs": wanted}), apart

    def _strict(self, name: str, path: tuple[str, ...], apart: list[_Apart]) -> Obj:
        """The strict form of what is at ``path``, without parts with a validator of their own: they go to ``apart``."""
        made = strict(name, self.definitions[name])
        for key, inner in made.get("properties", {}).items():
            target = inner.get("$ref", "").removeprefix(REF)
            if target in _APART:
                if target not in self._validators:
                    self._validators[target] = self._compiled(target)
                apart.append(((*path, key), self._validators[target][0]))
                made["properties"][key] = {}
            elif target.endswith(_LEADING):
                made["properties"][key] = self._strict(target, (*path, key), apart)
        return made

    # -- explaining

    def _problems(self, what: Resource | str, obj: Any) -> list[Problem]:
        if self.is_valid(what, obj):
            return []
        name = what if isinstance(what, str) else what.definition
        return list(self._walk(self.struct(name), obj, Place(name.rpartition(".")[2]), {}, ""))

    def _walk(self, field: Field, value: Any, place: Place, parent: Obj, key: str) -> Iterator[Problem]:
        if value is None or field.kind == "open":
            return
        if field.kind == "leaf":
            text = leaf_problem(field, value, place)
            if text:
                yield Problem(text, None, parent, key)
            return
        if field.kind == "list" and isinstance(value, list):
            items = self.items(field)
            for index, item in enumerate(value):
                yield from self._walk(items, item, place.item(index), parent, key)
            return
        if field.kind == "list" or not isinstance(value, dict):
            yield Problem(mismatch(value, place, self._go_type(field)), None, parent, key)
            return
        struct = place.inside(field.definition.rpartition(".")[2]) if field.kind == "struct" else place
        for name, inner in list(value.items()):
            child = self.child(field, name)
            if child is None:
                yield Problem("", struct.child(name), value, name)
            else:
                yield from self._walk(child, inner, struct.child(name, field.kind == "map"), value, name)

    def _go_type(self, field: Field) -> str:
        if field.definition:
            *_, version, kind = field.definition.split(".")
            return f"{version}.{kind}"
        if field.kind == "list":
            return "[]" + self._go_type(self.items(field))
        if field.kind == "map":
            return "map[string]" + self._go_type(self.items(field))
        return go_leaf(field.schema)


SCHEMA = Schema()
"""The one schema; definitions are read on first use (about 15 ms)."""


def undecodable(resource: Resource, why: str, definition: str = "") -> ApiError:
    """400 for a body that is no object of its kind, or of that which ``definition`` names (a Scale)."""
    version, kind = resource.version, resource.kind
    if definition and definition != resource.definition:
        version, kind = definition.split(".")[-2:]
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')


def decode(
    resource: Resource, obj: Any, *, refuse_unknown: bool, warn: bool = False, definition: str = ""
) -> tuple[Obj, list[str]]:
    """A body as an object of its kind: what is null or empty dropped, types checked, unknown fields pruned.

    ``refuse_unknown`` raises for unknown fields, ``warn`` returns their texts as warnings. ``definition`` names the
    body's schema where that is not the resource's (subresources). Raises ApiError 400.
    """
    name = definition or resource.definition
    if not isinstance(obj, dict):
        wanted = f"{resource.version}.{resource.kind}"
        raise undecodable(resource, f"json: cannot unmarshal {go_kind(obj)} into Go value of type {wanted}", name)
    try:
        obj = drop_unset(name, obj)
    except (orjson.JSONEncodeError, RecursionError):  # patches can make what no body may be
        text = "the object is nested too deep, or holds text or numbers JSON has not"
        raise undecodable(resource, text, name) from None
    if SCHEMA.is_valid(name, obj):
        return obj, []
    wrong, prune = SCHEMA.judged(name, obj)
    if wrong:
        raise undecodable(resource, wrong[0], name)
    _write_times(SCHEMA.struct(name), obj)
    unknown = prune()
    if unknown and refuse_unknown:
        raise undecodable(resource, f"strict decoding error: {', '.join(unknown)}", name)
    return obj, unknown if warn else []


def _write_times(field: Field, value: Any) -> Any:
    """Give times the form they are stored in (clients send offsets and fractions), in place."""
    if field.kind == "leaf":
        if field.definition in (TIME, MICRO_TIME) and isinstance(value, str):
            return canonical_time(field, value)
    elif field.kind == "list" and isinstance(value, list):
        items = SCHEMA.items(field)
        value[:] = [_write_times(items, item) for item in value]
    elif field.kind in ("struct", "map") and isinstance(value, dict):
        for name, inner in value.items():
            child = SCHEMA.child(field, name)
            if child is not None:
                value[name] = _write_times(child, inner)
    return value


_KEPT = frozenset(
    {
        ("ClusterRole", "rules"),
        ("ContainerImage", "names"),
        ("CustomResourceDefinitionStatus", "conditions"),
        ("CustomResourceDefinitionStatus", "storedVersions"),
        ("EndpointSlice", "endpoints"),
        ("EndpointSlice", "ports"),
        ("HPAScalingRules", "policies"),
        ("Role", "rules"),
    }
)
"""Optional lists that upstream shows also when they are empty; of policies an empty list is refused, none is not."""


def drop_unset(definition: str, obj: Obj) -> Obj:
    """Members that are null are absent, and so are optional lists and maps without content, which upstream does not
    encode: a patch that takes the last item of a list leaves the object as if it had never had one. So are zeros of the
    fields in ``zeros``. A null list item is its type's zero value, and so is a null of a map of plain values. Open
    values keep theirs.

    Returns ``obj`` itself when it holds nothing of that kind.
    """
    # Encoding finds out several times faster than walking; the word inside a string only costs the walk.
    raw = orjson.dumps(obj)
    if (
        (b"null" in raw and _has_null(obj))
        or b"[]" in raw
        or _has_empty_map(raw)
        or zeros.may_hold(raw)  # the dearest last: a few microseconds
    ):
        made = _without_unset(SCHEMA.struct(definition), obj)
        if _forgets_managers(obj):
            made["metadata"]["managedFields"] = []
        return made
    return obj


def _forgets_managers(obj: Obj) -> bool:
    """An empty list of managers asks to forget all of them, none to keep them. A template's has nothing to say."""
    metadata = obj.get("metadata")
    return isinstance(metadata, dict) and metadata.get("managedFields") == []


_STRUCTS = (b"resources", b"securityContext", b"status", b"emptyDir", b"strategy")
_EMPTY = re.compile(rb'":\{\}' + b"".join(b'(?<!"' + name + rb'":\{\})' for name in _STRUCTS))
"""An empty member, but for structs that mostly are."""


def _has_empty_map(raw: bytes) -> bool:
    """Whether a member that may be a map is empty."""
    # The search for the bare bytes takes a tenth of the pattern's time, and most bodies have no empty member.
    return b'":{}' in raw and any(
        raw[raw.rfind(b'"', 0, found.start()) + 1 : found.start()] in SCHEMA.optional_maps
        for found in _EMPTY.finditer(raw)
    )


def _has_null(value: dict[str, Any] | list[Any]) -> bool:
    if isinstance(value, dict):
        return any(inner is None or (inner.__class__ in (dict, list) and _has_null(inner)) for inner in value.values())
    return any(inner is None or (inner.__class__ in (dict, list) and _has_null(inner)) for inner in value)


_ZERO: dict[str, Any] = {"struct": {}, "map": {}, "list": []}


def _without_unset(field: Field | None, value: Any) -> Any:
    if field is None or field.kind in ("open", "leaf"):
        return value
    if isinstance(value, dict) and field.kind in ("struct", "map"):
        made = {}
        for key, inner in value.items():
            child = SCHEMA.child(field, key)
            if inner is None:
                if field.kind == "map" and child is not None and child.kind == "leaf":
                    made[key] = _zero(child)  # as Go: the key is there, which a member of a struct is not
                continue
            inner = _without_unset(child, inner)
            if inner or field.kind == "map" or child is None or not _is_left_out(field, key, child, inner):
                made[key] = inner
        return made
    if isinstance(value, list) and field.kind == "list":
        items = SCHEMA.items(field)
        return [_zero(items) if inner is None else _without_unset(items, inner) for inner in value]
    return value


def _is_left_out(parent: Field, key: str, child: Field, value: Any) -> bool:
    """Whether an empty or zero member of a struct is not encoded."""
    if child.kind == "leaf":
        omitted = zeros.OMITTED.get(parent.definition.rpartition(".")[2], ())
        return key in omitted and type(value) is type(_zero(child))
    if not isinstance(value, dict if child.kind == "map" else list) or child.kind not in ("map", "list"):
        return False
    if key in parent.schema.get("required", ()):
        return False
    return (parent.definition.rpartition(".")[2], key) not in _KEPT


def _zero(field: Field) -> Any:
    if field.kind != "leaf":
        return type(_ZERO.get(field.kind, {}))()
    if field.definition == QUANTITY:
        return "0"
    return {"int32": 0, "int64": 0, "bool": False, "float64": 0}.get(go_leaf(field.schema), "")
