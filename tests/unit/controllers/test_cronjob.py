"""CronJobs: the calendar, the plan, and days of a schedule in virtual time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import CRONJOBS, EVENTS, JOBS
from orca.api.objects import Obj, annotations, name
from orca.api.times import format_time
from orca.controllers.cronjob import CronJobController
from orca.controllers.cronjob.plan import SCHEDULED_AT, job_name, plan
from orca.controllers.cronjob.schedule import latest, parse
from tests.unit.controllers.support import NOW, Cluster, running_one


def cronjob(schedule: str = "*/5 * * * *", **spec: Any) -> Obj:
    """CronJob default/tick with the API server's defaults."""
    container = {"name": "main", "image": "busybox"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": "tick",
            "namespace": "default",
            "uid": "cron-uid",
            "creationTimestamp": format_time(NOW),
        },
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Allow",
            "suspend": False,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"app": "tick"}}, "spec": {"template": template}},
            **spec,
        },
    }


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_calendar() -> None:
    assert parse("30 9 * * mon-fri", None).next(at("2026-01-02T09:30:00Z")) == at("2026-01-05T09:30:00Z")
    assert parse("0 0 29 2 *", None).next(NOW) == at("2028-02-29T00:00:00Z")
    assert parse("0 0 31 2 *", None).next(NOW) is None
    assert parse("0 0 13 * 5", None).next(at("2026-02-01T00:00:00Z")) == at("2026-02-06T00:00:00Z")
    assert parse("0 9 * * *", "Europe/Berlin").next(NOW) == at("2026-01-01T08:00:00Z")
    assert parse("@every 90s", None).next(NOW) == NOW + timedelta(seconds=90)
    assert parse("@hourly", None).next(NOW) == NOW + timedelta(hours=1)


def test_clock_changes() -> None:
    spring = parse("30 2 * * *", "Europe/Berlin")
    assert spring.next(at("2026-03-28T12:00:00Z")) == at("2026-03-30T00:30:00Z")
    autumn = parse("30 2 * * *", "Europe/Berlin")
    once = autumn.next(at("2026-10-24T12:00:00Z"))
    assert once == at("2026-10-25T00:30:00Z")
    assert autumn.next(once) == at("2026-10-25T01:30:00Z")


@given(
    st.sampled_from(["* * * * *", "*/7 3-5 * * *", "0 0 1 * *", "15 10 * * 1", "@every 45s"]),
    st.integers(0, 200_000),
    st.integers(0, 5_000_000),
)
def test_latest_is_the_last_time_that_has_come(text: str, offset: int, length: int) -> None:
    schedule, since = parse(text, None), NOW + timedelta(seconds=offset)
    now = since + timedelta(seconds=length)
    found, missed = latest(schedule, since, now)
    first = schedule.next(since)
    assert first is not None
    if found is None:
        assert first > now
        assert missed == 0
        return
    assert since < found <= now
    following = schedule.next(found)
    assert following is not None
    assert following > now


def test_missed_times_are_told_and_only_the_last_is_made_up() -> None:
    todo = plan(cronjob("* * * * *"), [], NOW + timedelta(hours=5, seconds=30))
    assert todo.start == NOW + timedelta(hours=5)
    assert [reason for _, reason, _ in todo.events] == ["TooManyMissedTimes"]
    todo = plan(cronjob("0 * * * *", startingDeadlineSeconds=60), [], NOW + timedelta(hours=1, minutes=10))
    assert todo.start is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"schedule": "61 * * * *"}, "UnparseableSchedule"), ({"timeZone": "Mars/Base"}, "UnknownTimeZone")],
)
def test_what_cannot_be_read_is_told(change: Obj, reason: str) -> None:
    todo = plan(cronjob(**{"schedule": "* * * * *", **change}), [], NOW + timedelta(minutes=2))
    assert [found for _, found, _ in todo.events] == [reason]
    assert todo.start is None


async def _finish(cluster: Cluster, job: Obj, kind: str = "Complete") -> None:
    stamp = format_time(cluster.clock.now())
    status: Obj = {"startTime": stamp, "conditions": [{"type": kind, "status": "True", "lastTransitionTime": stamp}]}
    if kind == "Complete":
        status["completionTime"] = stamp
    await cluster.api.patch(JOBS, name(job), {"status": status}, "default", subresource="status")


async def _status(cluster: Cluster) -> Obj:
    found: Obj = (await cluster.api.get(CRONJOBS, "tick", "default")).get("status") or {}
    return found


async def test_starts_a_job_each_time_and_keeps_a_short_history() -> None:
    async with running_one(CronJobController) as (cluster, controller):
        await cluster.api.create(CRONJOBS, cronjob(timeZone="Europe/Berlin"))
        await cluster.settle(299)
        assert not cluster.api.objects(JOBS)
        seen = []
        for _ in range(6):
            await cluster.settle(2)
            (job,) = (one for one in cluster.api.objects(JOBS) if "status" not in one)
            seen.append(name(job))
            assert [entry["name"] for entry in (await _status(cluster))["active"]] == [name(job)]
            await _finish(cluster, job)
            await cluster.settle(298)
        assert seen[0] == job_name(cronjob(), NOW + timedelta(minutes=5))
        assert len(set(seen)) == 6
        status = await _status(cluster)
        assert status["lastScheduleTime"] == format_time(NOW + timedelta(minutes=30))
        assert status["lastSuccessfulTime"]
        assert "active" not in status
        kept = cluster.api.objects(JOBS)
        assert [name(one) for one in kept] == seen[-3:]
        assert annotations(kept[0])[SCHEDULED_AT] == "2026-01-01T01:20:00+01:00"
        await controller.recorder.flush()
        assert {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= {
            event["reason"] for event in cluster.api.objects(EVENTS)
        }


@pytest.mark.parametrize(("behaviour", "running"), [("Allow", 3), ("Forbid", 1), ("Replace", 1)])
async def test_concurrency(behaviour: str, running: int) -> None:
    async with running_one(CronJobController) as (cluster, _):
        await cluster.api.create(CRONJOBS, cronjob(concurrencyPolicy=behaviour))
        await cluster.settle(1000)
        jobs = cluster.api.objects(JOBS)
        assert len([one for one in jobs if "deletionTimestamp" not in one["metadata"]]) == running
        first = job_name(cronjob(), NOW + timedelta(minutes=5))
        assert (first in map(name, jobs)) == (behaviour != "Replace")
        if behaviour == "Forbid":
            # The one that was held back starts late, when the other is done.
            await _finish(cluster, jobs[0])
            await cluster.settle(1)
            assert name(cluster.api.objects(JOBS)[1]) == job_name(cronjob(), NOW + timedelta(minutes=15))


async def test_suspended_until_it_is_not() -> None:
    async with running_one(CronJobController) as (cluster, _):
        await cluster.api.create(CRONJOBS, cronjob(suspend=True))
        await cluster.settle(1000)
        assert not cluster.api.objects(JOBS)
        await cluster.api.patch(CRONJOBS, "tick", {"spec": {"suspend": False}}, "default")
        await cluster.settle(1)
        assert [name(one) for one in cluster.api.objects(JOBS)] == [job_name(cronjob(), NOW + timedelta(minutes=15))]


async def test_starts_no_time_twice_when_the_status_was_not_written() -> None:
    async with running_one(CronJobController) as (cluster, _):
        await cluster.api.create(CRONJOBS, cronjob())
        await cluster.settle(301)
        await cluster.api.patch(CRONJOBS, "tick", {"status": None}, "default", subresource="status")
        await cluster.settle(5)
        assert len(cluster.api.objects(JOBS)) == 1
        assert len((await _status(cluster))["active"]) == 1
