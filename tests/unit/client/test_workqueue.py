"""Order, deduplication, one worker a key, backoff: in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import given, settings
from hypothesis import strategies as some

from orca.client.clock import VirtualClock
from orca.client.workqueue import DONE, GiveUp, Outcome, RetryAfter, WorkQueue


@asynccontextmanager
async def running(queue: WorkQueue) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_waiting_keys_are_worked_on_once() -> None:
    clock, done = VirtualClock(), []

    async def work(key: str) -> Outcome:
        done.append(key)
        return DONE

    queue = WorkQueue(work, clock=clock)
    for key in ("a", "b", "a", "c", "b"):
        queue.add(key)
    async with running(queue):
        await queue.idle()
    assert done == ["a", "b", "c"]


async def test_a_key_added_while_worked_on_is_worked_on_again_afterwards() -> None:
    clock, trace = VirtualClock(), []

    async def work(key: str) -> Outcome:
        trace.append(f"start {key}")
        await clock.sleep(1)
        trace.append(f"end {key}")
        return DONE

    queue = WorkQueue(work, clock=clock, workers=3)
    async with running(queue):
        queue.add("a")
        await clock.settle()
        queue.add("a")
        queue.add("b")
        await clock.advance(5)
        await queue.idle()
    assert trace == ["start a", "start b", "end a", "start a", "end b", "end a"]


async def test_failures_back_off_and_success_forgets() -> None:
    clock, moments = VirtualClock(), []

    async def work(key: str) -> Outcome:
        moments.append(clock.monotonic())
        if len(moments) < 5:
            raise RuntimeError("not yet")
        return DONE

    queue = WorkQueue(work, clock=clock, first=1, last=4)
    async with running(queue):
        queue.add("a")
        await clock.advance(60)
        assert moments == [0, 1, 3, 7, 11]
        assert queue.failures("a") == 0


async def test_outcomes() -> None:
    clock, moments = VirtualClock(), []
    outcomes: list[Outcome] = [RetryAfter(10), GiveUp("no use"), DONE]

    async def work(key: str) -> Outcome:
        moments.append(clock.monotonic())
        return outcomes.pop(0)

    queue = WorkQueue(work, clock=clock)
    async with running(queue):
        queue.add("a")
        await clock.advance(100)
        assert moments == [0, 10]


async def test_the_earliest_wish_counts() -> None:
    clock, moments = VirtualClock(), []

    async def work(key: str) -> Outcome:
        moments.append(clock.monotonic())
        return DONE

    queue = WorkQueue(work, clock=clock)
    async with running(queue):
        queue.add_after("a", 30)
        queue.add_after("a", 5)
        queue.add_after("a", 20)
        await clock.advance(100)
    assert moments == [5]


@settings(max_examples=50, deadline=None)
@given(
    adds=some.lists(some.tuples(some.sampled_from("abcde"), some.floats(0, 3)), max_size=30),
    workers=some.integers(1, 4),
)
def test_never_two_workers_on_a_key_and_the_last_add_is_seen(adds: list[tuple[str, float]], workers: int) -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        busy: set[str] = set()
        newest: dict[str, int] = {}
        seen: dict[str, int] = {}

        async def work(key: str) -> Outcome:
            assert key not in busy
            busy.add(key)
            seen[key] = newest[key]
            await clock.sleep(1)
            busy.discard(key)
            return DONE

        queue = WorkQueue(work, clock=clock, workers=workers)
        async with running(queue):
            for number, (key, pause) in enumerate(adds):
                newest[key] = number
                queue.add(key)
                await clock.advance(pause)
            await clock.advance(100)
            assert seen == newest

    asyncio.run(scenario())


async def test_what_waits_for_its_time_is_worked_on_at_once_when_hastened() -> None:
    clock, done = VirtualClock(), list[tuple[str, float]]()

    async def work(key: str) -> Outcome:
        done.append((key, clock.monotonic()))
        return RetryAfter(100) if key == "again" else DONE

    queue = WorkQueue(work, clock=clock)
    queue.add_after("later", 3600)
    queue.add("again")
    async with running(queue):
        await clock.advance(10)
        queue.hasten()
        await clock.advance(90)
        assert done == [("again", 0), ("later", 10), ("again", 10)]
        await clock.advance(3600)
    assert [key for key, _ in done].count("later") == 1
    assert done[3] == ("again", 110)
