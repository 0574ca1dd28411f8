"""Acting as somebody else: the ``Impersonate-*`` headers, for those who may.

Whoever has the verb ``impersonate`` may do all that the other may. Narrower rights are asked for first, by modes that
depend on who is meant: ``impersonate-on:<mode>:<verb>`` on what the request is about, and ``impersonate:<mode>`` on
whom it acts as. Nodes and service accounts are known by their names then, and have the groups they always have.

Reference: KEP-5284, k8s.io/apiserver ``endpoints/filters/impersonation`` (on by default since v1.36).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from multidict import CIMultiDictProxy

from orca.api.errors import ApiError, FieldError, bad_request
from orca.api.names import dns1123_label, dns1123_subdomain
from orca.api.validation.common import domain_prefixed_path
from orca.auth import Action, UserInfo
from orca.auth.identity import (
    ANONYMOUS,
    AUTHENTICATED,
    MASTERS,
    NODE_PREFIX,
    NODES,
    SERVICE_ACCOUNT_PREFIX,
    SERVICE_ACCOUNTS,
    UNAUTHENTICATED,
    header_text,
)
from orca.server.refusals import refusal

_USER, _GROUP, _UID, _EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "impersonate-extra-"
_GROUP_OF_RIGHTS = "authentication.k8s.io"
_NODE_OF_TOKEN = "authentication.kubernetes.io/node-name"
_MANY = 4
"""From so many groups or extra values on, the right to all of them is asked for first."""

BOUNDS = tuple(0.001 * 2**step for step in range(15))
Check = Callable[[UserInfo, Action], Awaitable[object]]
"""Raises Refused for what a user may not do."""


@dataclass(frozen=True, slots=True)
class Acting:
    """``constraint`` is the verb of the mode that allowed it, "" where ``impersonate`` did."""

    user: UserInfo
    constraint: str = ""


class Outcomes:
    """How often something was allowed or denied, and how long that took, by mode."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = {}
        self.counts: dict[tuple[str, str], list[int]] = {}
        """By (mode, decision): how often up to each of ``BOUNDS``, and beyond."""

    def note(self, mode: str, allowed: bool, seconds: float) -> None:
        """Once more."""
        key = (mode, "allowed" if allowed else "denied")
        self.counts.setdefault(key, [0] * (len(BOUNDS) + 1))[bisect_left(BOUNDS, seconds)] += 1
        self.seconds[key] = self.seconds.get(key, 0.0) + seconds


def mode_of(verb: str) -> str:
    """The mode that asks for a verb, or that allowed it: "legacy" for ``impersonate`` itself."""
    _, _, narrow = verb.partition(":")
    return narrow.partition(":")[0] or "legacy"


def wanted_user(headers: CIMultiDictProxy[str]) -> UserInfo | None:
    """Whom a request wants to act as, as it says; None for nobody else. Raises ApiError 400."""
    who = header_text(headers.get(_USER, ""))
    groups = tuple(header_text(one) for one in headers.getall(_GROUP, []))
    uid = header_text(headers.get(_UID, ""))
    extra = {
        unquote(key[len(_EXTRA) :].lower()): tuple(map(header_text, headers.getall(key)))
        for key in headers
        if key.lower().startswith(_EXTRA)
    }
    if who:
        return UserInfo(who, uid, groups, extra)
    if groups or uid or extra:
        raise bad_request("requested groups, a uid or extra values without impersonating a user name")
    return None


async def impersonated(
    user: UserInfo, wanted: UserInfo, asked: Action, check: Check, first: int = 0
) -> tuple[Acting, int]:
    """Whom ``user`` acts as in a request for ``asked``, and the number of the mode that allowed it.

    The mode number ``first`` is tried first: that which allowed it the last time. Raises Refused (403).
    """
    problem: ApiError | None = None
    for number in sorted(range(len(MODES)), key=lambda one: one != first):
        mode, means = MODES[number]
        if not means(user, wanted):
            continue
        try:
            if mode:
                await check(user, replace(asked, verb=f"impersonate-on:{mode}:{asked.verb}"))
            return Acting(await _as(user, wanted, mode, check), f"impersonate:{mode}" if mode else ""), number
        except ApiError as error:
            problem = problem or error
    assert problem is not None  # the last mode is for everybody
    raise problem


# -- whom a mode is for


def _only_named(wanted: UserInfo) -> bool:
    return not (wanted.uid or wanted.groups or wanted.extra)


def _node(name: str) -> str:
    """The node behind a user's name, "" for others."""
    node = name.removeprefix(NODE_PREFIX)
    return node if node != name and not dns1123_subdomain(node) else ""


def _account(name: str) -> tuple[str, str] | None:
    """(namespace, name) of the service account behind a user's name."""
    parts = name.removeprefix(SERVICE_ACCOUNT_PREFIX).split(":")
    if not name.startswith(SERVICE_ACCOUNT_PREFIX) or len(parts) != 2:
        return None
    return None if dns1123_label(parts[0]) or dns1123_subdomain(parts[1]) else (parts[0], parts[1])


def _is_own_node(user: UserInfo, wanted: UserInfo) -> bool:
    """A service account means the node where its pod runs, which its token names."""
    node = _node(wanted.name)
    token = user.extra.get(_NODE_OF_TOKEN)
    return bool(node) and _only_named(wanted) and _account(user.name) is not None and token == (node,)


def _is_node(user: UserInfo, wanted: UserInfo) -> bool:
    return _only_named(wanted) and bool(_node(wanted.name))


def _is_account(user: UserInfo, wanted: UserInfo) -> bool:
    return _only_named(wanted) and _account(wanted.name) is not None


def _is_other(user: UserInfo, wanted: UserInfo) -> bool:
    return not _node(wanted.name) and _account(wanted.name) is None


MODES: Sequence[tuple[str, Callable[[UserInfo, UserInfo], bool]]] = (
    ("associated-node", _is_own_node),
    ("arbitrary-node", _is_node),
    ("serviceaccount", _is_account),
    ("user-info", _is_other),
    ("", lambda user, wanted: True),
)
"""In the order in which they are tried; the last one is the verb ``impersonate``."""


# -- what a mode asks for


async def _as(user: UserInfo, wanted: UserInfo, mode: str, check: Check) -> UserInfo:
    """Raises Refused for the first part that ``user`` may not take on."""
    verb, group = (f"impersonate:{mode}", _GROUP_OF_RIGHTS) if mode else ("impersonate", "")
    version = "v1" if mode else ""
    name, groups = wanted.name, wanted.groups
    account, node = _account(name), _node(name)
    if account is not None:
        groups = groups or (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{account[0]}")
        await check(
            user,
            Action(verb, group, resource="serviceaccounts", namespace=account[0], name=account[1], version=version),
        )
    elif mode and node:
        groups = (NODES,)
        # Whose token names the node needs no right to that node: the right is one to whichever node it is.
        await check(
            user,
            Action(verb, group, resource="nodes", name="*" if mode == "associated-node" else node, version=version),
        )
    else:
        await check(user, Action(verb, group, resource="users", name=name, version=version))
    if wanted.uid:
        await check(user, Action(verb, _GROUP_OF_RIGHTS, resource="uids", name=wanted.uid, version="v1"))
    await _check_groups(
        user, wanted.groups, Action(verb, group, resource="groups", version=version), check, narrow=bool(mode)
    )
    await _check_extra(
        user,
        wanted.extra,
        Action(verb, _GROUP_OF_RIGHTS, resource="userextras", version="v1"),
        check,
        narrow=bool(mode),
    )
    if name == ANONYMOUS:
        groups = groups if UNAUTHENTICATED in groups else (*groups, UNAUTHENTICATED)
    elif UNAUTHENTICATED not in groups and AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return UserInfo(name, wanted.uid, groups, wanted.extra)


async def _check_groups(user: UserInfo, groups: Sequence[str], action: Action, check: Check, *, narrow: bool) -> None:
    if narrow and "" in groups:
        raise refusal(user, action, "impersonating the empty string group is not allowed")
    if narrow and MASTERS in groups:
        why = "impersonating the system:masters group is not allowed"
        raise refusal(user, replace(action, name=MASTERS), why)
    if narrow and len(groups) >= _MANY and await _may(user, replace(action, name="*"), check):
        return
    for group in groups:
        await check(user, replace(action, name=group))


async def _check_extra(
    user: UserInfo, extra: Mapping[str, Sequence[str]], action: Action, check: Check, *, narrow: bool
) -> None:
    if narrow and (problem := _extra_problem(extra)):
        raise refusal(user, action, problem)
    many = max(len(extra), sum(map(len, extra.values()))) >= _MANY
    if narrow and many and await _may(user, replace(action, subresource="*", name="*"), check):
        return
    for key, values in extra.items():
        for value in values:
            await check(user, replace(action, subresource=key, name=value))


def _extra_problem(extra: Mapping[str, Sequence[str]]) -> str:
    for key, values in extra.items():
        if not key:
            return "impersonating the empty string key in extra is not allowed"
        problems: list[FieldError] = []
        domain_prefixed_path(key, "extra[key]", problems)
        if problems:
            return f"impersonating an invalid key in extra is not allowed: {', '.join(map(str, problems))}"
        if key != key.lower():
            return f'impersonating a non-lowercase key in extra is not allowed: "{key}"'
        if "" in values:
            return "impersonating the empty string value in extra is not allowed"
    return ""


async def _may(user: UserInfo, action: Action, check: Check) -> bool:
    try:
        await check(user, action)
    except ApiError:
        return False
    return True
