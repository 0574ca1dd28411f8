"""MutatingAdmissionPolicy: policies in order of their names, each sees what those before it made of the object.

Reference: k8s.io/apiserver ``pkg/admission/plugin/policy/mutating``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orca.admission.chain import Attributes
from orca.admission.mutating import Memory, recall, take_over
from orca.admission.policies.configured import ConfiguredPolicies
from orca.admission.policies.invocations import Invocation, Shared, Surroundings, invocations
from orca.admission.views import Views
from orca.api.builtin import MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS
from orca.api.errors import ApiError
from orca.api.objects import name, namespace

if TYPE_CHECKING:
    from orca.admission.policies.compiled import Mutation
    from orca.api.cel import Budget

_NAME = "MutatingAdmissionPolicy"


class Failed(Exception):
    """A mutation gave nothing that can be applied: failurePolicy decides."""


class MutatingPolicies:
    """The plugin."""

    upstream = "MutatingAdmissionPolicy"

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._configured = ConfiguredPolicies(
            shared.cluster, shared.table, MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS
        )

    async def admit(self, attrs: Attributes) -> None:
        """Let the policies change the object. Raises ApiError 403 for one that fails with failurePolicy Fail."""
        candidates = self._configured.candidates(attrs)
        if not candidates:
            return
        rounds = attrs.second_round()
        memory = recall(attrs, _NAME)
        views = Views(attrs, self._shared.convert)
        around: Surroundings | None = None
        problems: list[str] = []
        try:
            # All are chosen by the object as it came; what policies make of it does not change which of them run.
            chosen = [one async for one in invocations(self._shared, candidates, attrs)]
            for invocation in chosen:
                if invocation.failed:
                    _note(problems, invocation, invocation.failed)
                    continue
                key = _key(invocation)
                if rounds.running and key not in memory.again:
                    continue
                if around is None:
                    around = Surroundings(self._shared, attrs)
                await self._invoke(invocation, attrs, views, around, memory, problems)
        finally:
            memory.left(attrs.obj)
        if problems:
            error = attrs.forbidden("admission request denied by policy")
            details = {**(error.details or {}), "causes": [{"message": problem} for problem in problems]}
            raise ApiError(403, "Invalid", problems[0], details)

    async def _invoke(
        self,
        invocation: Invocation,
        attrs: Attributes,
        views: Views,
        around: Surroundings,
        memory: Memory,
        problems: list[str],
    ) -> None:
        from orca.admission.expressions import ConditionsFailed, conditions_hold, spend
        from orca.api.cel import MATCH_CONDITIONS_COST_BUDGET

        policy = invocation.policy
        compiled = policy.compiled
        variables = await around.variables(invocation, views)
        if compiled.conditions:
            held = variables
            try:
                holds = await spend(
                    lambda budget: conditions_hold(compiled.conditions, held, budget), MATCH_CONDITIONS_COST_BUDGET
                )
            except ConditionsFailed as error:
                _note(problems, invocation, str(error))
                return
            if not holds:
                return
        changed = False
        for mutation in compiled.mutations:
            if attrs.obj is None:
                continue
            try:
                if await self._mutate(invocation, mutation, attrs, views, variables):
                    changed = True
                    variables = await around.variables(invocation, views)
            except Failed as failure:
                _note(problems, invocation, str(failure))
        if changed:
            memory.changed()
            attrs.second_round().wanted = True
        if policy.reinvocable:
            memory.called.add(_key(invocation))

    async def _mutate(
        self, invocation: Invocation, mutation: Mutation, attrs: Attributes, views: Views, variables: dict[str, Any]
    ) -> bool:
        """Put the changed object into ``attrs``; whether it differs. Raises Failed."""
        from orca.admission.expressions import spend
        from orca.admission.policies.patches import patched
        from orca.api.cel import RUNTIME_COST_BUDGET

        compiled = invocation.policy.compiled
        row = invocation.row
        before, _ = await views.objects(row)
        assert before is not None

        def work(budget: Budget) -> Any:
            return _value(mutation, compiled.activation(variables, budget), budget)

        try:
            value = await spend(work, RUNTIME_COST_BUDGET)
            made = patched(mutation, attrs, row, before, value)
            differs = await take_over(attrs, row, before, made, self._shared.convert)
        except ApiError as error:
            raise Failed(error.message) from error
        if differs:
            views.changed()
        return differs


def _value(mutation: Mutation, activation: dict[str, Any], budget: Budget) -> Any:
    """What the expression gives. Raises Failed."""
    from orca.admission.expressions import OUT_OF_BUDGET
    from orca.api.cel import CelCompileError, CelError

    if isinstance(mutation.program, CelCompileError):
        raise Failed(f"compilation error: compilation failed: {mutation.program}")
    try:
        return mutation.program.evaluate(activation, budget=budget)
    except CelError as error:
        if budget.remaining < 0:
            raise Failed(OUT_OF_BUDGET) from error
        raise Failed(f"expression '{mutation.expression}' resulted in error: {error}") from error


def _note(problems: list[str], invocation: Invocation, why: str) -> None:
    policy, binding = invocation.policy, invocation.binding
    if not policy.fail:
        return
    if binding is None:
        problems.append(f"policy '{policy.name}' denied request: {why}")
    else:
        problems.append(f"policy '{policy.name}' with binding '{binding.name}' denied request: {why}")


def _key(invocation: Invocation) -> Any:
    param = invocation.param
    binding = invocation.binding.name if invocation.binding is not None else ""
    return invocation.policy.name, binding, None if param is None else (namespace(param), name(param))
