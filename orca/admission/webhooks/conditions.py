"""matchConditions of a webhook: expressions that all have to hold for it to be called.

Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook/matchconditions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca.admission import expressions
from orca.admission.chain import Attributes
from orca.admission.expressions import ConditionsFailed
from orca.admission.webhooks.configured import Hook
from orca.admission.webhooks.review import request_fields
from orca.api import cel
from orca.api.cel.admission import WEBHOOK_CONDITIONS
from orca.api.resources import Resource

if TYPE_CHECKING:
    from orca.admission.views import Views
    from orca.admission.webhooks.calling import Calling

__all__ = ["ConditionsFailed", "conditions_hold"]


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
        **expressions.authorizer_variables(attrs, shared.authorizer),
    }
    return await expressions.spend(
        lambda budget: expressions.conditions_hold(hook.compiled, variables, budget), cel.MATCH_CONDITIONS_COST_BUDGET
    )


def _compiled(hook: Hook) -> list[tuple[str, cel.Program | cel.CelCompileError]]:
    found: list[tuple[str, cel.Program | cel.CelCompileError]] = []
    for condition in hook.conditions:
        expression = condition.get("expression") or ""
        try:
            found.append((expression, cel.compile(expression, WEBHOOK_CONDITIONS, expects=cel.BOOL)))
        except cel.CelCompileError as error:
            found.append((expression, error))
    return found
