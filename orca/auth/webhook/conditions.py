"""matchConditions of an authorization webhook: CEL expressions over the review's ``spec``, called ``request`` there.

Heavy (it imports CEL): import it where there is a condition. Reference: k8s.io/apiserver ``pkg/authorization/cel``.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca.api.cel import BOOL, STRING, Budget, CelCompileError, CelError, Environment, Program, compile, list_of, map_of
from orca.api.cel.types import ObjectType
from orca.api.objects import Obj

INLINE = 20_000
"""Cost units that may be spent on the event loop: a few milliseconds."""

_STRINGS = list_of(STRING)
_REQUIREMENT = ObjectType("kubernetes.SelectorRequirement", (), {"key": STRING, "operator": STRING, "values": _STRINGS})


def _selector(name: str) -> ObjectType:
    return ObjectType(name, (), {"rawSelector": STRING, "requirements": list_of(_REQUIREMENT)})


_TEXTS = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
_REQUEST = ObjectType(
    "kubernetes.SubjectAccessReviewSpec",
    (),
    {
        "resourceAttributes": ObjectType(
            "kubernetes.ResourceAttributes",
            (),
            {
                **dict.fromkeys(_TEXTS, STRING),
                "fieldSelector": _selector("kubernetes.FieldSelectorAttributes"),
                "labelSelector": _selector("kubernetes.LabelSelectorAttributes"),
            },
        ),
        "nonResourceAttributes": ObjectType("kubernetes.NonResourceAttributes", (), {"path": STRING, "verb": STRING}),
        "user": STRING,
        "groups": _STRINGS,
        "extra": map_of(STRING, _STRINGS),
        "uid": STRING,
    },
)
_ENVIRONMENT = Environment({"request": _REQUEST})


class Costly(Exception):
    """More than the budget for the event loop is needed: evaluate it elsewhere."""


class Failed(ValueError):
    """No condition was false, but some could not be evaluated; the text says which and why."""


def problem_of(expression: str) -> str:
    """What is wrong with an expression; "" when nothing is."""
    try:
        _compiled(expression)
    except CelCompileError as error:
        return str(error)
    return ""


def _compiled(expression: str) -> Program:
    """Raises CelCompileError."""
    try:
        program = compile(expression, _ENVIRONMENT)
    except CelCompileError as error:
        raise CelCompileError(f"compilation failed: {error}") from None
    if program.result != BOOL:
        raise CelCompileError(f"must evaluate to bool but got {program.result}")
    return program


class Conditions:
    """All of one webhook, compiled. Raises CelCompileError."""

    def __init__(self, expressions: Sequence[str]) -> None:
        self._programs = [(expression, _compiled(expression)) for expression in expressions]

    def hold(self, spec: Obj, *, inline: bool = False) -> bool:
        """Whether all are true of a review; false as soon as one is not.

        Raises Failed, and with ``inline`` Costly.
        """
        variables = {"request": _shown(spec)}
        budget = Budget(INLINE) if inline else None
        problems: list[str] = []
        for expression, program in self._programs:
            try:
                if program.evaluate(variables, budget=budget) is not True:
                    return False
            except CelError as error:
                if budget is not None and budget.remaining < 0:
                    raise Costly from None
                problems.append(f"cel evaluation error: expression '{expression}' resulted in error: {error}")
        if problems:
            raise Failed(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
        return True


def _shown(spec: Obj) -> Obj:
    """With all texts and the user's lists, also where they are empty: expressions need not ask whether they are set."""
    shown: Obj = {"user": "", "groups": [], "uid": "", "extra": {}, **spec}
    attributes = spec.get("resourceAttributes")
    if attributes is not None:
        shown["resourceAttributes"] = {**dict.fromkeys(_TEXTS, ""), **attributes}
    attributes = spec.get("nonResourceAttributes")
    if attributes is not None:
        shown["nonResourceAttributes"] = {"verb": "", "path": "", **attributes}
    return shown
