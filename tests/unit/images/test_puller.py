"""Pulls in virtual time: shared, in turn, and given up only when nothing moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from agents.images.puller import Puller
from agents.images.turns import Rate
from agents.runtime.errors import PullFailed
from agents.runtime.pulling import PullProgress
from orca.client.clock import VirtualClock


class Registry:
    """Pulls end when the test says so."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Future[None]] = {}
        self.progress: dict[str, Callable[[PullProgress], None]] = {}
        self.asked: list[str] = []

    async def pull(
        self,
        reference: str,
        *,
        auth: Mapping[str, str] | None = None,
        progress: Callable[[PullProgress], None] | None = None,
    ) -> None:
        assert progress is not None
        self.asked.append(reference)
        self.running[reference] = asyncio.get_running_loop().create_future()
        self.progress[reference] = progress
        await self.running[reference]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def moving(fetched: int, *, queued: bool = False) -> PullProgress:
    return PullProgress(fetched, 100, True, fetched, queued=queued)


async def test_many_pods_share_one_pull_but_only_with_the_same_login(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock, parallel=0)
    seen: list[int] = []
    same = [asyncio.create_task(puller.pull("a", watch=lambda p: seen.append(p.fetched))) for _ in range(3)]
    other = asyncio.create_task(puller.pull("a", auth={"username": "u"}))
    await clock.settle()
    assert registry.asked == ["a", "a"]
    assert not other.done()
    other.cancel()
    await puller.aclose()
    await asyncio.gather(*same, other, return_exceptions=True)


async def test_serial_pulls_take_turns_and_waiting_is_not_counted(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock, parallel=1)
    first, second = asyncio.create_task(puller.pull("a")), asyncio.create_task(puller.pull("b"))
    await clock.advance(5)
    assert registry.asked == ["a"]
    registry.running["a"].set_result(None)
    await clock.settle()
    assert registry.asked == ["a", "b"]
    await clock.advance(2)
    registry.running["b"].set_result(None)
    assert await asyncio.gather(first, second) == [5, 2]


async def test_a_registry_that_hangs_lets_the_others_pass_and_is_given_up(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock, parallel=1)
    stuck, next_one = asyncio.create_task(puller.pull("stuck")), asyncio.create_task(puller.pull("b"))
    await clock.advance(9)
    assert registry.asked == ["stuck"]
    await clock.advance(2)
    assert registry.asked == ["stuck", "b"]
    registry.running["b"].set_result(None)
    await next_one
    await clock.advance(50)
    with pytest.raises(PullFailed, match="no progress for 60s"):
        await stuck
    assert registry.running["stuck"].cancelled()


async def test_a_slow_pull_is_never_given_up(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock)
    slow = asyncio.create_task(puller.pull("slow"))
    await clock.settle()
    for step in range(20):
        await clock.advance(50)
        registry.progress["slow"](moving(step))
    assert not slow.done()
    registry.running["slow"].set_result(None)
    assert await slow == 1000


async def test_unpacking_takes_the_time_that_the_disk_needs(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock)
    pull = asyncio.create_task(puller.pull("big"))
    await clock.settle()
    registry.progress["big"](moving(100))
    await clock.advance(590)
    assert not pull.done()
    await clock.advance(20)
    with pytest.raises(PullFailed, match="no progress for 600s"):
        await pull


async def test_waiting_in_the_engines_own_queue_is_not_being_stuck(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock, parallel=0)
    front, behind = asyncio.create_task(puller.pull("front")), asyncio.create_task(puller.pull("behind"))
    await clock.settle()
    registry.progress["behind"](moving(0, queued=True))
    for step in range(4):
        await clock.advance(40)
        registry.progress["front"](moving(step))
    assert not behind.done()
    await clock.advance(200)  # now nothing moves at all
    assert behind.done()
    await asyncio.gather(front, behind, return_exceptions=True)


async def test_a_pull_that_nobody_wants_any_more_makes_room(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock, parallel=1)
    unwanted = asyncio.create_task(puller.pull("a"))
    await clock.settle()
    unwanted.cancel()
    await clock.settle()
    assert not registry.running["a"].cancelled()
    wanted = asyncio.create_task(puller.pull("b"))
    await clock.settle()
    assert registry.running["a"].cancelled()
    registry.running["b"].set_result(None)
    await wanted


async def test_too_many_pulls_in_a_short_time_are_refused(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock, parallel=0, qps=1, burst=2)
    begun = [asyncio.create_task(puller.pull(name)) for name in ("a", "b")]
    await clock.settle()
    with pytest.raises(PullFailed, match="pull QPS exceeded"):
        await puller.pull("c")
    await puller.aclose()
    await asyncio.gather(*begun, return_exceptions=True)


async def test_waiting_for_its_turn_does_not_count_against_the_rate(clock: VirtualClock) -> None:
    registry = Registry()
    puller = Puller(registry, clock=clock, parallel=1, qps=1, burst=1)
    pulls = [asyncio.create_task(puller.pull(name)) for name in ("a", "b")]
    await clock.advance(2)
    registry.running["a"].set_result(None)
    await clock.settle()
    registry.running["b"].set_result(None)
    await asyncio.gather(*pulls)


def test_a_rate_fills_up_again(clock: VirtualClock) -> None:
    now = 0.0
    rate = Rate(2, 2, lambda: now)
    assert [rate.accept() for _ in range(3)] == [True, True, False]
    now = 0.5
    assert [rate.accept(), rate.accept()] == [True, False]
    assert all(Rate(0, 0, lambda: now).accept() for _ in range(100))
