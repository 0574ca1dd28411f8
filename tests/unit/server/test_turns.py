"""Turns of the event loop: who asks for little is not kept waiting by what is made for others, however much that is."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import cast

import pytest
from aiohttp import web

from orca.server import lists
from orca.server.fairness.turns import Turns
from orca.server.lists import PIECE, MadeBody, send_pieces


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
