"""Seats are taken and given back whole, whoever goes when."""

from __future__ import annotations

import asyncio
import random
from time import perf_counter

import pytest

from orca.api.builtin import BUILTIN
from orca.api.objects import thaw
from orca.server.fairness import Fairness, FairnessConfig, Flow
from orca.server.fairness.levels import Waiting
from orca.server.paths import parse_path
from tests.unit.server.test_fairness import SCHEMAS, fairness, user


def _one_level(seats: int, length: int = 100) -> tuple[Fairness, Flow]:
    """One level with one queue, and a flow of it."""
    made = Fairness(FairnessConfig(reading=seats, writing=0, queue_seconds=60))
    queuing = {"queues": 1, "handSize": 1, "queueLengthLimit": length}
    limited = {"nominalConcurrencyShares": 100, "limitResponse": {"type": "Queue", "queuing": queuing}}
    low = {"metadata": {"name": "low", "uid": "u"}, "spec": {"type": "Limited", "limited": limited}}
    schema = thaw(SCHEMAS[-1])
    schema["spec"]["priorityLevelConfiguration"]["name"] = "low"
    made.configure([schema], [low])
    return made, made.classify(user("x"), "list", parse_path("/api/v1/pods", BUILTIN))


async def test_seats_are_free_again_when_all_who_wait_go_at_once() -> None:
    """As when a client with many connections is killed: what one gives back falls to another that is going, too."""
    made, flow = _one_level(4)
    assert made.enter(flow, 2, perf_counter())
    assert made.enter(flow, 2, perf_counter())
    waiting = [asyncio.create_task(made.wait(flow, 1 + number % 3)) for number in range(20)]
    await asyncio.sleep(0)
    assert flow.level.waiting == 20
    for task in waiting:
        task.cancel()
    made.leave(flow, 2, None, perf_counter())  # lets in who is gone
    await asyncio.gather(*waiting, return_exceptions=True)
    made.leave(flow, 2, None, perf_counter())
    level = flow.level
    assert (level.executing, level.running, level.waiting, level.waiting_seats) == (0, 0, 0, 0)
    assert made.enter(flow, 4, perf_counter()), "a request as wide as the level finds room"


@pytest.mark.parametrize("seed", range(20))
async def test_seats_add_up_whoever_goes_when(seed: int) -> None:
    rng = random.Random(seed)
    made, flow = _one_level(5)
    held: list[tuple[int, Waiting | None]] = []

    async def one(seats: int) -> None:
        got = None if made.enter(flow, seats, perf_counter()) else await made.wait(flow, seats)
        held.append((seats, got))

    tasks: list[asyncio.Task[None]] = []
    for _ in range(200):
        match rng.randrange(4):
            case 0 | 1:
                tasks.append(asyncio.create_task(one(rng.choice([1, 1, 2, 5]))))
            case 2:
                for task in rng.sample(tasks, min(len(tasks), rng.randrange(4))):
                    task.cancel()
            case _:
                rng.shuffle(held)
                for _ in range(min(len(held), rng.randrange(3))):
                    seats, got = held.pop()
                    made.leave(flow, seats, got, perf_counter())
        if rng.randrange(2):
            await asyncio.sleep(0)
    while any(not task.done() for task in tasks):
        await asyncio.sleep(0)
        while held:
            seats, got = held.pop()
            made.leave(flow, seats, got, perf_counter())
    while held:
        seats, got = held.pop()
        made.leave(flow, seats, got, perf_counter())
    level = flow.level
    assert (level.executing, level.running, level.waiting, level.waiting_seats) == (0, 0, 0, 0)
    assert all(queue.executing == queue.seats == 0 for queue in level.queues)


async def test_levels_rest_only_beside_others() -> None:
    made = fairness()
    noisy = made.classify(user("x"), "list", parse_path("/api/v1/pods", BUILTIN))
    node = made.classify(user("system:node:n", "system:nodes"), "list", parse_path("/api/v1/pods", BUILTIN))
    assert made.enter(noisy, 1, perf_counter())
    assert not made._others(noisy.level)
    assert made._others(node.level)
    assert made.enter(node, 1, perf_counter())
    assert made._others(noisy.level)
    made.leave(node, 1, None, perf_counter())
    assert not made._others(noisy.level)
    assert made._others("exempt")
