"""Bearer tokens that a program elsewhere knows: it is sent a TokenReview and says who has the token.

Reference: k8s.io/apiserver ``plugin/pkg/authenticator/token/webhook/webhook.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from orca.auth.identity import UserInfo
from orca.auth.posting import PostFailed, ReviewCaller
from orca.auth.verdicts import Verdict

log = structlog.get_logger()

VERSIONS = ("v1", "v1beta1")


class TokenReviewer:
    """``own`` are the audiences of this server: whoever answers without audiences means these."""

    def __init__(self, caller: ReviewCaller, *, version: str, own: Sequence[str]) -> None:
        self._caller = caller
        self._version = f"authentication.k8s.io/{version}"
        self._own = tuple(own)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._caller.aclose()

    async def ask(self, token: str, audiences: tuple[str, ...]) -> Verdict:
        """Who has the token, when it is meant for one of ``audiences``."""
        spec = {"token": token, **({"audiences": list(audiences)} if audiences else {})}
        review = {
            "kind": "TokenReview",
            "apiVersion": self._version,
            "metadata": {},
            "spec": spec,
            "status": {"user": {}},
        }
        try:
            answer = await self._caller.review(review)
        except PostFailed as error:
            log.error("failed to make webhook authenticator request", error=str(error))
            return Verdict(None, error=str(error))
        return judged(answer, audiences, self._own)


def judged(answer: dict[str, Any], audiences: Sequence[str], own: Sequence[str]) -> Verdict:
    """What an answered TokenReview means to whoever wanted one of ``audiences``."""
    status = answer.get("status")
    if not isinstance(status, dict):
        return Verdict(None, error="the webhook's answer is no TokenReview with a status")
    meant: Sequence[str] = _strings(status.get("audiences")) or own
    common = tuple(audience for audience in audiences if audience in meant)
    if audiences and not common:
        return Verdict(None)
    if status.get("authenticated") is not True:
        return Verdict(None, error=str(status.get("error") or ""))
    told = status.get("user")
    user = _user(told) if isinstance(told, dict) else None
    if user is None:
        return Verdict(None, error="the webhook's answer has no user with a name")
    return Verdict(user, common)


def _user(told: dict[str, Any]) -> UserInfo | None:
    name, extra = told.get("username"), told.get("extra")
    if not name or not isinstance(name, str):
        return None
    values = extra.items() if isinstance(extra, dict) else ()
    return UserInfo(
        name, str(told.get("uid") or ""), _strings(told.get("groups")), {key: _strings(value) for key, value in values}
    )


def _strings(found: Any) -> tuple[str, ...]:
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()
