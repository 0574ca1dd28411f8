"""Acting as somebody else: the ``Impersonate-*`` headers, for those who may.

Reference: k8s.io/apiserver ``endpoints/filters/impersonation.go``.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from multidict import CIMultiDictProxy

from orca.api.errors import bad_request
from orca.auth import Action, UserInfo
from orca.auth.identity import (
    ANONYMOUS,
    AUTHENTICATED,
    SERVICE_ACCOUNT_PREFIX,
    SERVICE_ACCOUNTS,
    UNAUTHENTICATED,
    header_text,
    service_account_of,
)

_USER, _GROUP, _UID, _EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "impersonate-extra-"


def impersonated(
    user: UserInfo, headers: CIMultiDictProxy[str], check: Callable[[UserInfo, Action], object]
) -> UserInfo:
    """The user to act as. ``check`` raises ApiError 403 for what ``user`` may not impersonate."""
    who = header_text(headers.get(_USER, ""))
    groups = told = [header_text(one) for one in headers.getall(_GROUP, [])]
    uid = header_text(headers.get(_UID, ""))
    extra = {
        unquote(key[len(_EXTRA) :].lower()): tuple(map(header_text, headers.getall(key)))
        for key in headers
        if key.lower().startswith(_EXTRA)
    }
    if not who:
        if groups or uid or extra:
            raise bad_request("requested impersonation without a user")
        return user
    account = service_account_of(who)
    if account is not None:
        space, account_name = account
        check(user, Action("impersonate", resource="serviceaccounts", namespace=space, name=account_name))
        groups = groups or [SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{space}"]
    elif who.startswith(SERVICE_ACCOUNT_PREFIX):
        raise bad_request(f"{who} is no service account")
    else:
        check(user, Action("impersonate", resource="users", name=who))
    for group in told:
        check(user, Action("impersonate", resource="groups", name=group))
    if uid:
        check(user, Action("impersonate", group="authentication.k8s.io", resource="uids", name=uid))
    for key, values in extra.items():
        for value in values:
            check(
                user,
                Action(
                    "impersonate", group="authentication.k8s.io", resource="userextras", subresource=key, name=value
                ),
            )
    wanted = [*groups]
    if who == ANONYMOUS:
        wanted += [UNAUTHENTICATED] if UNAUTHENTICATED not in wanted else []
    elif AUTHENTICATED not in wanted:
        wanted.append(AUTHENTICATED)
    return UserInfo(who, uid, tuple(wanted), extra)
