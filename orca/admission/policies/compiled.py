"""A policy's expressions as programs. Heavy: imported when a request first meets a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orca.api.cel import BOOL, NULL, STRING, Budget, CelCompileError, CelCostError, CelError, Environment, Program, Type
from orca.api.cel import compile as compile_expression
from orca.api.cel.admission import APPLIED, PATCHES, Composition, policy_environment
from orca.api.objects import Obj

Maybe = Program | CelCompileError


@dataclass(frozen=True, slots=True)
class Validation:
    """One validation. ``message_program`` is None without messageExpression."""

    expression: str
    program: Maybe
    message: str
    message_program: Maybe | None
    reason: str


@dataclass(frozen=True, slots=True)
class Audit:
    """One auditAnnotation."""

    key: str
    expression: str
    program: Maybe


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mutation; ``applies`` for an ApplyConfiguration, else it is a JSON patch."""

    applies: bool
    expression: str
    program: Maybe


class Compiled:
    """All programs of one policy. What does not compile is kept as its error: failurePolicy decides."""

    def __init__(self, spec: Obj, *, mutating: bool) -> None:
        conditions = policy_environment(spec, namespace=False)
        self.conditions = [
            (one.get("expression") or "", _compile(one.get("expression"), conditions, BOOL))
            for one in spec.get("matchConditions") or ()
        ]
        self.composition = Composition(spec, policy_environment(spec, mutating=mutating))
        full = self.composition.environment
        self.validations = [
            Validation(
                one.get("expression") or "",
                _compile(one.get("expression"), full, BOOL),
                one.get("message") or "",
                _compile(one["messageExpression"], full, STRING) if one.get("messageExpression") else None,
                one.get("reason") or "",
            )
            for one in spec.get("validations") or ()
        ]
        self.audits = [
            Audit(
                one.get("key") or "",
                one.get("valueExpression") or "",
                _compile(one.get("valueExpression"), full, (STRING, NULL)),
            )
            for one in spec.get("auditAnnotations") or ()
        ]
        self.mutations = [_mutation(one, full) for one in spec.get("mutations") or ()]

    def activation(self, variables: dict[str, Any], budget: Budget) -> dict[str, Any]:
        """``variables`` with the policy's own ones, evaluated when they are first asked for."""
        made = dict(variables)
        made["variables"] = LazyVariables(self.composition, made, budget)
        return made


def _mutation(obj: Obj, environment: Environment) -> Mutation:
    applies = obj.get("patchType") == "ApplyConfiguration"
    expression = (obj.get("applyConfiguration" if applies else "jsonPatch") or {}).get("expression") or ""
    return Mutation(applies, expression, _compile(expression, environment, APPLIED if applies else PATCHES))


def _compile(source: str | None, environment: Environment, expects: Type | tuple[Type, ...]) -> Maybe:
    try:
        return compile_expression((source or "").strip(), environment, expects=expects)
    except CelCompileError as error:
        return error


class LazyVariables(dict[str, Any]):
    """The value of ``variables`` in one evaluation."""

    def __init__(self, composition: Composition, activation: dict[str, Any], budget: Budget) -> None:
        super().__init__()
        self._composition = composition
        self._activation = activation
        self._budget = budget
        self._failed: dict[str, CelError] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._composition.programs

    def __missing__(self, key: str) -> Any:
        failed = self._failed.get(key)
        if failed is not None:
            raise failed
        program = self._composition.programs.get(key)
        if program is None:
            why = self._composition.wrong.get(key)
            raise CelError(f'composited variable "{key}" fails to compile: {why}') if why else KeyError(key)
        try:
            value = self[key] = program.evaluate(self._activation, budget=self._budget)
        except CelCostError:
            raise
        except CelError as error:
            failed = self._failed[key] = CelError(f'composited variable "{key}" fails to evaluate: {error}')
            raise failed from error
        return value
