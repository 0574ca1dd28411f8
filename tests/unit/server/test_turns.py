"""Turns of the event loop: who asks for little is not kept waiting by what is made for others, however much that is."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from time import perf_counter
from typing import cast

import pytest
from aiohttp import web

from orca.server import lists
from orca.server.fairness import turns as turning
from orca.server.fairness.turns import REST, Turns
from orca.server.lists import PIECE, MadeBody, send_pieces
from tests.support.patience import PATIENCE


async def test_a_lane_waits_for_few_turns_however_many_stand_in_another() -> None:
    turns = Turns(budget=0.002)
    order: list[str] = []

    async def one(lane: str, seconds: float) -> None:
        if not turns.has_room(perf_counter()):
            await turns.wait(lane)
        until = perf_counter() + seconds
        while perf_counter() < until:
            pass
        order.append(lane)

    noisy = [asyncio.create_task(one("noisy", 0.003)) for _ in range(100)]
    await asyncio.sleep(0)
    node = asyncio.create_task(one("node", 0.0))
    await node
    assert len(order) < 12, "a heartbeat waits for some of the others' requests, not for all"
    await asyncio.gather(*noisy)
    assert Counter(order) == {"noisy": 100, "node": 1}


async def test_a_lane_is_served_although_another_uses_up_every_turn() -> None:
    turns = Turns(budget=0.002)
    ended = False
    served = Counter[str]()

    async def again_and_again(lane: str) -> None:
        while not ended:
            if not turns.has_room(perf_counter()):
                await turns.wait(lane)
            until = perf_counter() + 0.003
            while perf_counter() < until:
                pass
            served[lane] += 1
            await asyncio.sleep(0)

    noisy = [asyncio.create_task(again_and_again("noisy")) for _ in range(30)]
    await asyncio.sleep(0.02)
    other = [asyncio.create_task(again_and_again("other")) for _ in range(2)]
    before = served["noisy"]
    for _ in range(10):
        await turns.wait("node")
        served["node"] += 1
    ended = True
    await asyncio.gather(*noisy, *other)
    assert served["node"] == 10
    assert served["noisy"] - before < 100


async def test_one_goes_on_in_each_turn_whatever_else_uses_it_up() -> None:
    turns = Turns(budget=0.001)
    others = 0

    def other() -> None:
        """As events that are written to a thousand watches: no request, and no turn of its own."""
        nonlocal others
        others += 1
        until = perf_counter() + 0.002
        while perf_counter() < until:
            pass
        if others < 200:
            asyncio.get_running_loop().call_soon(other)

    other()
    for _ in range(20):
        await turns.wait("lane")
    assert others < 100


class _Clock:
    """Seconds that pass only when somebody computes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(turning, "perf_counter", lambda: self.now)


async def test_within_a_lane_they_go_on_in_order_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although several are woken in each turn and one of them uses it up, and although others come all the time."""
    clock = _Clock(monkeypatch)
    turns = Turns(budget=0.004)
    order: list[int] = []

    async def one(number: int) -> None:
        await turns.wait("lane")
        order.append(number)
        clock.now += 0.005

    tasks = []
    for number in range(100):
        tasks.append(asyncio.create_task(one(number)))
        if number % 3:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == list(range(100))


@pytest.mark.parametrize("seed", range(20))
async def test_every_lane_is_served_in_order_whoever_goes_when(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    clock = _Clock(monkeypatch)
    turns = Turns(budget=0.004, others=lambda lane: bool(rng.randrange(2)))
    order: dict[int, list[int]] = {lane: [] for lane in range(4)}

    async def one(lane: int, number: int) -> None:
        if not turns.has_room(clock.now):
            await turns.wait(lane)
        order[lane].append(number)
        clock.now += rng.choice([0.0001, 0.003, 0.05])
        if not rng.randrange(3):
            await asyncio.sleep(0)
            await turns.lane(lane).turn()

    tasks = []
    gone = set()
    for number in range(300):
        lane = rng.choice([0, 0, 0, 1, 2, 3])
        tasks.append(asyncio.create_task(one(lane, number)))
        if not rng.randrange(4):
            await asyncio.sleep(0)
        if not rng.randrange(6):
            chosen = rng.randrange(len(tasks))
            if tasks[chosen].cancel():
                gone.add(chosen)
        if not rng.randrange(3):
            clock.now += 0.002
    async with asyncio.timeout(PATIENCE):
        while not all(task.done() for task in tasks):
            clock.now += 0.001
            await asyncio.sleep(0)
    for served in order.values():
        # Who finds room at once stands in no line; all others of a lane keep their order.
        assert len(served) == len(set(served))
        assert served == sorted(served)
    assert set().union(*map(set, order.values())) >= set(range(300)) - gone
    assert not turns._lanes


async def test_a_lane_that_uses_up_turns_rests_while_others_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat takes many turns, most of them in etcd's hands; heavy requests do not fall into each of them."""
    clock = _Clock(monkeypatch)
    beating = True
    turns = Turns(budget=0.004, others=lambda lane: lane == "noise" and beating)
    served = 0
    ended = False

    async def noise() -> None:
        nonlocal served
        while not ended:
            await turns.wait("noise")
            served += 1
            clock.now += 0.02
            await asyncio.sleep(0)

    noisy = [asyncio.create_task(noise()) for _ in range(20)]
    while served < 3:
        clock.now += 0.001
        await asyncio.sleep(0)
    before = served
    for _ in range(200):
        clock.now += 0.0001  # what one of the heartbeat's turns takes
        await asyncio.sleep(0)
    assert served - before <= 200 * 0.0001 / (0.02 * REST) + 1
    beating = False
    before = served
    for _ in range(200):
        clock.now += 0.0001
        await asyncio.sleep(0)
        if (timer := turns._timer) is not None:  # which waits in real time
            timer.cancel()
            turns._rested()
    assert served - before > 50, "nobody rests for nobody"
    ended = True
    for task in noisy:
        task.cancel()
    await asyncio.gather(*noisy, return_exceptions=True)


class _Wire:
    """A connection that takes everything; each write to it costs a millisecond."""

    writing_paused = False

    def __init__(self) -> None:
        self.written = 0
        self.writes = 0

    def write(self, data: bytes) -> None:
        until = perf_counter() + 0.001
        while perf_counter() < until:
            pass
        self.written += len(data)
        self.writes += 1


async def test_lists_on_their_way_let_others_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although their clients take all they get at once."""
    wire = _Wire()

    class Response:
        """As the library's, on the wire of the test."""

        content_length: int | None = None

        def __init__(self, headers: dict[str, str]) -> None:
            pass

        async def prepare(self, http: object) -> None:
            pass

        async def write(self, data: bytes) -> None:
            wire.write(data)

        async def write_eof(self) -> None:
            pass

    monkeypatch.setattr(lists, "connection_of", lambda http: wire)
    monkeypatch.setattr(lists.web, "StreamResponse", Response)
    turns = Turns(budget=0.002)
    body = MadeBody([bytes(PIECE)] * 100)
    http = cast(web.BaseRequest, {})
    sent = [asyncio.create_task(send_pieces(http, body, "application/json", "id", turns.lane("x"))) for _ in range(5)]
    most = 0
    while not all(one.done() for one in sent):
        before = wire.writes
        await asyncio.sleep(0)
        most = max(most, wire.writes - before)
    assert wire.written == 5 * body.size
    assert most <= 10, "written without a look at anybody else"
