"""Bearer tokens that this server does not know by itself: those of OpenID Connect issuers, then those of a webhook."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca.auth.oidc.configured import Issuers, Loaded
from orca.auth.oidc.metrics import JwtMetrics
from orca.auth.oidc.tokens import ALGORITHMS, TokenRefused
from orca.auth.posting import ReviewCaller
from orca.auth.tokencache import TokenCacheStats
from orca.auth.tokenreview import TokenReviewer
from orca.auth.verdicts import Verdict, Verdicts
from orca.client.clock import Clock

GOOD_SECONDS = 10.0
"""How long a user of a token is remembered, whoever told of it; as upstream's ``TokenSuccessCacheTTL``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """Issuers as ``loaded``, from the file at ``path`` if there is one, and a webhook."""

    loaded: Loaded | None = None
    path: Path | None = None
    algorithms: Collection[str] = ALGORITHMS
    webhook: ReviewCaller | None = None
    webhook_version: str = "v1beta1"
    webhook_seconds: float = 120.0


class RemoteTokens:
    """``own`` are the audiences of this server; ``webhook_seconds`` says how long a webhook's verdicts are kept."""

    def __init__(
        self,
        issuers: Issuers | None,
        webhook: TokenReviewer | None,
        *,
        own: Sequence[str],
        webhook_seconds: float,
        clock: Clock,
        stats: TokenCacheStats | None = None,
    ) -> None:
        self.issuers = issuers
        self._webhook = webhook
        self._own = tuple(own)
        self._verdicts = Verdicts(self._ask, good=GOOD_SECONDS, bad=0.0, clock=clock, stats=stats)
        self._reviews: Verdicts | None = None
        if webhook is not None:
            self._reviews = Verdicts(webhook.ask, good=webhook_seconds, bad=webhook_seconds, clock=clock)
        if issuers is not None:
            issuers.changed = self._verdicts.forget

    @classmethod
    def of(
        cls,
        config: RemoteConfig,
        *,
        own: Sequence[str],
        issuers: Sequence[str],
        metrics: JwtMetrics | None,
        clock: Clock,
        stats: TokenCacheStats | None = None,
    ) -> RemoteTokens:
        """What ``config`` describes; ``issuers`` are this server's own, which no other may be."""
        others = webhook = None
        if config.loaded is not None:
            others = Issuers(
                config.loaded,
                clock=clock,
                path=config.path,
                disallowed=tuple(issuers),
                algorithms=config.algorithms,
                metrics=metrics,
            )
        if config.webhook is not None:
            webhook = TokenReviewer(config.webhook, version=config.webhook_version, own=own)
        return cls(others, webhook, own=own, webhook_seconds=config.webhook_seconds, clock=clock, stats=stats)

    def known(self, token: str) -> Verdict | None:
        """What was said of a token for this server a moment ago."""
        return self._verdicts.known(token, self._own)

    async def review(self, token: str, audiences: Sequence[str] = ()) -> Verdict:
        """Who has a token that is meant for one of ``audiences``; for this server, if there are none."""
        return await self._verdicts.of(token, audiences or self._own)

    async def aclose(self) -> None:
        """End what runs, and close connections."""
        for verdicts in (self._verdicts, self._reviews):
            if verdicts is not None:
                await verdicts.aclose()
        if self.issuers is not None:
            await self.issuers.aclose()
        if self._webhook is not None:
            await self._webhook.aclose()

    async def _ask(self, token: str, audiences: tuple[str, ...]) -> Verdict:
        problems: list[str] = []
        issuer = self.issuers.of(token) if self.issuers is not None else None
        common = tuple(audience for audience in audiences if audience in self._own)
        # The audiences of an issuer's tokens are names of this server among its clients, not those of its own tokens:
        # who is known by them is known to whoever takes this server's.
        if issuer is not None and common:
            try:
                user, end = await issuer.identify(token)
                return Verdict(user, common, end=end)
            except TokenRefused as error:
                problems.append(str(error))
        if self._reviews is not None:
            verdict = await self._reviews.of(token, audiences)
            if verdict.user is not None:
                return verdict
            if verdict.error:
                problems.append(verdict.error)
        return Verdict(
            None, error=problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]" if problems else ""
        )
