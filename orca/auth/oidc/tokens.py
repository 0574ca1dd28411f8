"""A JWT before its signature is looked at: cheap reasons to refuse it come first.

Reference: github.com/coreos/go-oidc ``verify.go``, k8s.io/apiserver ``plugin/pkg/authenticator/token/oidc``. Texts of
refusals are theirs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from orca.api.errors import quote

ALGORITHMS = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
"""With a public key only: nobody who can read an issuer's keys can sign."""
LEEWAY_SECONDS = 60
_GOOGLE = "https://accounts.google.com"


class TokenRefused(Exception):
    """The token proves nothing; the message says why, and never has the token in it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart; nothing of it is verified."""

    text: str
    algorithm: str
    key_id: str
    claims: dict[str, Any]

    @property
    def issuer(self) -> str:
        """Who is said to have signed."""
        said = self.claims.get("iss")
        # Google leaves out the scheme that its own discovery document has.
        return _GOOGLE if said == "accounts.google.com" else str(said or "")


def issuer_of(text: str) -> str:
    """Who is said to have signed; "" for what is no JWT."""
    try:
        return take_apart(text).issuer
    except TokenRefused:
        return ""


def take_apart(text: str) -> Token:
    """Raises TokenRefused for what is no JWT in its compact form."""
    parts = text.split(".")
    if len(parts) != 3:
        raise TokenRefused(f"oidc: malformed jwt, expected 3 parts got {len(parts)}")
    header, claims = _object(parts[0], "header"), _object(parts[1], "payload")
    if not isinstance(claims.get("iss", ""), str):
        raise TokenRefused("oidc: failed to unmarshal claims: iss is no string")
    key_id = header.get("kid")
    return Token(text, str(header.get("alg") or ""), key_id if isinstance(key_id, str) else "", claims)


def _object(part: str, what: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        found = orjson.loads(raw)
    except (binascii.Error, ValueError) as error:
        raise TokenRefused(f"oidc: malformed jwt {what}: {error}") from error
    if not isinstance(found, dict):
        raise TokenRefused(f"oidc: malformed jwt {what}: not an object")
    return found


def judge(
    token: Token, *, issuer: str, audiences: Sequence[str], algorithms: Collection[str], now: datetime
) -> datetime:
    """When a token ends that may be good if its signature is. Raises TokenRefused."""
    if token.issuer != issuer:
        text = f"oidc: id token issued by a different provider, expected {quote(issuer)} got {quote(token.issuer)}"
        raise TokenRefused(text)
    meant = _audience(token.claims)
    if not set(audiences) & set(meant):
        expected = quote(audiences[0]) if len(audiences) == 1 else f"in {_listed(sorted(audiences))}"
        raise TokenRefused(f"oidc: expected audience {expected} got {_listed(meant)}")
    end, begin = _time(token.claims, "exp"), _time(token.claims, "nbf")
    if end is None or end < now.timestamp():
        shown = _shown(end or 0)
        raise TokenRefused(f"oidc: token is expired (Token Expiry: {shown})")
    if begin is not None and now.timestamp() + LEEWAY_SECONDS < begin:
        shown = f"oidc: current time {_shown(now.timestamp())} before the nbf (not before) time: {_shown(begin)}"
        raise TokenRefused(shown)
    if token.algorithm not in algorithms:
        expected = _listed(list(algorithms))
        text = f"oidc: id token signed with unsupported algorithm, expected {expected} got {quote(token.algorithm)}"
        raise TokenRefused(text)
    return datetime.fromtimestamp(min(end, _LAST), UTC)


_LAST = 253_402_300_799.0
"""The year 9999, where datetime ends."""


def _audience(claims: dict[str, Any]) -> list[str]:
    found = claims.get("aud")
    listed = [found] if isinstance(found, str) else found or []
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise TokenRefused("oidc: failed to unmarshal claims: aud is neither a string nor a list of strings")
    return listed


def _time(claims: dict[str, Any], name: str) -> float | None:
    found = claims.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TokenRefused(f"oidc: failed to unmarshal claims: {name} is no number")
    return float(found)


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(max(min(seconds, _LAST), 0.0), UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")


def _listed(texts: Sequence[str]) -> str:
    return f"[{' '.join(map(quote, texts))}]"
