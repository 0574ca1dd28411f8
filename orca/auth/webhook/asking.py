"""One webhook as an authorizer: conditions first, then what is remembered, then the webhook itself."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import orjson
import structlog

from orca.api.objects import Obj
from orca.auth.authorization import Known, Member
from orca.auth.identity import NO_OPINION, Action, Decision, UserInfo
from orca.auth.posting import PostFailed, ReviewCaller, Try
from orca.auth.webhook.metrics import AuthorizationMetrics
from orca.auth.webhook.review import BadAnswer, body_of, decision_of, may_be_kept, spec_of, status_of
from orca.client.clock import Clock
from orca.client.kubeconfig import Kubeconfig

if TYPE_CHECKING:
    from orca.auth.webhook.conditions import Conditions

log = structlog.get_logger()

_KEPT = 8192
"""Answers that are remembered, the least used go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a configuration says of a webhook. Times in seconds; a ``*_ttl`` of 0 remembers nothing."""

    name: str
    kubeconfig: Path
    timeout: float = 30.0
    allowed_ttl: float = 300.0
    refused_ttl: float = 30.0
    version: str = "v1"
    deny_on_failure: bool = False
    conditions: tuple[str, ...] = ()


class WebhookAuthorizer:
    """Raises KubeconfigError for a kubeconfig that cannot be used. ``retire`` ends it."""

    def __init__(self, settings: Settings, clock: Clock, metrics: AuthorizationMetrics) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._caller = ReviewCaller(
            Kubeconfig(settings.kubeconfig), seconds=settings.timeout, clock=clock, tried=self._tried
        )
        self._conditions = _compiled(settings.conditions)
        self._kept: OrderedDict[bytes, tuple[float, Obj]] = OrderedDict()
        self._asking = 0
        self._retired = False
        self._took = 0.0

    def __repr__(self) -> str:
        return f"<WebhookAuthorizer {self._settings.name}>"

    def member(self) -> Member:
        """As one of a union."""
        unknown = Known(incomplete=True, error="webhook authorizer does not support user rule resolution")
        return Member("Webhook", self._settings.name, self.at_once, self.authorize, lambda _user, _space: unknown)

    async def retire(self) -> None:
        """Let go of connections, once those who wait have their answers."""
        self._retired = True
        if not self._asking:
            await self._caller.aclose()

    def at_once(self, user: UserInfo, action: Action) -> Decision | None:
        """What conditions or an earlier answer say; None when the webhook, or a thread, has to be asked."""
        spec = spec_of(user, action)
        if self._conditions is not None:
            from orca.auth.webhook.conditions import Costly

            try:
                passed = self._passed_by(self._conditions, spec, inline=True)
            except Costly:
                return None
            if passed is not None:
                return passed
        return self._remembered(orjson.dumps(spec))

    async def authorize(self, user: UserInfo, action: Action) -> Decision:
        """The webhook's decision, or what follows from its failure."""
        spec = spec_of(user, action)
        if self._conditions is not None:
            from orca.auth.webhook.conditions import Costly

            try:
                passed = self._passed_by(self._conditions, spec, inline=True)
            except Costly:
                passed = await asyncio.to_thread(self._passed_by, self._conditions, spec, inline=False)
            if passed is not None:
                return passed
        key = orjson.dumps(spec)
        decision = self._remembered(key)
        return decision if decision is not None else await self._asked(spec, key, action)

    def _passed_by(self, conditions: Conditions, spec: Obj, *, inline: bool) -> Decision | None:
        """The decision where conditions keep the webhook from being asked; None where they let it. Raises Costly."""
        from orca.auth.webhook.conditions import Failed

        name, began = self._settings.name, perf_counter()
        try:
            holds = conditions.hold(spec, inline=inline)
        except Failed as error:
            self._metrics.matched(name, perf_counter() - began, failed=True)
            return self._failed(str(error))
        self._metrics.matched(name, perf_counter() - began, excluded=not holds)
        return None if holds else NO_OPINION

    def _remembered(self, key: bytes) -> Decision | None:
        found = self._kept.get(key)
        if found is None:
            return None
        until, status = found
        if until <= self._clock.monotonic():
            self._kept.pop(key, None)
            return None
        with suppress(KeyError):  # costly expressions ask from threads, and it may have been forgotten just now
            self._kept.move_to_end(key)
        return decision_of(status)

    async def _asked(self, spec: Obj, key: bytes, action: Action) -> Decision:
        settings, began = self._settings, perf_counter()
        self._asking += 1
        try:
            status = await self._answer(spec)
        except (PostFailed, BadAnswer) as error:
            log.error("failed to make webhook authorizer request", webhook=settings.name, error=str(error))
            if not settings.deny_on_failure:
                self._metrics.open.labels(settings.name, _result(error)).inc()
            return self._failed(str(error))
        except asyncio.CancelledError:
            self._metrics.asked(settings.name, "canceled", perf_counter() - began)
            raise
        finally:
            self._asking -= 1
            if self._retired and not self._asking:
                await self._caller.aclose()
        ttl = settings.allowed_ttl if status.get("allowed") else settings.refused_ttl
        if ttl > 0 and may_be_kept(action):
            while len(self._kept) >= _KEPT:
                self._kept.popitem(last=False)
            self._kept[key] = (self._clock.monotonic() + ttl, status)
        return decision_of(status)

    async def _answer(self, spec: Obj) -> Obj:
        """Raises PostFailed, BadAnswer."""
        version, name = self._settings.version, self._settings.name
        answer = await self._caller.review(body_of(spec, version))
        seconds = self._took  # of this answer: nothing ran since it was told of
        try:
            status = status_of(answer, version)
        except BadAnswer as error:
            self._metrics.asked(name, _result(error), seconds)
            raise
        self._metrics.asked(name, "success", seconds)
        return status

    def _tried(self, one: Try) -> None:
        self._took = one.seconds
        if one.error is not None:
            self._metrics.asked(self._settings.name, _result(one.error), one.seconds)

    def _failed(self, error: str) -> Decision:
        return Decision(False, denied=self._settings.deny_on_failure, error=error)


def _compiled(expressions: tuple[str, ...]) -> Conditions | None:
    if not expressions:
        return None
    from orca.auth.webhook.conditions import Conditions

    return Conditions(expressions)


def _result(error: PostFailed | BadAnswer) -> str:
    timed_out = isinstance(error, PostFailed) and (error.timed_out or error.code == 504)
    return "timeout" if timed_out else "error"
