"""Threads that pack are shared out among lanes: nobody waits for all that others have asked for."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from orca.server import packing
from orca.server.fairness.turns import Lane, Turns
from orca.server.packing import Packer, Rounds, packed, unpacked
from orca.server.responses import GZIP_FROM, pack

TEXT = b"".join(b"%d," % number for number in range(100_000))


def lane(key: object) -> Lane:
    return Turns().lane(key)


def test_queues_are_served_in_turn() -> None:
    rounds: Rounds[str] = Rounds()
    for one in ("a1", "a2", "a3", "b1", "b2", "c1"):
        rounds.put(one[0], one)
    assert [rounds.take() for _ in range(4)] == ["a1", "b1", "c1", "a2"]
    rounds.put("d", "d1")
    rounds.put("a", "a4")
    assert len(rounds) == 4
    assert [rounds.take() for _ in range(4)] == ["b2", "a3", "d1", "a4"]
    with pytest.raises(LookupError):
        rounds.take()


@given(st.lists(st.integers(0, 5) | st.none()))
def test_nobody_waits_for_more_than_one_of_each(steps: list[int | None]) -> None:
    """None takes one, a number is whose one is put."""
    rounds: Rounds[tuple[int, int]] = Rounds()
    waiting: dict[int, deque[int]] = {}
    passed: dict[int, list[int]] = {}  # whose turn is awaited -> who went before
    for number, whose in enumerate([*steps, *[None] * len(steps)]):
        if whose is not None:
            rounds.put(whose, (whose, number))
            waiting.setdefault(whose, deque()).append(number)
            passed.setdefault(whose, [])
        elif waiting:
            whose, taken = rounds.take()
            assert waiting[whose].popleft() == taken
            before = passed.pop(whose)
            assert len(before) == len(set(before))
            for others in passed.values():
                others.append(whose)
            if waiting[whose]:
                passed[whose] = []
            else:
                del waiting[whose]
    assert len(rounds) == 0


class Held:
    """A packer with one thread, which is busy until ``free``."""

    def __init__(self) -> None:
        self.packer = Packer(1)
        self._free = threading.Event()
        self._busy: asyncio.Task[Any] | None = None

    async def hold(self) -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def busy() -> None:
            loop.call_soon_threadsafe(begun.set)
            self._free.wait()

        self._busy = asyncio.create_task(self.packer.run(lane("first"), busy))
        await begun.wait()

    def free(self) -> None:
        self._free.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held()
    monkeypatch.setattr(packing, "PACKER", made.packer)
    yield made
    made.free()


async def test_an_answer_does_not_wait_for_all_of_other_lanes(held: Held) -> None:
    await held.hold()
    done: list[str] = []

    async def answer(whose: str) -> None:
        response = await pack(web.Response(body=TEXT[:GZIP_FROM]), "gzip", lane(whose))
        assert isinstance(response.body, bytes)
        assert gzip.decompress(response.body) == TEXT[:GZIP_FROM]
        done.append(whose)

    lists = [asyncio.create_task(answer("lists")) for _ in range(20)]
    await asyncio.sleep(0)
    node = asyncio.create_task(answer("node"))
    await asyncio.sleep(0)
    held.free()
    await asyncio.gather(*lists, node)
    assert done[:3] == ["lists", "node", "lists"]


async def test_who_gave_up_is_not_packed_for(held: Held) -> None:
    await held.hold()
    ran: list[int] = []
    jobs = [asyncio.create_task(held.packer.run(lane("a"), lambda n=n: ran.append(n))) for n in range(5)]  # type: ignore[misc]
    await asyncio.sleep(0)
    for number in (0, 3):
        jobs[number].cancel()
    await asyncio.wait({jobs[0], jobs[3]})
    held.free()
    await asyncio.gather(jobs[1], jobs[2], jobs[4])
    assert ran == [1, 2, 4]
    assert await held.packer.run(lane("a"), lambda: 7) == 7


async def test_what_a_job_raises_harms_no_other(held: Held) -> None:
    held.free()
    first, second = await asyncio.gather(
        held.packer.run(lane("a"), lambda: 1 // 0), held.packer.run(lane("a"), lambda: 2), return_exceptions=True
    )
    assert isinstance(first, ZeroDivisionError)
    assert second == 2


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, len(TEXT)])
async def test_long_bodies_are_many_jobs(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(Packer):
        jobs = 0

        async def run(self, *given: Any) -> Any:
            self.jobs += 1
            return await super().run(*given)

    counting = Counting(1)
    monkeypatch.setattr(packing, "PACKER", counting)
    monkeypatch.setattr(packing, "_PACKED_AT_ONCE", 4096)
    monkeypatch.setattr(packing, "_UNPACKED_AT_ONCE", 512)
    small = await packed(TEXT[:size], lane("a")) if size else gzip.compress(b"")
    assert gzip.decompress(small) == TEXT[:size]
    assert counting.jobs == -(-size // 4096)
    counting.jobs = 0
    assert await unpacked(small, lane("a")) == TEXT[:size]
    assert counting.jobs == -(-len(small) // 512)
