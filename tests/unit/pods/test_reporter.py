"""What of a pod's status is told at once, and what waits to be told with something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agents.pods.reporter import CROWDED_SECONDS, QUIET_SECONDS, StatusReporter
from orca.api.objects import Obj
from orca.client.clock import VirtualClock


class Records:
    """The API: takes every patch, and says what the status is then."""

    def __init__(self) -> None:
        self.written: list[Obj] = []
        self.pod: Obj = {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "status": {}}
        self.crowded = False

    async def write_status(self, pod: Obj, patch: Obj) -> Obj:
        self.written.append(patch["status"])
        return {**pod, "status": {**pod["status"], **patch["status"]}}

    async def delete(self, pod: Obj) -> None: ...

    async def current_uid(self, pod_namespace: str, pod_name: str) -> str:
        return "u"

    def stored(self, pod: Obj) -> None:
        self.pod = pod


def creating() -> Obj:
    return {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}


def running(*, ready: bool) -> Obj:
    return {"phase": "Running", "containerStatuses": [{"state": {"running": {}}, "ready": ready}]}


@pytest.fixture
async def told() -> AsyncIterator[tuple[Records, VirtualClock, StatusReporter]]:
    records, clock = Records(), VirtualClock()
    reporter = StatusReporter(
        records, clock, lambda: records.pod, records.stored, lambda: None, lambda: records.crowded
    )
    task = asyncio.create_task(reporter.run())
    yield records, clock, reporter
    task.cancel()


async def test_a_pod_that_soon_runs_is_told_of_once(told: tuple[Records, VirtualClock, StatusReporter]) -> None:
    records, clock, reporter = told
    reporter.offer(creating())
    await clock.advance(QUIET_SECONDS / 2)
    reporter.offer(running(ready=False), probing=True)
    await clock.advance(0.01)
    assert not records.written
    reporter.offer(running(ready=True))
    await clock.advance(0.001)
    assert records.written == [running(ready=True)]


async def test_readiness_that_does_not_come_delays_only_a_moment(
    told: tuple[Records, VirtualClock, StatusReporter],
) -> None:
    records, clock, reporter = told
    reporter.offer(running(ready=False), probing=True)
    await clock.advance(0.1)
    assert records.written == [running(ready=False)]


async def test_creation_is_told_late_in_a_crowd(told: tuple[Records, VirtualClock, StatusReporter]) -> None:
    records, clock, reporter = told
    records.crowded = True
    reporter.offer(creating())
    await clock.advance(CROWDED_SECONDS - 1)
    assert not records.written
    await clock.advance(2)
    assert records.written == [creating()]
