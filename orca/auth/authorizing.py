"""The authorizers of a configuration, made and made anew when its file changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from orca.auth.authorization import Member, Union, local_member, masters
from orca.auth.authorization_config import WEBHOOK, AuthorizationConfig, ConfigInvalid, parse_config
from orca.auth.following import follow
from orca.auth.identity import Reader
from orca.auth.webhook import AuthorizationMetrics, Reloads, WebhookAuthorizer
from orca.client.clock import Clock
from orca.client.kubeconfig import KubeconfigError

log = structlog.get_logger()


class Authorization:
    """``union`` is what the server asks. Raises KubeconfigError for a webhook whose kubeconfig cannot be used.

    Types other than Webhook stay those of the start, as in kube-apiserver: a new content of the file has them all,
    and of Node and RBAC no more.
    """

    def __init__(
        self, config: AuthorizationConfig, reader: Reader, clock: Clock, metrics: AuthorizationMetrics
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._metrics = metrics
        self._config = config
        self._required = config.local_kinds
        self._local: dict[str, Member] = {}
        self._webhooks: list[WebhookAuthorizer] = []
        self.union = Union(self._members(config))

    def _members(self, config: AuthorizationConfig) -> list[Member]:
        """Raises KubeconfigError, ConfigInvalid. Changes nothing then."""
        members, webhooks = [masters()], list[WebhookAuthorizer]()
        for one in config.authorizers:
            if one.kind == WEBHOOK and one.webhook is not None:
                webhooks.append(WebhookAuthorizer(one.webhook, self._clock, self._metrics))
                members.append(webhooks[-1].member())
                continue
            if one.kind in ("Node", "RBAC") and one.kind not in self._required:
                text = f"authorizer type {one.kind} is not allowed if it was not enabled at initial server startup"
                raise ConfigInvalid(text)
            if one.kind not in self._local:
                self._local[one.kind] = local_member(one.kind, self._reader, one.name)
            members.append(self._local[one.kind])
        self._webhooks = webhooks
        return members

    async def aclose(self) -> None:
        """Close the connections to webhooks."""
        for webhook in self._webhooks:
            await webhook.retire()

    async def follow(self, path: Path, seen: bytes, reloads: Reloads) -> None:
        """Until cancelled; ``seen`` is the content of the file that is in use."""
        reloads.in_use(seen)

        async def take(content: bytes | None) -> bool:
            try:
                if content is None:
                    raise ConfigInvalid("the file cannot be read")
                await self._take(content)
            except (ConfigInvalid, KubeconfigError) as error:
                reloads.failed()
                log.error(
                    "the authorization configuration is invalid, keeping the one in use",
                    file=str(path),
                    error=str(error),
                )
            else:
                reloads.succeeded(content or b"")
            return True

        await follow(path, seen, take, self._clock)

    async def _take(self, content: bytes) -> None:
        """Raises ConfigInvalid, KubeconfigError."""
        config = await asyncio.to_thread(parse_config, content, self._required)
        if config == self._config:
            return
        before = self._webhooks
        members = self._members(config)
        self._config = config
        self.union.replace(members)
        log.info("authorization configuration reloaded")
        for webhook in before:
            await webhook.retire()
