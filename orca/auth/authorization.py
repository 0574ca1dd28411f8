"""May they: authorizers asked in order; the first that allows, or denies for good, decides."""

from collections.abc import Sequence
from typing import Protocol

from orca.auth.identity import MASTERS, Action, Decision, Reader, UserInfo
from orca.auth.nodes import NodeAuthorizer
from orca.auth.rbac import Rbac

MODES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC")


class Authorizer(Protocol):
    """Decides from what it knows, at once."""

    def authorize(self, user: UserInfo, action: Action) -> Decision:
        """Never raises."""


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


class Union:
    """Authorizers in order."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    def authorize(self, user: UserInfo, action: Action) -> Decision:
        """The first opinion; reasons of those without one are joined."""
        reasons = ""
        for authorizer in self._authorizers:
            decision = authorizer.authorize(user, action)
            if decision.allowed or decision.denied:
                return decision
            if decision.reason:
                reasons = f"{reasons}, {decision.reason}" if reasons else decision.reason
        return Decision(False, reasons) if reasons else _NONE


def build_authorizer(modes: Sequence[str], reader: Reader) -> Authorizer:
    """From ``--authorization-mode``. Raises ValueError for an unknown mode."""
    chain: list[Authorizer] = [Masters()]
    for mode in modes:
        match mode:
            case "RBAC":
                chain.append(Rbac(reader))
            case "Node":
                chain.append(NodeAuthorizer(reader))
            case "AlwaysAllow":
                chain.append(Always(Decision(True)))
            case "AlwaysDeny":
                chain.append(Always(Decision(False, "Everything is forbidden.")))
            case _:
                raise ValueError(f"unknown authorization mode {mode!r}, known are {', '.join(MODES)}")
    return Union(chain)


_MASTER = Decision(True)
_NONE = Decision(False)
