"""CronJobs in the particulars that users of kube-controller-manager know."""

from datetime import timedelta

import pytest

from orca.api.builtin import CRONJOBS, EVENTS, JOBS
from orca.api.errors import ApiError
from orca.api.objects import annotations, name
from orca.api.times import format_time
from orca.controllers.cronjob import CronJobController
from orca.controllers.cronjob.plan import SCHEDULED_AT, SLACK, job_name, make_job, plan
from tests.unit.controllers.support import NOW, running_one
from tests.unit.controllers.test_cronjob import _finish, cronjob


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def test_a_pace_is_kept_from_the_last_start_whenever_it_is_looked_at() -> None:
    found = cronjob("@every 10m")
    found["status"] = {"lastScheduleTime": format_time(NOW)}
    assert plan(found, [], NOW + minutes(4)).wake == 360 + SLACK
    todo = plan(found, [], NOW + minutes(14))
    assert todo.start == NOW + minutes(10)
    assert todo.wake == 360 + SLACK


@pytest.mark.parametrize(
    ("spec", "reason", "text"),
    [
        ({"timeZone": "Mars/Base"}, "UnknownTimeZone", 'invalid timeZone: "Mars/Base": unknown time zone Mars/Base'),
        (
            {"timeZone": "Mars/Base", "suspend": True},
            "UnknownTimeZone",
            'invalid timeZone: "Mars/Base": unknown time zone Mars/Base',
        ),
        (
            {"schedule": "59 23 31 2 *"},
            "InvalidSchedule",
            "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second",
        ),
        (
            {"schedule": "TZ=Europe/Berlin * * * * *"},
            "UnsupportedSchedule",
            'CRON_TZ or TZ used in schedule "TZ=Europe/Berlin * * * * *" is not officially supported, see '
            "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
        ),
    ],
)
def test_what_is_told_of_a_schedule(spec: dict[str, str], reason: str, text: str) -> None:
    todo = plan(cronjob(**spec), [], NOW + minutes(0.5))
    assert todo.events == [("Warning", reason, text)]


def test_the_time_on_a_job_is_that_of_the_wall_clock() -> None:
    stamps = {
        zone: annotations(make_job(cronjob(**({"timeZone": zone} if zone else {})), NOW))[SCHEDULED_AT]
        for zone in ("", "Europe/London", "Asia/Kolkata")
    }
    assert stamps == {
        "": "2026-01-01T00:00:00Z",
        "Europe/London": "2026-01-01T00:00:00Z",
        "Asia/Kolkata": "2026-01-01T05:30:00+05:30",
    }


async def test_a_new_schedule_has_missed_nothing() -> None:
    async with running_one(CronJobController) as (cluster, _):
        await cluster.api.create(CRONJOBS, cronjob("0 0 * * *"))
        await cluster.settle(1802)
        await cluster.api.patch(CRONJOBS, "tick", {"spec": {"schedule": "*/5 * * * *"}}, "default")
        await cluster.settle(1)
        assert not cluster.api.objects(JOBS)
        await cluster.settle(300)
        assert [name(job) for job in cluster.api.objects(JOBS)] == [job_name(cronjob(), NOW + minutes(35))]


async def test_a_job_that_cannot_be_deleted_is_told_of_and_hinders_nothing() -> None:
    async with running_one(CronJobController) as (cluster, controller):
        await cluster.api.create(CRONJOBS, cronjob(successfulJobsHistoryLimit=0))
        await cluster.settle(301)
        (job,) = cluster.api.objects(JOBS)

        async def refuse(*_: object, **__: object) -> None:
            raise ApiError(403, "Forbidden", "not today")

        controller._jobs.delete = refuse
        await _finish(cluster, job)
        await cluster.settle(1)
        status = (await cluster.api.get(CRONJOBS, "tick", "default"))["status"]
        assert status["lastSuccessfulTime"]
        assert "active" not in status
        await controller.recorder.flush()
        told = {event["reason"]: event["message"] for event in cluster.api.objects(EVENTS)}
        assert told["FailedDelete"].startswith("Deleted job: ")
