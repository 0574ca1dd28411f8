"""Claims that a token does not have but names a source of: a JWT at some address (OpenID Connect Core 5.6.2).

Only the groups claim is fetched, as upstream. Reference: k8s.io/apiserver
``plugin/pkg/authenticator/token/oidc/oidc.go``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from orca.api.errors import quote
from orca.auth.oidc.fetching import Answer, FetchFailed
from orca.auth.oidc.tokens import Token, TokenRefused, take_apart


class Verifier(Protocol):
    """Judges tokens of one issuer."""

    async def verify(self, text: str, /) -> tuple[Token, datetime]:
        """Raises TokenRefused."""


class Sources:
    """``verifier_of`` gives that of an issuer, ``get`` fetches with a bearer token."""

    def __init__(
        self,
        claim: str,
        verifier_of: Callable[[str], Awaitable[Verifier]],
        get: Callable[[str, str], Awaitable[Answer]],
    ) -> None:
        self._claim = claim
        self._verifier_of = verifier_of
        self._get = get

    async def expanded(self, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims, with the one that is elsewhere. Raises TokenRefused."""
        source = self._source(claims)
        if source is None:
            return claims
        where, bearer = source
        try:
            answer = await self._get(where, bearer)
        except FetchFailed as error:
            raise TokenRefused(f"while getting distributed claim {quote(self._claim)}: {error}") from error
        if not 200 <= answer.status <= 226:
            text = f"error while getting distributed claim JWT: {answer.status} {answer.reason}"
            raise TokenRefused(f"while getting distributed claim {quote(self._claim)}: {text}")
        told = answer.body.decode(errors="replace").strip()
        try:
            issuer = take_apart(told).issuer
        except TokenRefused as error:
            text = f"getting untrusted issuer from endpoint {where} failed for claim {quote(self._claim)}: {error}"
            raise TokenRefused(text) from error
        try:
            verifier = await self._verifier_of(issuer)
        except (TokenRefused, ValueError) as error:
            raise TokenRefused(f"verifying untrusted issuer {issuer} failed: {error}") from error
        try:
            token, _ = await verifier.verify(told)
        except TokenRefused as error:
            raise TokenRefused(f"verify distributed claim token: {error}") from error
        if self._claim not in token.claims:
            text = f"jwt returned by distributed claim endpoint {quote(where)} did not contain claim: {self._claim}"
            raise TokenRefused(text)
        return {**claims, self._claim: token.claims[self._claim]}

    def _source(self, claims: dict[str, Any]) -> tuple[str, str] | None:
        """(address, bearer token) of the claim; None when it is here, or nowhere."""
        names = claims.get("_claim_names")
        if self._claim in claims or names is None:
            return None
        if not isinstance(names, dict):
            raise TokenRefused("oidc: error parsing distributed claim names: not an object")
        sources = claims.get("_claim_sources")
        if sources is None:
            raise TokenRefused("oidc: no claim sources")
        if not isinstance(sources, dict):
            raise TokenRefused("oidc: could not parse claim sources: not an object")
        name = names.get(self._claim)
        if name is None:
            return None
        source = sources.get(name) if isinstance(name, str) else None
        if not isinstance(source, dict):
            raise TokenRefused(f"id token _claim_names contained a source {name} missing in _claims_sources")
        where, bearer = source.get("endpoint") or "", source.get("access_token") or ""
        if not where:
            return None  # an aggregated claim, which is a JWT in the token
        if not isinstance(where, str) or not isinstance(bearer, str) or urlsplit(where).scheme != "https":
            raise TokenRefused("oidc: could not parse claim sources: the endpoint is no URL of https")
        return where, bearer
