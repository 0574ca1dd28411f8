"""What a policy's expressions look like against the schemas of the kinds it constrains: warnings, never errors.

Reference: k8s.io/apiserver ``pkg/admission/plugin/policy/validating/typechecking.go``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orca.api.cel.admission import Composition, policy_environment
from orca.api.cel.errors import CelCompileError
from orca.api.cel.program import compile
from orca.api.cel.schemas import escape
from orca.api.cel.types import BOOL, BYTES, DOUBLE, DYN, INT, STRING, TIMESTAMP, ObjectType, Type, list_of, map_of
from orca.api.objects import Obj
from orca.api.resources import Resource, ResourceTable
from orca.api.schema import SCHEMA
from orca.api.structure import INT_OR_STRING, MICRO_TIME, QUANTITY, TIME, Field, types_of

MAX_TYPES = 10
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


def object_type(row: Resource) -> Type | None:
    """The type of a kind's objects; None when its schema is not known here."""
    field = SCHEMA.struct(row.definition)
    return _type(field, row.kind) if field.kind == "struct" else None


def rows_to_check(spec: Obj, table: ResourceTable) -> list[Resource]:
    """The kinds that a policy names without wildcards, at most ten, in order of group, version and kind."""
    found: dict[tuple[str, str, str], Resource] = {}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
        if any("*" in one for one in (*groups, *versions)):
            continue
        for group in sorted(groups):
            for version in sorted(versions):
                for plural in sorted(rule.get("resources") or ()):
                    row = None if "*" in plural or "/" in plural else table.lookup(group, version, plural)
                    if row is not None and not row.virtual and len(found) < MAX_TYPES:
                        found[(row.group, row.version, row.kind)] = row
    return [found[key] for key in sorted(found)]


def warnings(spec: Obj, table: ResourceTable) -> list[Obj]:
    """``status.typeChecking.expressionWarnings`` of a ValidatingAdmissionPolicy."""
    kinds = [(row, type_) for row in rows_to_check(spec, table) if (type_ := object_type(row)) is not None]
    told = spec.get("paramKind")
    param = table.by_kind(told.get("apiVersion") or "", told.get("kind") or "") if told else None
    params = (object_type(param) if param is not None else None) or DYN
    found: list[Obj] = []
    for index, validation in enumerate(spec.get("validations") or ()):
        for key in ("expression", "messageExpression"):
            text = "\n".join(_problems(spec, validation.get(key) or "", kinds, params))
            if text:
                found.append({"fieldRef": f"spec.validations[{index}].{key}", "warning": text})
    return found


def _problems(spec: Obj, expression: str, kinds: list[tuple[Resource, Type]], params: Type) -> Iterator[str]:
    if not expression.strip():
        return
    for row, type_ in kinds:
        types = {"object": type_, "oldObject": type_}
        if spec.get("paramKind") is not None:
            types["params"] = params
        composition = Composition(spec, policy_environment(spec, types=types))
        try:
            compile(expression.strip(), composition.environment)
        except CelCompileError as error:
            yield f"{row.group}/{row.version}, Kind={row.kind}: {error}\n"
