"""What a policy's expressions look like against the schemas of the kinds it constrains: warnings, never errors.

Reference: k8s.io/apiserver ``pkg/admission/plugin/policy/validating/typechecking.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orca.api.cel.admission import Composition, policy_environment
from orca.api.cel.errors import CelCompileError
from orca.api.cel.program import compile
from orca.api.cel.schemas import declare_schema, escape
from orca.api.cel.types import BOOL, BYTES, DOUBLE, DYN, INT, STRING, TIMESTAMP, ObjectType, Type, list_of, map_of
from orca.api.objects import Obj
from orca.api.resources import Resource, ResourceTable
from orca.api.schema import SCHEMA
from orca.api.structure import INT_OR_STRING, MICRO_TIME, QUANTITY, TIME, Field, types_of

MAX_TYPES = 10
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_LEAVES = {INT_OR_STRING: DYN, QUANTITY: DYN, TIME: TIMESTAMP, MICRO_TIME: TIMESTAMP}
_SCALARS = {"string": STRING, "integer": INT, "number": DOUBLE, "boolean": BOOL}


class _Fields(Mapping[str, Type]):
    """Fields of a struct, looked at when an expression names them: schemas may contain themselves."""

    def __init__(self, field: Field, name: str) -> None:
        self._field = field
        self._name = name
        self._keys = {written: key for key in field.schema.get("properties") or () if (written := escape(key))}
        self._made: dict[str, Type] = {}

    def __getitem__(self, name: str) -> Type:
        found = self._made.get(name)
        if found is None:
            child = SCHEMA.child(self._field, self._keys[name])
            assert child is not None
            found = self._made[name] = _type(child, f"{self._name}.{name}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _type(field: Field, name: str) -> Type:
    if field.kind == "struct":
        return ObjectType(name, (), _Fields(field, name))
    if field.kind == "list":
        return list_of(_type(SCHEMA.items(field), f"{name}.@idx"))
    if field.kind == "map":
        return map_of(STRING, _type(SCHEMA.items(field), f"{name}.@elem"))
    if field.kind == "open":
        return DYN
    if field.definition in _LEAVES:
        return _LEAVES[field.definition]
    kinds = [kind for kind in types_of(field.schema) if kind != "null"]
    if len(kinds) != 1:
        return DYN
    if kinds[0] == "string" and field.schema.get("format") == "byte":
        return BYTES
    return _SCALARS.get(kinds[0], DYN)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind with the type of its objects."""

    group: str
    version: str
    kind: str
    type: Type


class Kinds:
    """Built-in kinds, and those of CustomResourceDefinitions."""

    def __init__(self, table: ResourceTable, definitions: Iterable[Obj] = ()) -> None:
        self._table = table
        self._custom: dict[tuple[str, str, str], tuple[str, Obj]] = {}
        for definition in definitions:
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = (version.get("schema") or {}).get("openAPIV3Schema")
                if schema is not None and version.get("served"):
                    key = (spec["group"], version["name"], spec["names"]["plural"])
                    self._custom[key] = (spec["names"]["kind"], schema)

    def lookup(self, group: str, version: str, plural: str) -> Kind | None:
        """By resource; None for what is not known, or has no schema."""
        row = self._table.lookup(group, version, plural)
        if row is not None:
            return None if row.virtual else _builtin(row)
        found = self._custom.get((group, version, plural))
        return None if found is None else Kind(group, version, found[0], _custom(*found))

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        """By kind."""
        row = self._table.by_kind(api_version, kind)
        if row is not None:
            return _builtin(row)
        for group, version, plural in self._custom:
            if f"{group}/{version}" == api_version and self._custom[(group, version, plural)][0] == kind:
                return self.lookup(group, version, plural)
        return None


def _builtin(row: Resource) -> Kind | None:
    field = SCHEMA.struct(row.definition)
    return Kind(row.group, row.version, row.kind, _type(field, row.kind)) if field.kind == "struct" else None


def _custom(kind: str, schema: Obj) -> Type:
    declared = declare_schema({"type": "object", **schema}, kind)
    inside = declared.type if declared is not None else None
    fields = dict(inside.fields) if isinstance(inside, ObjectType) else {}
    real = inside.real if isinstance(inside, ObjectType) else {}
    meta = _type(SCHEMA.struct(OBJECT_META), f"{kind}.metadata")
    return ObjectType(kind, (), {**fields, "apiVersion": STRING, "kind": STRING, "metadata": meta}, real)


def kinds_to_check(spec: Obj, kinds: Kinds) -> list[Kind]:
    """The kinds that a policy names without wildcards, at most ten, in order of group, version and kind."""
    found: dict[tuple[str, str, str], Kind] = {}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
        if any("*" in one for one in (*groups, *versions)):
            continue
        for group in sorted(groups):
            for version in sorted(versions):
                for plural in sorted(rule.get("resources") or ()):
                    one = None if "*" in plural or "/" in plural else kinds.lookup(group, version, plural)
                    if one is not None and len(found) < MAX_TYPES:
                        found[(one.group, one.version, one.kind)] = one
    return [found[key] for key in sorted(found)]


def warnings(spec: Obj, known: Kinds) -> list[Obj]:
    """``status.typeChecking.expressionWarnings`` of a ValidatingAdmissionPolicy."""
    kinds = kinds_to_check(spec, known)
    told = spec.get("paramKind")
    param = known.by_kind(told.get("apiVersion") or "", told.get("kind") or "") if told else None
    params = param.type if param is not None else DYN
    found: list[Obj] = []
    for index, validation in enumerate(spec.get("validations") or ()):
        for key in ("expression", "messageExpression"):
            text = "\n".join(_problems(spec, validation.get(key) or "", kinds, params))
            if text:
                found.append({"fieldRef": f"spec.validations[{index}].{key}", "warning": text})
    return found


def _problems(spec: Obj, expression: str, kinds: list[Kind], params: Type) -> Iterator[str]:
    if not expression.strip():
        return
    for one in kinds:
        types = {"object": one.type, "oldObject": one.type}
        if spec.get("paramKind") is not None:
            types["params"] = params
        composition = Composition(spec, policy_environment(spec, types=types))
        try:
            compile(expression.strip(), composition.environment)
        except CelCompileError as error:
            yield f"{one.group}/{one.version}, Kind={one.kind}: {error}\n"
