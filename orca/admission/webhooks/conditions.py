"""matchConditions of a webhook: expressions that all have to hold for it to be called.

Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook/matchconditions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca.admission.chain import Attributes
from orca.admission.webhooks.configured import Hook
from orca.admission.webhooks.review import request_fields
from orca.api import cel
from orca.api.resources import Resource

if TYPE_CHECKING:
    from orca.admission.webhooks.calling import Calling, Views


class ConditionsFailed(ValueError):
    """Conditions without a result; the text says which and why."""


async def conditions_hold(shared: Calling, hook: Hook, row: Resource, attrs: Attributes, views: Views) -> bool:
    """Whether all conditions hold; false as soon as one does not, whatever became of others.

    Raises ConditionsFailed when none is false, but some could not be evaluated.
    """
    if hook.compiled is None:
        hook.compiled = _compiled(hook)
    obj, old = await views.objects(row)
    shown = obj if obj is not None else old
    variables = {
        "object": obj,
        "oldObject": old,
        "request": request_fields(attrs, row, shown or {}),
        "authorizer": None,
    }
    budget = cel.Budget(cel.MATCH_CONDITIONS_COST_BUDGET)
    problems: list[str] = []
    for expression, program in hook.compiled:
        if isinstance(program, cel.CelCompileError):
            problems.append(f"compilation error: {program}")
            continue
        try:
            if not program.evaluate(variables, budget=budget):
                return False
        except cel.CelError as error:
            problems.append(f"expression '{expression}' resulted in error: {error}")
    if problems:
        unique = list(dict.fromkeys(problems))
        raise ConditionsFailed(unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]")
    return True


def _compiled(hook: Hook) -> list[tuple[str, cel.Program | cel.CelCompileError]]:
    environment = cel.Environment({"object": cel.DYN, "oldObject": cel.DYN, "request": cel.DYN, "authorizer": cel.DYN})
    found: list[tuple[str, cel.Program | cel.CelCompileError]] = []
    for condition in hook.conditions:
        expression = condition.get("expression") or ""
        try:
            found.append((expression, cel.compile(expression, environment, expects=cel.BOOL)))
        except cel.CelCompileError as error:
            found.append((expression, error))
    return found
