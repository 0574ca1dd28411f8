"""All issuers of a configuration, exchanged as a whole when its file changes.

New issuers take over once every one of them has been found, so that a mistake in the file locks nobody out: until then,
and for a file that is invalid, those in use stay. Reference: k8s.io/kubernetes
``pkg/kubeapiserver/options/authentication.go``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from orca.api.errors import FieldError
from orca.auth.following import follow
from orca.auth.oidc.config import Anonymous, AuthenticationConfiguration, ConfigInvalid, parse
from orca.auth.oidc.fetching import Fetcher
from orca.auth.oidc.issuer import JwtIssuer, Surroundings
from orca.auth.oidc.mapping import Mapping
from orca.auth.oidc.metrics import JwtMetrics
from orca.auth.oidc.tokens import ALGORITHMS, issuer_of
from orca.auth.oidc.validation import Expressions, check, joined
from orca.client.clock import Clock

log = structlog.get_logger()

EXCHANGE_SECONDS = 60.0
"""How long new issuers may take to be found."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and the bytes it was read from (none for one made of flags)."""

    config: AuthenticationConfiguration
    expressions: tuple[Expressions, ...]
    content: bytes = b""

    @property
    def anonymous(self) -> Anonymous | None:
        """What the file says of requests without credentials."""
        return self.config.anonymous


def load(content: bytes, disallowed: Collection[str]) -> Loaded:
    """Read and checked. Raises ConfigInvalid."""
    return replace(checked(parse(content), disallowed), content=content)


def checked(config: AuthenticationConfiguration, disallowed: Collection[str]) -> Loaded:
    """With its expressions compiled. Raises ConfigInvalid, whose text has each problem with its field."""
    found = check(config, disallowed)
    if found.problems:
        raise ConfigInvalid(joined(found.problems))
    return Loaded(config, tuple(found.expressions))


class Issuers:
    """``start`` looks for the issuers, ``follow`` (of a file) exchanges them, ``aclose`` ends all.

    ``changed`` is called once others are in use. ``algorithms`` are those that tokens may be signed with.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        clock: Clock,
        path: Path | None = None,
        disallowed: Collection[str] = (),
        algorithms: Collection[str] = ALGORITHMS,
        metrics: JwtMetrics | None = None,
    ) -> None:
        self._loaded = loaded
        self._clock = clock
        self.path = path
        self._disallowed = disallowed
        self._metrics = metrics
        self._fetcher = Fetcher()
        self._algorithms = algorithms
        self._issuers, self._around = self._made(loaded)
        self.changed: Callable[[], None] = lambda: None
        if metrics is not None and path is not None:
            metrics.in_use(loaded.content)

    def start(self) -> None:
        """Look for the issuers; their tokens are refused until they are found."""
        for issuer in self._issuers.values():
            issuer.start()

    async def aclose(self) -> None:
        """End what runs, and close connections."""
        await _end(self._around)
        await self._fetcher.aclose()

    def of(self, token: str) -> JwtIssuer | None:
        """The issuer that a token says it is from; None for those of others."""
        return self._issuers.get(issuer_of(token)) if self._issuers else None

    async def follow(self) -> None:
        """Use the file anew when it changes, until cancelled."""
        assert self.path is not None
        await follow(self.path, self._loaded.content, self._take, self._clock)

    async def _take(self, content: bytes | None) -> bool:
        """Whether this content is settled: used, or refused for good."""
        settled, problem = False, "the file cannot be read"
        try:
            if content is not None:
                settled = True
                # Expressions are compiled and certificates read: others are served meanwhile.
                loaded = await asyncio.to_thread(load, content, self._disallowed)
                if loaded.anonymous != self._loaded.anonymous:
                    problem = str(FieldError.forbidden("anonymous", "changed from initial configuration file"))
                else:
                    problem = await self._exchange(loaded)
                    settled = not problem
        except ConfigInvalid as error:
            problem = str(error)
        if problem:
            log.error("the authentication configuration is not used", file=str(self.path), error=problem)
        else:
            log.info("authentication configuration reloaded", file=str(self.path))
        if self._metrics is not None:
            self._metrics.reloaded(good=not problem)
        return settled

    async def _exchange(self, loaded: Loaded) -> str:
        """Use other issuers. What kept them from it, "" when they are in use."""
        issuers, around = await asyncio.to_thread(self._made, loaded)
        looking = [issuer.start() for issuer in issuers.values()]
        patience = asyncio.ensure_future(self._clock.sleep(EXCHANGE_SECONDS))
        all_found = asyncio.gather(*looking, return_exceptions=True)
        try:
            await asyncio.wait((all_found, patience), return_when=asyncio.FIRST_COMPLETED)
            away = [issuer.verifier.problem for issuer in issuers.values() if not issuer.verifier.ready]
        except asyncio.CancelledError:
            await _end(around)
            raise
        finally:
            patience.cancel()
        if away:
            await _end(around)
            return f"issuers cannot be found: {'; '.join(away)}"
        before, gone = self._around, self._issuers.keys() - issuers.keys()
        self._issuers, self._around, self._loaded = issuers, around, loaded
        self.changed()
        if self._metrics is not None:
            self._metrics.in_use(loaded.content)
            for url in gone:
                self._metrics.forget(url)
        await _end(before)
        return ""

    def _made(self, loaded: Loaded) -> tuple[dict[str, JwtIssuer], Surroundings]:
        around = Surroundings(self._fetcher, self._clock, self._algorithms, self._metrics)
        pairs = zip(loaded.config.jwt, loaded.expressions, strict=True)
        return {spec.issuer.url: JwtIssuer(Mapping(spec, made), around) for spec, made in pairs}, around


async def _end(around: Surroundings) -> None:
    tasks = list(around.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
