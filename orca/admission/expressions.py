"""Variables of admission's expressions, made from a request: ``request``, ``authorizer``, ``namespaceObject``.

Heavy (it imports CEL): import it where an expression is at hand. Reference: k8s.io/apiserver
``pkg/admission/plugin/cel``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from orca.admission.chain import Attributes
from orca.admission.matching import namespace_of, request_name
from orca.api.cel import Budget, CelCompileError, CelError, Program
from orca.api.cel.libraries.authorization import Asker, Question, Verdict, request_resource
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.selectors import ALL_FIELDS, EVERYTHING, parse_field_selector, parse_label_selector
from orca.auth.authorization import Authorizer
from orca.auth.identity import AUTHENTICATED, SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNTS, Action, Decision, UserInfo

T = TypeVar("T")

INLINE = 20_000
"""Cost units that may be spent on the event loop: a few milliseconds."""

OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"

_NAMESPACE_META = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "finalizers",
)


class ConditionsFailed(ValueError):
    """Match conditions without a result; the text says which and why."""


class Unanswered(Exception):
    """An expression asked the authorizer what only somebody else can answer. After ``settle`` it may be run again."""

    def __init__(self, settle: Callable[[], Awaitable[None]]) -> None:
        super().__init__("an authorizer has to be waited for")
        self.settle = settle


def authorizer_variables(attrs: Attributes, authorizer: Authorizer | None) -> dict[str, Any]:
    """``authorizer`` and ``authorizer.requestResource``: each question is asked once a request.

    Expressions that use them are to be run by ``spend``: they raise Unanswered where an authorizer has to be waited
    for.
    """
    known: dict[Question, Verdict] = {}

    def ask(question: Question) -> Verdict:
        verdict = known.get(question)
        if verdict is not None:
            return verdict
        if authorizer is None:
            return Verdict(False, error="this server has no authorizer")
        asking = authorizer
        user, action = _asked(attrs.user, question)
        decision = asking.at_once(user, action)
        if decision is None:

            async def settle() -> None:
                known[question] = _verdict(await asking.authorize(user, action))

            raise Unanswered(settle)
        verdict = known[question] = _verdict(decision)
        return verdict

    row = attrs.resource
    mine = Question(
        group=row.group,
        resource=row.plural,
        subresource=attrs.subresource,
        namespace=namespace_of(attrs),
        name=request_name(attrs),
    )
    return {"authorizer": Asker(ask), "authorizer.requestResource": request_resource(ask, mine)}


def _asked(user: UserInfo, question: Question) -> tuple[UserInfo, Action]:
    if question.account is not None:
        namespace, name = question.account
        groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", AUTHENTICATED)
        user = UserInfo(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups=groups)
    return user, Action(
        verb=question.verb,
        group=question.group,
        resource=question.resource,
        subresource=question.subresource,
        name=question.name,
        namespace=question.namespace,
        path=question.path,
        fields=_selector(question.fields, parse_field_selector, ALL_FIELDS),
        labels=_selector(question.labels, parse_label_selector, EVERYTHING),
    )


def _selector(text: str, parse: Callable[[str], T], everything: T) -> T:
    """One that cannot be understood narrows nothing, as upstream."""
    try:
        return parse(text) if text else everything
    except ApiError:
        return everything


def _verdict(decision: Decision) -> Verdict:
    return Verdict(decision.allowed, decision.reason, decision.error)


def namespace_variable(namespace: Obj | None) -> Obj | None:
    """``namespaceObject``: the parts of a Namespace that expressions may see; None for what is in none."""
    if namespace is None:
        return None
    fields = namespace.get("metadata") or {}
    shown: Obj = {"metadata": {key: fields[key] for key in _NAMESPACE_META if key in fields}}
    for key in ("spec", "status"):
        if namespace.get(key) is not None:
            shown[key] = namespace[key]
    return shown


def conditions_hold(
    conditions: list[tuple[str, Program | CelCompileError]], variables: dict[str, Any], budget: Budget
) -> bool:
    """Whether all conditions hold; false as soon as one does not, whatever became of others.

    Raises ConditionsFailed when none is false, but some could not be evaluated.
    """
    problems: list[str] = []
    for expression, program in conditions:
        if isinstance(program, CelCompileError):
            problems.append(f"compilation error: {program}")
            continue
        try:
            if program.evaluate(variables, budget=budget) is False:
                return False
        except CelError as error:
            if budget.remaining < 0:
                problems.append(OUT_OF_BUDGET)
                break
            problems.append(f"expression '{expression}' resulted in error: {error}")
    if problems:
        unique = list(dict.fromkeys(problems))
        raise ConditionsFailed(unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]")
    return True


async def spend(work: Callable[[Budget], T], full: int) -> T:
    """``work`` on the event loop as long as it is cheap; anew in a thread when it is not, and whenever an authorizer
    that it asked had to be waited for.

    ``work`` takes all it spends from the budget and changes nothing, so that it can be done twice.
    """
    while True:
        try:
            return await _spend(work, full)
        except Unanswered as unanswered:
            await unanswered.settle()  # each time one question more is known, and the budget bounds their number


async def _spend(work: Callable[[Budget], T], full: int) -> T:
    budget = Budget(min(INLINE, full))
    try:
        found = work(budget)
        if budget.remaining >= 0 or full <= INLINE:
            return found
    except Exception:
        # Whatever became of it is not its result when the budget was what went wrong.
        if budget.remaining >= 0 or full <= INLINE:
            raise
    return await asyncio.to_thread(work, Budget(full))
