"""ValidatingAdmissionPolicy: what policies say of the final object.

Reference: k8s.io/apiserver ``pkg/admission/plugin/policy/validating``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from orca.admission.chain import Attributes
from orca.admission.policies.configured import Binding, ConfiguredPolicies, Policy
from orca.admission.policies.invocations import Invocation, Shared, Surroundings, invocations
from orca.admission.views import Views
from orca.api.builtin import VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
from orca.api.errors import ApiError

if TYPE_CHECKING:
    from orca.admission.policies.compiled import Audit, Compiled, Validation
    from orca.api.cel import Budget

_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}
_FAILURE_KEY = "validation.policy.admission.k8s.io/validation_failure"
_MESSAGE_MAX = 5 * 1024
_ANNOTATION_MAX = 10 * 1024


@dataclass(frozen=True, slots=True)
class Denial:
    """What one validation found. ``index`` is its place in the policy."""

    message: str
    index: int = 0
    reason: str = ""


@dataclass(slots=True)
class Verdict:
    """What one evaluation of a policy came to. ``broken`` are audit annotations without a value."""

    denials: list[Denial] = field(default_factory=list)
    annotations: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Refusals:
    """What refuses the request, in order."""

    found: list[tuple[Policy, Binding | None, Denial]] = field(default_factory=list)

    def raise_first(self, attrs: Attributes) -> None:
        """Raises ApiError as upstream words it, with the code of the first denial's reason."""
        if not self.found:
            return
        policy, binding, denial = self.found[0]
        through = f" with binding '{binding.name}'" if binding is not None else ""
        message = f"ValidatingAdmissionPolicy '{policy.name}'{through} denied request: {denial.message}"
        error = attrs.forbidden(message)
        reason = denial.reason or "Invalid"
        details = {**(error.details or {}), "causes": [{"message": message}]}
        raise ApiError(_CODES.get(reason, 422), reason, error.message, details)


class ValidatingPolicies:
    """The plugin."""

    upstream = "ValidatingAdmissionPolicy"

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._configured = ConfiguredPolicies(
            shared.cluster, shared.table, VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
        )

    async def validate(self, attrs: Attributes) -> None:
        """Ask all policies. Raises ApiError for the first denial, 404 for a namespace that is not there."""
        candidates = self._configured.candidates(attrs)
        if not candidates:
            return
        views = Views(attrs, self._shared.convert)
        around: Surroundings | None = None
        refusals = _Refusals()
        notes: dict[tuple[str, str], list[str]] = {}
        async for invocation in invocations(self._shared, candidates, attrs):
            policy = invocation.policy
            if invocation.failed:
                if policy.fail:
                    refusals.found.append((policy, invocation.binding, Denial(invocation.failed)))
                continue
            if around is None:
                around = Surroundings(self._shared, attrs)
            verdict = await _evaluated(invocation, await around.variables(invocation, views))
            assert invocation.binding is not None
            for denial in verdict.denials:
                self._act(attrs, policy, invocation.binding, denial, refusals)
            for key, value in verdict.annotations:
                values = notes.setdefault((policy.name, key), [])
                if value not in values:
                    values.append(value)
            refusals.found += [(policy, invocation.binding, Denial(why)) for why in verdict.broken]
        for (policy_name, key), values in notes.items():
            attrs.annotate(f"{policy_name}/{key}", ", ".join(values))
        refusals.raise_first(attrs)

    def _act(self, attrs: Attributes, policy: Policy, binding: Binding, denial: Denial, refusals: _Refusals) -> None:
        for action in binding.actions:
            if action == "Deny":
                refusals.found.append((policy, binding, denial))
            elif action == "Warn":
                start = f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}'"
                attrs.warnings.append(f"{start}: {denial.message}")
            else:
                failure = {
                    "message": denial.message,
                    "policy": policy.name,
                    "binding": binding.name,
                    "expressionIndex": denial.index,
                    "validationActions": list(binding.actions),
                }
                attrs.annotate(_FAILURE_KEY, orjson.dumps([failure]).decode())


async def _evaluated(invocation: Invocation, variables: dict[str, Any]) -> Verdict:
    from orca.admission.expressions import spend
    from orca.api.cel import RUNTIME_COST_BUDGET

    policy = invocation.policy

    def work(budget: Budget) -> Verdict:
        return evaluate(policy.compiled, variables, budget, fail=policy.fail)

    return await spend(work, RUNTIME_COST_BUDGET)


def evaluate(compiled: Compiled, variables: dict[str, Any], budget: Budget, *, fail: bool) -> Verdict:
    """All expressions of a policy for one request and parameter. ``fail`` is its failurePolicy. Pure."""
    from orca.admission.expressions import ConditionsFailed, conditions_hold
    from orca.api.cel import MATCH_CONDITIONS_COST_BUDGET, Budget

    verdict = Verdict()
    if compiled.conditions:
        own = Budget(min(MATCH_CONDITIONS_COST_BUDGET, budget.remaining))
        given = own.remaining
        try:
            if not conditions_hold(compiled.conditions, variables, own):
                return verdict
        except ConditionsFailed as error:
            if fail:
                verdict.denials.append(Denial(str(error)))
            return verdict
        finally:
            budget.charge(given - own.remaining)
    activation = compiled.activation(variables, budget)
    for index, validation in enumerate(compiled.validations):
        denial = _validated(validation, index, activation, budget, fail=fail)
        if denial is not None:
            verdict.denials.append(denial)
        if budget.remaining < 0:
            break
    for audit in compiled.audits:
        _audited(audit, activation, budget, verdict, fail=fail)
    return verdict


def _validated(
    validation: Validation, index: int, activation: dict[str, Any], budget: Budget, *, fail: bool
) -> Denial | None:
    from orca.admission.expressions import OUT_OF_BUDGET
    from orca.api.cel import CelCompileError, CelError

    program = validation.program
    try:
        if isinstance(program, CelCompileError):
            why = f"compilation error: compilation failed: {program}"
        elif program.evaluate(activation, budget=budget) is True:
            return None
        else:
            return Denial(_message(validation, activation, budget), index, validation.reason)
    except CelError as error:
        why = OUT_OF_BUDGET
        if budget.remaining >= 0:
            why = f"expression '{validation.expression}' resulted in error: {error}"
    return Denial(why, index) if fail else None


def _message(validation: Validation, activation: dict[str, Any], budget: Budget) -> str:
    from orca.api.cel import CelError, Program

    if isinstance(validation.message_program, Program):
        try:
            text = validation.message_program.evaluate(activation, budget=budget)
        except CelError:
            text = ""  # the plain message instead, as upstream
        text = text.strip() if isinstance(text, str) else ""
        if text and len(text.encode()) <= _MESSAGE_MAX and "\n" not in text:
            return str(text)
    return validation.message.strip() or f"failed expression: {validation.expression.strip()}"


def _audited(audit: Audit, activation: dict[str, Any], budget: Budget, verdict: Verdict, *, fail: bool) -> None:
    from orca.api.cel import CelCompileError, CelError

    program = audit.program
    try:
        if isinstance(program, CelCompileError):
            raise CelError(f"compilation error: compilation failed: {program}")
        value = program.evaluate(activation, budget=budget)
    except CelError as error:
        if fail:
            verdict.broken.append(f"expression '{audit.expression}' resulted in error: {error}")
        return
    if isinstance(value, str) and value.strip():
        verdict.annotations.append((audit.key, value.strip()[:_ANNOTATION_MAX]))
