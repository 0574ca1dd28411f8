"""Deadlines of requests."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest

from orca.api.errors import ApiError
from orca.server.deadlines import Deadlines
from tests.support.patience import PATIENCE


async def test_only_what_is_overdue_is_ended() -> None:
    deadlines = Deadlines(0.05)
    sweeping = asyncio.create_task(deadlines.sweep())
    told: list[str] = []

    async def request(name: str, seconds: float, *, streams: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        deadlines.enter(task, perf_counter())
        if streams:
            deadlines.release(task)
        try:
            await asyncio.sleep(seconds)
            told.append(f"{name} done")
        except asyncio.CancelledError:
            told.append(f"{name} {deadlines.expired(task)}")
        finally:
            deadlines.leave(task)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(request("slow", 600, streams=False), request("watch", 0.3, streams=True))
    sweeping.cancel()
    assert told == ["slow True", "watch done"]


async def test_a_client_may_be_less_patient_but_not_more() -> None:
    deadlines = Deadlines(60)

    async def request(text: str, seconds: float = 0.1) -> bool:
        task = asyncio.current_task()
        assert task is not None
        deadlines.enter(task, perf_counter())
        deadlines.shorten(task, {"timeout": text})
        try:
            await asyncio.sleep(seconds)
            return False
        except asyncio.CancelledError:
            return deadlines.expired(task)
        finally:
            deadlines.leave(task)

    assert await asyncio.create_task(request("20ms", 600))
    assert not await asyncio.create_task(request("2m"))
    assert not await asyncio.create_task(request("0s"))
    with pytest.raises(ApiError, match="invalid timeout specified in the request URL"):
        await asyncio.create_task(request("soon"))


async def test_what_was_held_ends_no_later_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection serves all its requests in one task."""
    monkeypatch.setattr("orca.server.deadlines.LONGEST_SWEEP", 0.01)
    deadlines = Deadlines(0.02)
    sweeping = asyncio.create_task(deadlines.sweep())

    async def requests() -> None:
        task = asyncio.current_task()
        assert task is not None
        deadlines.enter(task, perf_counter())
        deadlines.shorten(task, {"timeout": "10ms"})
        with deadlines.held(task):
            await asyncio.sleep(0.2)
        deadlines.leave(task)
        await asyncio.sleep(0.2)
        assert not deadlines.expired(task)

    await asyncio.create_task(requests())
    sweeping.cancel()


@pytest.mark.parametrize("own", [True, False])
async def test_what_is_held_is_ended_later(monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    monkeypatch.setattr("orca.server.deadlines.LONGEST_SWEEP", 0.01)
    deadlines = Deadlines(60 if own else 0.01)
    sweeping = asyncio.create_task(deadlines.sweep())
    told: list[str] = []

    async def request() -> None:
        task = asyncio.current_task()
        assert task is not None
        deadlines.enter(task, perf_counter())
        deadlines.shorten(task, {"timeout": "10ms" if own else ""})
        with deadlines.held(task):
            await asyncio.sleep(0.1)
            told.append("made")
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            told.append(str(deadlines.expired(task)))
        finally:
            deadlines.leave(task)

    async with asyncio.timeout(PATIENCE):
        await asyncio.create_task(request())
    sweeping.cancel()
    assert told == ["made", "True"]
