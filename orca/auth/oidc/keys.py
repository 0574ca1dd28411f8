"""The public keys of an issuer: fetched when one is missing, and kept.

A token signed by a known key costs no request, also when the issuer is away or its keys are old. One with another key
has the keys fetched anew, unless the issuer said how long they last and that time is not over.
Reference: github.com/coreos/go-oidc ``jwks.go``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from orca.auth.oidc.fetching import Answer, FetchFailed
from orca.auth.oidc.tokens import ALGORITHMS, Token, TokenRefused
from orca.client.clock import Clock

EXPIRY_DELTA_SECONDS = 30.0
"""Keys may be fetched anew so long before they end: clocks differ."""
_DIRECTIVE = re.compile(r"\s*([^=,\s]+)\s*(?:=\s*\"?([^\",]*)\"?)?\s*(?:,|$)")
_FAILED = "failed to verify signature: failed to verify id token signature"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a set."""

    key_id: str
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class RemoteKeys:
    """``get`` fetches the set; ``heard`` is told of each fetch: the set's bytes, or None when it failed."""

    def __init__(
        self,
        get: Callable[[], Awaitable[Answer]],
        clock: Clock,
        heard: Callable[[bytes | None], None] = lambda _: None,
    ) -> None:
        self._get = get
        self._clock = clock
        self._heard = heard
        self._keys: list[Key] = []
        self._end = 0.0  # monotonic
        self._fetching: asyncio.Task[None] | None = None

    async def verify(self, token: Token) -> None:
        """Raises TokenRefused unless one of the keys has signed the token."""
        if self._verified(token):
            return
        if self._clock.monotonic() + EXPIRY_DELTA_SECONDS < self._end:
            raise TokenRefused(_FAILED)
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(), name="keys of an issuer")
            self._fetching.add_done_callback(self._fetched)
        try:
            # Whoever began it may go away while others wait.
            await asyncio.shield(self._fetching)
        except FetchFailed as error:
            raise TokenRefused(f"failed to verify signature: fetching keys {error}") from error
        if not self._verified(token):
            raise TokenRefused(_FAILED)

    def _verified(self, token: Token) -> bool:
        return any(
            (not token.key_id or key.key_id == token.key_id) and _signed(token, key.public) for key in self._keys
        )

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # those who waited were told

    async def _fetch(self) -> None:
        try:
            answer = await self._get()
            if answer.status != 200:
                shown = answer.body[:1024].decode(errors="replace")
                raise FetchFailed(f"oidc: get keys failed: {answer.status} {answer.reason} {shown}")
            keys = read_keys(answer.body)
        except FetchFailed:
            self._heard(None)
            raise
        self._keys = keys
        self._end = self._clock.monotonic() + lifetime(answer.headers)
        self._heard(answer.body)


def read_keys(raw: bytes) -> list[Key]:
    """The keys of a JSON Web Key Set that can verify; others (symmetric, of unknown kinds) are left out.

    Raises FetchFailed for what is no set.
    """
    try:
        found: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise FetchFailed(f"oidc: failed to decode keys: {error}") from error
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise FetchFailed("oidc: failed to decode keys: there is no list of keys")
    return [key for one in listed if isinstance(one, dict) and (key := _key(one)) is not None]


def _key(one: dict[str, Any]) -> Key | None:
    try:
        match one.get("kty"):
            case "RSA":
                key: Any = RSAAlgorithm.from_jwk(one)
            case "EC":
                key = ECAlgorithm.from_jwk(one)
            case _:
                return None
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        key = key.public_key()  # whoever publishes this has other worries
    return Key(str(one.get("kid") or ""), key)


def _signed(token: Token, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bool:
    if token.algorithm not in ALGORITHMS:
        return False
    try:
        jwt.PyJWS(algorithms=[token.algorithm]).decode(token.text, key, algorithms=[token.algorithm])
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True


def lifetime(headers: Mapping[str, str]) -> float:
    """Seconds that an answer may be kept by a shared cache; 0 when it does not say so."""
    told = {name.lower(): value for name, value in _DIRECTIVE.findall(headers.get("cache-control", ""))}
    if not told.keys().isdisjoint(("no-store", "no-cache", "private")):
        return 0.0
    for name in ("s-maxage", "max-age"):
        if told.get(name, "").isdigit():
            age = headers.get("age", "")
            return max(float(told[name]) - (float(age) if age.isdigit() else 0.0), 0.0)
    return 0.0
