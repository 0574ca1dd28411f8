"""The day on which a Secret's token was used stands on the Secret, and since when that is noted in a ConfigMap."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from orca.api.builtin import CONFIGMAPS, SECRETS
from orca.api.legacytokens import LAST_USED, SECRET_TYPE, TRACKING
from orca.api.objects import Obj, labels
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.server.legacytokens import LegacyTokens

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "since"),
    [(None, "2026-01-01"), ("2025-06-01", "2025-06-01"), ("2027-01-01", "2026-01-01"), ("nonsense", "2026-01-01")],
)
async def test_uses_are_noted_once_a_day(before: str | None, since: str) -> None:
    clock = VirtualClock(NOW)
    client = FakeClient(clock=clock)
    if before is not None:
        client.seed(CONFIGMAPS, {"metadata": {"name": TRACKING, "namespace": "kube-system"}, "data": {"since": before}})
    secret = client.seed(SECRETS, {"metadata": {"name": "s", "namespace": "d"}, "type": SECRET_TYPE})
    tokens = LegacyTokens(client, clock)
    running = asyncio.create_task(tokens.run())
    try:
        tokens.note(secret)
        await clock.advance(1)
        found: Obj = await client.get(CONFIGMAPS, TRACKING, "kube-system")
        assert found["data"] == {"since": since}
        noted = await client.get(SECRETS, "s", "d")
        assert labels(noted)[LAST_USED] == "2026-01-01"
        writes = len(client.calls)
        tokens.note(noted)
        await clock.advance(1)
        assert len(client.calls) == writes
        await clock.advance(86400)
        tokens.note(noted)
        await clock.advance(1)
        assert labels(await client.get(SECRETS, "s", "d"))[LAST_USED] == "2026-01-02"
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
