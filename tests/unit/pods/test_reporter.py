"""What of a pod's status is told at once, and what waits to be told with something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agents.pods.conditions import condition, stamped
from agents.pods.reporter import CROWDED_SECONDS, QUIET_SECONDS, StatusReporter
from orca.api.objects import Obj
from orca.api.times import format_time
from orca.client.clock import VirtualClock


class Records:
    """The API: takes every patch, and says what the status is then."""

    def __init__(self) -> None:
        self.written: list[Obj] = []
        self.pod: Obj = {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "status": {}}
        self.crowded = False
        self.open = asyncio.Event()
        """Writes go through."""
        self.open.set()

    async def write_status(self, pod: Obj, patch: Obj) -> Obj:
        self.written.append(patch["status"])
        await self.open.wait()
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


def ready(clock: VirtualClock, records: Records, *, yes: bool) -> Obj:
    """As a worker decides it, from what the API is known to have."""
    known = records.pod["status"].get("conditions") or ()
    return {"phase": "Running", "conditions": stamped([condition("Ready", yes)], known, records.pod, clock.now())}


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


async def test_what_was_decided_during_a_write_is_stamped_by_what_was_written(
    told: tuple[Records, VirtualClock, StatusReporter],
) -> None:
    """Otherwise a change that the API had not been told of yet would move times, back and forth."""
    records, clock, reporter = told
    reporter.offer(ready(clock, records, yes=False))
    await clock.advance(5)
    first = format_time(clock.now())
    records.open.clear()
    reporter.offer(ready(clock, records, yes=True))
    await clock.advance(2)
    reporter.offer(ready(clock, records, yes=True) | {"podIP": "10.0.0.1"})
    records.open.set()
    await clock.advance(2)
    assert records.written[-1] == {"podIP": "10.0.0.1"}, "ready since the first of them"
    (now,) = records.pod["status"]["conditions"]
    assert now["lastTransitionTime"] == first

    records.open.clear()
    reporter.offer(ready(clock, records, yes=False))
    await clock.advance(2)
    reporter.offer(ready(clock, records, yes=True) | {"podIP": "10.0.0.2"})
    second = format_time(clock.now())
    records.open.set()
    await clock.advance(2)
    (now,) = records.pod["status"]["conditions"]
    assert (now["status"], now["lastTransitionTime"]) == ("True", second), "not the time from before it was unready"


async def test_a_pod_that_was_initialized_stays_it_whatever_was_decided_during_the_write(
    told: tuple[Records, VirtualClock, StatusReporter],
) -> None:
    records, clock, reporter = told
    records.open.clear()
    for yes in (True, False):
        conditions = stamped([condition("Initialized", yes)], (), records.pod, clock.now())
        reporter.offer(
            {"phase": "Pending", "conditions": conditions, "containerStatuses": [{"state": {"running": {}}}]}
        )
        await clock.advance(2)
    records.open.set()
    await clock.advance(2)
    assert [one["status"] for one in records.pod["status"]["conditions"]] == ["True"]
