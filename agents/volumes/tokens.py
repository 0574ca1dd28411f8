"""Service account tokens for projected volumes: asked through TokenRequest, bound to the pod, renewed in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from orca.api.builtin import SERVICEACCOUNTS
from orca.api.errors import ApiError
from orca.api.objects import Obj, name, namespace, uid
from orca.api.times import parse_time
from orca.client.base import Client
from orca.client.clock import Clock

LONGEST_USE = timedelta(hours=24)
"""A token is renewed after 80 % of its life, and after a day at the latest."""

Key = tuple[str, str, str, int]
"""Pod uid, service account, audience, seconds."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_at: datetime
    expires_at: datetime


class TokenSource:
    """Keeps each pod's tokens until they are due."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[Key, _Token] = {}

    def __repr__(self) -> str:
        return f"<TokenSource of {len(self._tokens)} tokens>"

    async def get(self, pod: Obj, *, audience: str, seconds: int) -> str:
        """A token for the pod's service account that is not due for renewal; while the API refuses or is away, one that
        still holds. Raises ApiError."""
        account = pod["spec"].get("serviceAccountName") or "default"
        key = (uid(pod), account, audience, seconds)
        known = self._tokens.get(key)
        now = self._clock.now()
        if known is not None and now < known.renew_at:
            return known.text
        try:
            token = self._tokens[key] = await self._request(pod, account, audience, seconds)
        except ApiError as error:
            if known is None or known.expires_at <= now:
                raise
            log.warning("cannot renew a token yet", pod=uid(pod), account=account, error=str(error))
            return known.text
        return token.text

    async def _request(self, pod: Obj, account: str, audience: str, seconds: int) -> _Token:
        answer = await self._client.create_sub(
            SERVICEACCOUNTS,
            account,
            namespace(pod),
            "token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "audiences": [audience] if audience else [],
                    "expirationSeconds": seconds,
                    "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name(pod), "uid": uid(pod)},
                },
            },
        )
        status, now = answer["status"], self._clock.now()
        expires_at = parse_time(status["expirationTimestamp"])
        return _Token(status["token"], now + min((expires_at - now) * 0.8, LONGEST_USE), expires_at)

    def due(self) -> set[str]:
        """Uids of pods with a token to renew now."""
        now = self._clock.now()
        return {key[0] for key, token in self._tokens.items() if token.renew_at <= now}

    def release(self, pod_uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == pod_uid]:
            del self._tokens[key]
