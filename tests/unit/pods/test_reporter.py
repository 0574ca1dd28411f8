"""Statuses and an API that does not take them."""

import asyncio
from typing import Any

from agents.pods.reporter import StatusReporter
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from tests.unit.pods.build import pod

RUNNING: Obj = {"phase": "Running", "containerStatuses": [], "conditions": []}


class Records:
    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.written: list[Obj] = []

    async def write_status(self, pod: Obj, patch: Obj) -> Obj:
        code = self.answers.pop(0) if self.answers else 200
        if code != 200:
            raise ApiError(code, "", f"answered {code}")
        self.written.append(patch)
        return {**pod, "status": {**(pod.get("status") or {}), **patch["status"]}}

    async def current_uid(self, namespace: str, name: str) -> str:
        return "u1"


async def _report(records: Records, clock: VirtualClock) -> tuple[StatusReporter, asyncio.Task[None]]:
    known = [pod()]
    records_: Any = records
    reporter = StatusReporter(records_, clock, lambda: known[0], lambda new: known.__setitem__(0, new), lambda: None)
    running = asyncio.create_task(reporter.run())
    await clock.settle()
    reporter.offer(RUNNING)
    return reporter, running


async def test_a_busy_api_is_asked_until_it_takes_the_status() -> None:
    records, clock = Records(429, 500, 503, 409, 504), VirtualClock()
    reporter, running = await _report(records, clock)
    flushed = asyncio.create_task(reporter.flushed())
    await clock.advance(2)
    assert not flushed.done()
    await clock.advance(30)
    assert flushed.done()
    assert len(records.written) == 1
    running.cancel()


async def test_a_status_that_is_never_taken_holds_back_no_deletion() -> None:
    records, clock = Records(*[413] * 1000), VirtualClock()
    reporter, running = await _report(records, clock)
    await clock.advance(1)
    async with asyncio.timeout(5):
        await reporter.flushed()
    assert records.written == []
    records.answers = []
    await clock.advance(11)
    assert len(records.written) == 1, "it is still tried"
    running.cancel()
