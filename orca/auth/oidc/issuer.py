"""One issuer of tokens: found by its discovery document, asked for keys, its claims made to users."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import structlog

from orca.api.errors import quote
from orca.auth.identity import UserInfo
from orca.auth.oidc.distributed import Sources
from orca.auth.oidc.fetching import Answer, Fetcher, FetchFailed, trust_of
from orca.auth.oidc.keys import RemoteKeys
from orca.auth.oidc.mapping import Mapping
from orca.auth.oidc.metrics import JwtMetrics
from orca.auth.oidc.tokens import Token, TokenRefused, judge, take_apart
from orca.client.clock import Clock

log = structlog.get_logger()

RETRY_SECONDS = 10.0
"""How long an issuer that could not be found is left alone."""
WELL_KNOWN = "/.well-known/openid-configuration"


@dataclass(slots=True)
class Surroundings:
    """What all issuers share. ``algorithms`` are those that tokens may be signed with."""

    fetcher: Fetcher
    clock: Clock
    algorithms: Collection[str]
    metrics: JwtMetrics | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """What runs for these issuers until they are exchanged."""

    def keep(self, task: asyncio.Task[None]) -> None:
        """Have it end with the issuers."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Verifier:
    """Judges tokens of one issuer for some audiences. It is ready once the issuer's keys are known to be somewhere."""

    def __init__(
        self, url: str, audiences: tuple[str, ...], around: Surroundings, *, trust: str, discovery: str = ""
    ) -> None:
        self.url = url
        self.problem = f"oidc: authenticator for issuer {quote(url)} is not initialized"
        self._audiences = audiences
        self._around = around
        self._trust = trust_of(trust)
        self._discovery = discovery or url.removesuffix("/") + WELL_KNOWN
        self._keys: RemoteKeys | None = None

    @property
    def ready(self) -> bool:
        """Whether tokens can be judged."""
        return self._keys is not None

    async def find(self) -> None:
        """Until the issuer has been found: it may come up after this server, even in this cluster."""
        while True:
            try:
                where = self._jwks_uri(await self.get(self._discovery))
                break
            except FetchFailed as error:
                self.problem = str(error)
                log.warning("an issuer of tokens cannot be found yet", issuer=self.url, error=str(error))
            await self._around.clock.sleep(RETRY_SECONDS)
        metrics = self._around.metrics
        heard = (lambda keys: metrics.fetched(self.url, keys)) if metrics is not None else (lambda _: None)
        self._keys = RemoteKeys(lambda: self.get(where), self._around.clock, heard)

    async def get(self, url: str, bearer: str = "") -> Answer:
        """A document, with the issuer's trust. Raises FetchFailed."""
        return await self._around.fetcher.get(url, self._trust, bearer=bearer)

    def _jwks_uri(self, answer: Answer) -> str:
        if answer.status != 200:
            shown = answer.body[:1024].decode(errors="replace")
            raise FetchFailed(f"{answer.status} {answer.reason}: {shown}")
        try:
            found: Any = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise FetchFailed(f"oidc: failed to decode provider discovery object: {error}") from error
        told = found if isinstance(found, dict) else {}
        if told.get("issuer") != self.url:
            shown = quote(str(told.get("issuer") or ""))
            raise FetchFailed(
                f"oidc: issuer did not match the issuer returned by provider, expected {quote(self.url)} got {shown}"
            )
        uri = told.get("jwks_uri")
        if not isinstance(uri, str) or not uri.startswith("https://"):
            raise FetchFailed("oidc: the provider's discovery object has no jwks_uri of https")
        return uri

    async def verify(self, text: str) -> tuple[Token, datetime]:
        """The token and when it ends. Raises TokenRefused."""
        if self._keys is None:
            raise TokenRefused("oidc: authenticator not initialized")
        token = take_apart(text)
        now = self._around.clock.now()
        end = judge(token, issuer=self.url, audiences=self._audiences, algorithms=self._around.algorithms, now=now)
        await self._keys.verify(token)
        return token, end


class JwtIssuer:
    """One entry of ``jwt``."""

    def __init__(self, mapping: Mapping, around: Surroundings) -> None:
        issuer = mapping.spec.issuer
        self._mapping = mapping
        self._around = around
        self.verifier = Verifier(
            issuer.url,
            issuer.audiences,
            around,
            trust=issuer.certificate_authority,
            discovery=issuer.discovery_url,
        )
        claim = mapping.spec.groups.claim
        self._sources = Sources(claim, self._verifier_of, self.verifier.get) if claim else None
        self._others: dict[str, Verifier] = {}

    @property
    def url(self) -> str:
        """Which tokens are its own."""
        return self.verifier.url

    def start(self) -> asyncio.Task[None]:
        """Begin to look for the issuer; the task ends when it is found."""
        task = asyncio.create_task(self.verifier.find(), name=f"issuer {self.url}")
        self._around.keep(task)
        return task

    async def identify(self, text: str) -> tuple[UserInfo, datetime]:
        """The user, and until when the token says so. Raises TokenRefused."""
        began = self._around.clock.monotonic()
        good = False
        try:
            found = await self._identify(text)
            good = True
        finally:
            if self._around.metrics is not None:
                self._around.metrics.authenticated(self.url, self._around.clock.monotonic() - began, good=good)
        return found

    async def _identify(self, text: str) -> tuple[UserInfo, datetime]:
        try:
            token, end = await self.verifier.verify(text)
        except TokenRefused as error:
            if not self.verifier.ready:
                raise
            raise TokenRefused(f"oidc: verify token: {error}") from error
        claims = token.claims
        if self._sources is not None:
            try:
                claims = await self._sources.expanded(claims)
            except TokenRefused as error:
                raise TokenRefused(f"oidc: could not expand distributed claims: {error}") from error
        if self._mapping.expressions:
            # What expressions cost depends on the claims, and others are served meanwhile.
            return await asyncio.to_thread(self._mapping.user, claims), end
        return self._mapping.user(claims), end

    async def _verifier_of(self, url: str) -> Verifier:
        """Of an issuer that a distributed claim comes from: any, as long as its keys say so."""
        found = self._others.get(url)
        if not url.startswith("https://"):
            raise TokenRefused(f"issuers are reached by https: {quote(url)}")
        if found is None:
            if len(self._others) >= _MOST_OTHERS:
                raise TokenRefused(f"too many issuers of distributed claims: {quote(url)}")
            issuer = self._mapping.spec.issuer
            found = Verifier(url, issuer.audiences, self._around, trust=issuer.certificate_authority)
            self._others[url] = found
            self._around.keep(asyncio.create_task(found.find(), name=f"issuer {url}"))
        if not found.ready:
            raise TokenRefused(f"verifier not initialized for issuer: {quote(url)}")
        return found


_MOST_OTHERS = 32
"""Issuers of distributed claims: each is looked for, for as long as its user's issuer is configured."""
