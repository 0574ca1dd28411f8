"""What a process does first is taken again while etcd is away, for a while."""

from __future__ import annotations

import pytest

from orca.api import errors
from orca.store import outages
from orca.store.outages import persistently


async def test_a_store_that_is_away_for_a_moment_is_waited_for(monkeypatch):
    monkeypatch.setattr(outages, "RETRY_SECONDS", 0)
    outcomes = [
        errors.service_unavailable("etcd: connection refused"),
        errors.timeout("Deadline Exceeded", retry_after=1),
    ]

    async def step():
        if outcomes:
            raise outcomes.pop()
        return "done"

    assert await persistently(step) == "done"


@pytest.mark.parametrize("error", [errors.service_unavailable("etcd: connection refused"), errors.internal("broken")])
async def test_what_stays_or_is_something_else_is_told(monkeypatch, error):
    monkeypatch.setattr(outages, "RETRY_SECONDS", 0)
    monkeypatch.setattr(outages, "AWAY_SECONDS", -1)

    async def step():
        raise error

    with pytest.raises(errors.ApiError) as raised:
        await persistently(step)
    assert raised.value is error
