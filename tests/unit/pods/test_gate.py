"""The bound on engine calls."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agents.pods import gate as gates
from agents.pods.gate import APP, REMOVAL, SANDBOX, Gate, next_width
from agents.pods.idleness import Idleness
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


def test_places_follow_what_the_cpus_leave_over() -> None:
    assert next_width(3, 0.5, 3, 6) == 4
    assert next_width(6, 0.5, 3, 6) == 6
    assert next_width(5, 0.1, 3, 6) == 5, "neither idle nor busy"
    assert next_width(5, 0.0, 3, 6) == 4
    assert next_width(3, 0.0, 3, 6) == 3
    assert next_width(4, None, 3, 6) == 4, "the kernel does not tell"


async def test_more_go_in_while_cpus_are_idle_and_fewer_once_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "LOOK_SECONDS", 3600.0)  # looks when this test says so
    unused, inside = [1.0], 0
    gate = Gate(1, most=3, unused=lambda: unused[0])
    leave = asyncio.Semaphore(0)

    async def enter() -> None:
        nonlocal inside
        async with gate.enter(APP):
            inside += 1
            await leave.acquire()
            inside -= 1

    async def settled() -> int:
        for _ in range(10):
            await asyncio.sleep(0)
        return inside

    tasks = [asyncio.create_task(enter()) for _ in range(8)]
    assert await settled() == 1
    for expected in (2, 3, 3):
        gate._adapt()
        assert await settled() == expected
    unused[0] = 0.0
    gate._adapt()
    gate._adapt()
    assert await settled() == 3, "who is inside stays"
    for expected in (2, 1, 1):
        leave.release()
        assert await settled() == expected, "places that were too many are not given to others"
    for _ in range(5):
        leave.release()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
    gate._adapt()
    assert repr(gate) == "<Gate 1 free, 0 waiting>"
    assert gate._look is None, "nothing is looked at while nobody waits"


def test_unused_time_is_told_since_the_look_before(tmp_path: Path) -> None:
    account = tmp_path / "stat"
    unused = Idleness(account)
    assert unused() is None
    account.write_text("cpu 100 0 100 700 100 0 0 0 50 50\ncpu0 1 2 3\n")
    assert unused() is None
    account.write_text("cpu 150 0 150 740 160 0 0 0 90 90\ncpu0 1 2 3\n")
    assert unused() == pytest.approx(0.5)
    account.write_text("intr 1 2 3")
    assert unused() is None
