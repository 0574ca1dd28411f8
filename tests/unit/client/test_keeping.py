"""Background work goes on whatever happens to it."""

import asyncio
import itertools

import pytest

from orca.api import errors
from orca.client.clock import VirtualClock
from orca.client.keeping import FIRST_RESTART, LAST_RESTART, keep_running


async def test_what_crashes_begins_again_with_growing_pauses():
    clock, began = VirtualClock(), []

    async def work():
        began.append(clock.monotonic())
        raise KeyError("a fault of ours")

    task = asyncio.create_task(keep_running("work", work, clock))
    await clock.advance(10 * LAST_RESTART)
    task.cancel()
    pauses = [after - before for before, after in itertools.pairwise(began)]
    assert pauses[:3] == [FIRST_RESTART, 2 * FIRST_RESTART, 4 * FIRST_RESTART]
    assert pauses[-1] == LAST_RESTART
    assert not task.done()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


@pytest.mark.parametrize("error", [errors.service_unavailable("etcd: no answer"), errors.timeout("Deadline Exceeded")])
async def test_an_outage_delays_nothing_once_it_is_over(error):
    clock, began = VirtualClock(), []

    async def work():
        began.append(clock.monotonic())
        raise error

    task = asyncio.create_task(keep_running("work", work, clock))
    await clock.advance(10 * LAST_RESTART)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert {after - before for before, after in itertools.pairwise(began)} == {FIRST_RESTART}


async def test_what_ends_is_over():
    ran = []

    async def work():
        ran.append(1)

    await keep_running("work", work, VirtualClock())
    assert ran == [1]
