"""May they: authorizers asked in order; the first that allows, or denies for good, decides.

Most decide from what they know, at once. A webhook has to be asked, so an authorizer has two doors: ``at_once`` never
waits and says None where it would have to, ``authorize`` waits.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orca.api.objects import Obj
from orca.auth.identity import MASTERS, Action, Decision, Reader, UserInfo, node_of
from orca.auth.nodes import NodeAuthorizer
from orca.auth.rbac import Rbac

MODES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")


class Rules(Protocol):
    """Decides from what it knows."""

    def authorize(self, user: UserInfo, action: Action) -> Decision:
        """Never raises."""


@dataclass(slots=True)
class Known:
    """What a user may do in a namespace, as far as authorizers can list it; ``error`` says what could not."""

    rules: list[Obj] = field(default_factory=list)
    incomplete: bool = False
    error: str = ""


class Authorizer(Protocol):
    """What the rest of the server asks. Neither door raises."""

    def at_once(self, user: UserInfo, action: Action) -> Decision | None:
        """The decision; None when somebody else has to be asked for it."""

    async def authorize(self, user: UserInfo, action: Action) -> Decision:
        """The decision, after asking whoever has to be asked."""

    def rules_for(self, user: UserInfo, namespace: str) -> Known:
        """For SelfSubjectRulesReview."""


class Masters:
    """``system:masters`` may do everything, whatever else is configured."""

    def authorize(self, user: UserInfo, action: Action) -> Decision:
        """By group alone."""
        return _MASTER if MASTERS in user.groups else _NONE


class Always:
    """One answer for everybody."""

    def __init__(self, decision: Decision) -> None:
        self._decision = decision

    def authorize(self, user: UserInfo, action: Action) -> Decision:
        """The same for all."""
        return self._decision


@dataclass(slots=True, eq=False)
class Member:
    """One authorizer of a union. ``wait`` is there where ``ask`` may say None; ``rules`` lists what it allows.

    ``allowed`` and ``denied`` count the decisions that were its own; an empty ``kind`` is not shown in metrics.
    """

    kind: str
    name: str
    ask: Callable[[UserInfo, Action], Decision | None]
    wait: Callable[[UserInfo, Action], Awaitable[Decision]] | None = None
    rules: Callable[[UserInfo, str], Known] = lambda _user, _namespace: Known()
    allowed: int = 0
    denied: int = 0

    def decides(self, decision: Decision) -> bool:
        """Whether a decision of its own is the last word, which counts then."""
        self.allowed += decision.allowed
        self.denied += decision.denied and not decision.allowed
        return decision.allowed or decision.denied


class Union:
    """Authorizers in order, which may be replaced at any time by others."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = tuple(members)

    @property
    def members(self) -> tuple[Member, ...]:
        """Those that are asked now."""
        return self._members

    def replace(self, members: Sequence[Member]) -> None:
        """Ask these from now on. Those of the same kind and name go on counting."""
        before = {(member.kind, member.name): member for member in self._members}
        for member in members:
            same = before.get((member.kind, member.name))
            if same is not None:
                member.allowed, member.denied = same.allowed, same.denied
        self._members = tuple(members)

    def at_once(self, user: UserInfo, action: Action) -> Decision | None:
        """The first opinion; None when one has to be waited for before anybody else has an opinion."""
        others: list[Decision] = []
        for member in self._members:
            decision = member.ask(user, action)
            if decision is None:
                return None
            if member.decides(decision):
                return decision
            others.append(decision)
        return _without_opinion(others)

    async def authorize(self, user: UserInfo, action: Action) -> Decision:
        """The first opinion; reasons of those without one are joined."""
        others: list[Decision] = []
        for member in self._members:
            decision = member.ask(user, action) if member.wait is None else await member.wait(user, action)
            assert decision is not None
            if member.decides(decision):
                return decision
            others.append(decision)
        return _without_opinion(others)

    def rules_for(self, user: UserInfo, namespace: str) -> Known:
        """All that any of them would list, each rule once."""
        found, errors = Known(), []
        for member in self._members:
            known = member.rules(user, namespace)
            found.rules += [rule for rule in known.rules if rule not in found.rules]
            found.incomplete |= known.incomplete
            if known.error:
                errors.append(known.error)
        found.error = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]" if errors else ""
        return found


def local_member(mode: str, reader: Reader, name: str = "") -> Member:
    """The authorizer of a mode other than Webhook. Raises ValueError for an unknown mode."""
    name = name or mode.lower()
    match mode:
        case "RBAC":
            rbac = Rbac(reader)
            return Member(mode, name, rbac.authorize, rules=lambda user, space: Known(rbac.rules_for(user, space)))
        case "Node":
            return Member(mode, name, NodeAuthorizer(reader).authorize, rules=_node_rules)
        case "AlwaysAllow":
            return Member(mode, name, Always(_MASTER).authorize, rules=lambda _user, _space: Known(_EVERYTHING))
        case "AlwaysDeny":
            return Member(mode, name, Always(Decision(False, "Everything is forbidden.")).authorize)
    raise ValueError(f"unknown authorization mode {mode!r}, known are {', '.join(MODES)}")


def masters() -> Member:
    """Always the first of a union."""
    return Member("", "", Masters().authorize)


def build_authorizer(modes: Iterable[str], reader: Reader) -> Union:
    """Of modes that need no further configuration. Raises ValueError for others."""
    return Union([masters(), *(local_member(mode, reader) for mode in modes)])


def _node_rules(user: UserInfo, _namespace: str) -> Known:
    if not node_of(user):
        return Known()
    return Known(incomplete=True, error="node authorizer does not support user rule resolution")


def _without_opinion(asked: Sequence[Decision]) -> Decision:
    """What those say together who neither allowed nor denied."""
    reasons = ", ".join(one.reason for one in asked if one.reason)
    errors = "\n".join(one.error for one in asked if one.error)
    return Decision(False, reasons, error=errors) if reasons or errors else _NONE


_EVERYTHING: list[Obj] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]
_MASTER = Decision(True)
_NONE = Decision(False)
