"""Where admission's expressions stand: the types of ``request``, ``namespaceObject``, ``Object`` and their like.

Also what a policy object is refused for. Reference: k8s.io/apiserver ``pkg/admission/plugin/cel/compile.go``,
``pkg/admission/plugin/cel/mutation``; k8s.io/kubernetes ``pkg/apis/admissionregistration/validation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orca.api.cel.environment import Environment
from orca.api.cel.errors import CelCompileError
from orca.api.cel.libraries.authorization import RESOURCE_CHECK
from orca.api.cel.program import Program, compile
from orca.api.cel.types import AUTHORIZER, BOOL, DYN, NULL, STRING, ObjectType, Type, list_of, map_of
from orca.api.errors import FieldError
from orca.api.objects import Obj

OBJECT = "Object"
PATCH = ObjectType("JSONPatch", (), {"op": STRING, "path": STRING, "from": STRING, "value": DYN})


def _kind(name: str, last: str) -> ObjectType:
    return ObjectType(f"kubernetes.{name}", (), {"group": STRING, "version": STRING, last: STRING})


_GVK, _GVR = _kind("GroupVersionKind", "kind"), _kind("GroupVersionResource", "resource")
_USER = ObjectType(
    "kubernetes.UserInfo",
    (),
    {
        "username": STRING,
        "uid": STRING,
        "groups": list_of(STRING),
        "extra": map_of(STRING, list_of(STRING)),
    },
)
REQUEST = ObjectType(
    "kubernetes.AdmissionRequest",
    (),
    {
        "kind": _GVK,
        "resource": _GVR,
        "subResource": STRING,
        "requestKind": _GVK,
        "requestResource": _GVR,
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": _USER,
        "dryRun": BOOL,
        "options": DYN,
    },
)
_STRINGS = map_of(STRING, STRING)
NAMESPACE = ObjectType(
    "kubernetes.Namespace",
    (),
    {
        "metadata": ObjectType(
            "kubernetes.NamespaceMetadata",
            (),
            {
                **dict.fromkeys(("name", "generateName", "namespace", "UID", "uid", "resourceVersion"), STRING),
                **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), DYN),
                "labels": _STRINGS,
                "annotations": _STRINGS,
                "generation": DYN,
                "deletionGracePeriodSeconds": DYN,
                "finalizers": list_of(STRING),
            },
        ),
        "spec": ObjectType("kubernetes.NamespaceSpec", (), {"finalizers": list_of(STRING)}),
        "status": ObjectType("kubernetes.NamespaceStatus", (), {"phase": STRING}),
    },
)


class _AnyField(Mapping[str, Type]):
    """Fields of ``Object``: whatever is written, the schema judges the result."""

    def __getitem__(self, name: str) -> Type:
        return DYN

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Constructible(Mapping[str, ObjectType]):
    """``Object``, ``Object.spec``, ``Object.spec.template`` and so on, and ``JSONPatch``."""

    def __init__(self) -> None:
        self._made: dict[str, ObjectType] = {PATCH.name: PATCH}

    def __getitem__(self, name: str) -> ObjectType:
        found = self._made.get(name)
        if found is None:
            if name != OBJECT and not name.startswith(f"{OBJECT}."):
                raise KeyError(name)
            found = ObjectType(name, (), _AnyField(), nullable=True)
            if len(self._made) < 4096:
                self._made[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


_CONSTRUCTIBLE = _Constructible()
APPLIED: tuple[Type, ...] = (_CONSTRUCTIBLE[OBJECT],)
"""What an ``applyConfiguration`` has to give."""
PATCHES: tuple[Type, ...] = (list_of(PATCH), list_of(DYN))
"""What a ``jsonPatch`` has to give."""

_BASE: dict[str, Type] = {"object": DYN, "oldObject": DYN, "request": REQUEST}
_ASKING: dict[str, Type] = {"authorizer": AUTHORIZER, "authorizer.requestResource": RESOURCE_CHECK}

WEBHOOK_CONDITIONS = Environment({**_BASE, **_ASKING})
"""matchConditions of webhooks."""


def policy_environment(
    spec: Obj, *, namespace: bool = True, mutating: bool = False, types: Obj | None = None
) -> Environment:
    """Where a policy's expressions stand, without its ``variables``. ``types`` are better ones than ``DYN``."""
    variables = {**_BASE, **_ASKING}
    if spec.get("paramKind") is not None:
        variables["params"] = DYN
    if namespace:
        variables["namespaceObject"] = NAMESPACE
    return Environment({**variables, **(types or {})}, _CONSTRUCTIBLE if mutating else {})


def _variables(fields: dict[str, Type]) -> ObjectType:
    return ObjectType("kubernetes.variables", (), fields, nullable=True)


class Composition:
    """``variables`` of a policy: each may use those before it."""

    def __init__(self, spec: Obj, environment: Environment) -> None:
        self.programs: dict[str, Program] = {}
        self.wrong: dict[str, str] = {}
        fields: dict[str, Type] = {}
        base = environment
        self.environment = base.with_variables({"variables": _variables({})})
        for variable in spec.get("variables") or ():
            name = variable.get("name") or ""
            try:
                program = compile(variable.get("expression") or "", self.environment)
            except CelCompileError as error:
                self.wrong[name] = f"compilation failed: {error}"
                fields[name] = DYN
            else:
                self.programs[name] = program
                fields[name] = program.result
            self.environment = base.with_variables({"variables": _variables(dict(fields))})


def conditions_errors(
    conditions: list[Obj], path: str, environment: Environment = WEBHOOK_CONDITIONS
) -> Iterator[FieldError]:
    """matchConditions that do not compile."""
    for index, condition in enumerate(conditions):
        yield from _wrong(condition.get("expression"), f"{path}[{index}].expression", environment, BOOL)


def policy_errors(spec: Obj, *, mutating: bool) -> Iterator[FieldError]:
    """Expressions of a policy that do not compile, or do not give what they have to."""
    conditions = policy_environment(spec, namespace=False)
    yield from conditions_errors(spec.get("matchConditions") or [], "spec.matchConditions", conditions)
    composition = Composition(spec, policy_environment(spec, mutating=mutating))
    for index, variable in enumerate(spec.get("variables") or ()):
        wrong = composition.wrong.get(variable.get("name") or "")
        if wrong and (variable.get("expression") or "").strip():
            yield FieldError.invalid(f"spec.variables[{index}].expression", variable.get("expression"), wrong)
    full = composition.environment
    messages = Environment({name: type_ for name, type_ in full.variables.items() if name not in _ASKING})
    for index, validation in enumerate(spec.get("validations") or ()):
        at = f"spec.validations[{index}]"
        yield from _wrong(validation.get("expression"), f"{at}.expression", full, BOOL)
        yield from _wrong(validation.get("messageExpression"), f"{at}.messageExpression", messages, STRING)
    for index, audit in enumerate(spec.get("auditAnnotations") or ()):
        at = f"spec.auditAnnotations[{index}].valueExpression"
        yield from _wrong(audit.get("valueExpression"), at, full, (STRING, NULL))
    for index, mutation in enumerate(spec.get("mutations") or ()):
        at = f"spec.mutations[{index}]"
        applied = (mutation.get("applyConfiguration") or {}).get("expression")
        yield from _wrong(applied, f"{at}.applyConfiguration.expression", full, APPLIED)
        patched = (mutation.get("jsonPatch") or {}).get("expression")
        yield from _wrong(patched, f"{at}.jsonPatch.expression", full, PATCHES)


def _wrong(source: Any, path: str, environment: Environment, expects: Type | tuple[Type, ...]) -> Iterator[FieldError]:
    if not isinstance(source, str) or not source.strip():
        return
    try:
        compile(source.strip(), environment, expects=expects)
    except CelCompileError as error:
        text = str(error)
        yield FieldError.invalid(path, source, text if text.startswith("must ") else f"compilation failed: {text}")
