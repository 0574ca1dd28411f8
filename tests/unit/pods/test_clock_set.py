"""The host's wall clock is set by an hour: waits stay as long as they were."""

import asyncio
import os
from datetime import timedelta

import pytest

from agents.pods.memory import CrashBackoff, Failure, container_hash
from agents.pods.pulls import failed_again
from agents.pods.steps import StartContainer
from orca.client.clock import VirtualClock
from orca.client.wallclock import WallClock, _timer
from tests.unit.pods.build import at, decide, info, pod, spec_container, up

C = spec_container()
HOUR = 3600.0


@pytest.fixture(params=[HOUR, -HOUR], ids=["forward", "back"])
def by(request: pytest.FixtureRequest) -> float:
    return float(request.param)


def test_a_crash_loop(by: float) -> None:
    memory = up(info(C, "exited", code=1, attempt=1, finished=100))
    memory.crashes[container_hash(C)] = CrashBackoff(10, at(95))
    memory.clock_moved(timedelta(seconds=by), started=True)
    told = decide(pod(C), memory, 105 + by)
    assert told.waiting["c"].reason == "CrashLoopBackOff"
    assert told.wake_at == at(110 + by)
    assert StartContainer("c", 2) in decide(pod(C), memory, 110 + by).actions


def test_a_crash_loop_of_a_container_that_ends_afterwards(by: float) -> None:
    memory = up(info(C, attempt=1, started=90))
    memory.crashes[container_hash(C)] = CrashBackoff(10, at(95))
    memory.clock_moved(timedelta(seconds=by), started=True)
    memory.observe(info(C, "exited", code=1, attempt=1, started=90, finished=100 + by))
    assert decide(pod(C), memory, 105 + by).wake_at == at(110 + by)


def test_the_time_a_pod_may_run(by: float) -> None:
    limited = pod(C, status={"startTime": "2026-01-01T00:00:00Z"}, activeDeadlineSeconds=60)
    memory = up(info(C))
    memory.clock_moved(timedelta(seconds=by), started=True)
    assert decide(limited, memory, 59 + by).doom is None
    assert decide(limited, memory, 60 + by).doom is not None


def test_what_failed_is_tried_again_in_time(by: float) -> None:
    memory = up()
    memory.failures["start:c"] = Failure("CreateContainerError", "no", at(30), 10)
    memory.pulls.failed["app:1"] = failed_again(None, "ErrImagePull", "no", at(10))
    memory.stop_until["id"], memory.stopping_since = at(20), at(5)
    memory.clock_moved(timedelta(seconds=by), started=False)
    assert memory.failures["start:c"].retry_at == at(30 + by)
    assert memory.pulls.failed["app:1"].ready_at == at(20 + by)
    assert (memory.stop_until["id"], memory.stopping_since) == (at(20 + by), at(5 + by))
    assert memory.start_moved == timedelta()


async def test_only_a_clock_that_was_set_is_told_of(by: float) -> None:
    clock, told = VirtualClock(), list[timedelta]()
    wall = WallClock(clock, told.append)
    await clock.advance(1000)
    clock.set(0.5)
    wall.look()
    assert told == []
    clock.set(by)
    await clock.advance(5)
    wall.look()
    wall.look()
    assert [round(one.total_seconds()) for one in told] == [by]


async def test_the_kernel_is_asked_to_tell() -> None:
    timer = _timer()
    with pytest.raises(BlockingIOError):
        os.read(timer, 8)
    os.close(timer)
    running = asyncio.create_task(WallClock(VirtualClock(), lambda by: None).run())
    await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
