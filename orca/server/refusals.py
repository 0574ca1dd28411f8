"""403 as upstream words it."""

from __future__ import annotations

from orca.api.errors import ApiError, forbidden, internal, quote
from orca.auth import Action, UserInfo


class Refused(ApiError):
    """403 by the authorizers; ``why`` is what they said, for the audit log."""

    def __init__(self, told: ApiError, why: str) -> None:
        super().__init__(told.code, told.reason, told.message, told.details)
        self.why = why


class Undecided(ApiError):
    """500: the authorizers neither allowed nor refused, because one of them failed."""

    def __init__(self, error: str) -> None:
        told = internal(error)
        super().__init__(told.code, told.reason, told.message, told.details)


def refusal(user: UserInfo, action: Action, reason: str) -> Refused:
    """What a user is told who may not do that."""
    return Refused(_told(user, action, reason), reason)


def _told(user: UserInfo, action: Action, reason: str) -> ApiError:
    if action.path:
        why = f"User {quote(user.name)} cannot {action.verb} path {quote(action.path)}"
        return forbidden(None, "", why + (f": {reason}" if reason else ""))
    shown = f"{action.resource}/{action.subresource}" if action.subresource else action.resource
    where = f"in the namespace {quote(action.namespace)}" if action.namespace else "at the cluster scope"
    why = (
        f"User {quote(user.name)} cannot {action.verb} resource {quote(shown)} "
        f"in API group {quote(action.group)} {where}"
    )
    if reason:
        why += f": {reason}"
    group_resource = f"{action.resource}.{action.group}" if action.group else action.resource
    name = f" {quote(action.name)}" if action.name else ""
    details = {"name": action.name} if action.name else {}
    if action.group:
        details["group"] = action.group
    details["kind"] = action.resource
    return ApiError(403, "Forbidden", f"{group_resource}{name} is forbidden: {why}", details)
