"""The bound on engine calls."""

from __future__ import annotations

import asyncio

import pytest

from agents.pods import gate as gates
from agents.pods.gate import APP, REMOVAL, SANDBOX, Gate
from tests.support.patience import PATIENCE


async def test_urgent_first_then_in_order() -> None:
    gate, order, free = Gate(1), [], asyncio.Event()

    async def enter(urgency: int, name: str) -> None:
        async with gate.enter(urgency):
            order.append(name)
            await free.wait()

    tasks = [asyncio.create_task(enter(SANDBOX, "first"))]
    await asyncio.sleep(0)
    for urgency, name in ((REMOVAL, "r"), (SANDBOX, "s1"), (APP, "a"), (SANDBOX, "s2")):
        tasks.append(asyncio.create_task(enter(urgency, name)))
        await asyncio.sleep(0)
    free.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "a", "s1", "s2", "r"]


async def test_a_cancelled_waiter_loses_no_place() -> None:
    gate = Gate(1)
    async with gate.enter(APP):
        waiting = asyncio.create_task(gate._acquire(APP))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE), gate.enter(APP):
        pass
    handed = asyncio.create_task(gate._acquire(APP))
    await asyncio.sleep(0)
    second = asyncio.create_task(gate._acquire(APP))
    await asyncio.sleep(0)
    gate._release()
    second.cancel()  # in the same moment in which it is given the place
    await asyncio.gather(second, return_exceptions=True)
    await handed
    async with asyncio.timeout(PATIENCE), gate.enter(APP):
        pass


async def test_who_takes_too_long_does_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "PATIENCE_SECONDS", 0.01)
    gate = Gate(1)
    async with gate.enter(APP):
        async with asyncio.timeout(PATIENCE), gate.enter(APP):
            pass
        assert repr(gate) == "<Gate 1 free, 0 waiting>"
    assert repr(gate) == "<Gate 1 free, 0 waiting>", "the place was given back once"
