"""Which tokens of Secrets are still used: a label tells the day, a ConfigMap since when days are noted.

Reference: KEP-2799 and k8s.io/kubernetes ``pkg/controlplane/controller/legacytokentracking``. Those that nobody used
for a year ``orca.controllers.legacytokens`` clears away.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from orca.api.builtin import CONFIGMAPS, SECRETS
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.legacytokens import LAST_USED, SINCE, TRACKING, TRACKING_NAMESPACE, day, day_of
from orca.api.objects import Obj, key, labels, name, namespace, uid
from orca.client.base import Client
from orca.client.clock import Clock

log = structlog.get_logger()


class LegacyTokens:
    """``note`` is called whenever such a token is shown; ``run`` writes what is new, once a day for each Secret."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._used: dict[str, Obj] = {}
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<LegacyTokens {len(self._used)} to note>"

    def note(self, secret: Obj) -> None:
        """The token of this Secret was used."""
        if labels(secret).get(LAST_USED) != day(self._clock.now()):
            self._used[key(secret)] = secret
            self._news.set()

    async def run(self) -> None:
        """Until cancelled. Raises ApiError."""
        await self._track()
        while True:
            await self._news.wait()
            self._news.clear()
            used, self._used = self._used, {}
            for secret in used.values():
                await self._write(secret)

    async def _write(self, secret: Obj) -> None:
        change = {"metadata": {"uid": uid(secret), "labels": {LAST_USED: day(self._clock.now())}}}
        try:
            await self._client.patch(SECRETS, name(secret), change, namespace(secret))
        except ApiError as error:
            if not is_not_found(error) and not is_conflict(error):
                log.warning("the use of a token could not be noted", secret=key(secret), error=str(error))

    async def _track(self) -> None:
        """Note since when uses are noted: now, unless an earlier day stands there."""
        now = self._clock.now()
        try:
            found = await self._client.get(CONFIGMAPS, TRACKING, TRACKING_NAMESPACE)
        except ApiError as error:
            if not is_not_found(error):
                raise
            await self._begin(now)
            return
        since = day_of((found.get("data") or {}).get(SINCE) or "")
        if since is None or since > now.date():
            await self._client.update(CONFIGMAPS, {**found, "data": {**(found.get("data") or {}), SINCE: day(now)}})

    async def _begin(self, now: datetime) -> None:
        made = {
            "apiVersion": CONFIGMAPS.api_version,
            "kind": CONFIGMAPS.kind,
            "metadata": {"name": TRACKING, "namespace": TRACKING_NAMESPACE},
            "data": {SINCE: day(now)},
        }
        try:
            await self._client.create(CONFIGMAPS, made, TRACKING_NAMESPACE)
        except ApiError as error:
            if not is_already_exists(error):
                raise
