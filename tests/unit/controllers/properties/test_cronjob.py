"""CronJobs: each scheduled time at most once, concurrency as asked for, and schedules as a clock on the wall says."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from orca.api.objects import Obj, is_terminating, name, uid
from orca.api.times import format_time, parse_time
from orca.controllers.cronjob import schedule
from orca.controllers.cronjob.plan import Plan, end_of, job_name, make_job, plan, reference
from tests.unit.controllers.properties.world import QUICK

# With clock changes at midnight, of half an hour, backwards over midnight, and none.
CHANGES = {
    "Europe/Berlin": ["2026-03-29T00:30:00Z", "2026-10-24T23:30:00Z"],
    "America/Sao_Paulo": ["2018-11-04T02:00:00Z", "2018-02-18T01:00:00Z"],
    "Australia/Lord_Howe": ["2026-04-04T14:00:00Z", "2026-10-03T14:30:00Z"],
    "America/Havana": ["2026-03-08T04:00:00Z", "2026-11-01T04:30:00Z"],
    "Asia/Kolkata": ["2026-05-01T00:00:00Z"],
    "Pacific/Apia": ["2011-12-30T09:00:00Z"],
}


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, datetime]:
    """A time zone and a time within a day of a change of its clocks."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    change = parse_time(draw(st.sampled_from(CHANGES[zone])))
    return zone, change + timedelta(seconds=draw(st.integers(-100_000, 100_000)))


@st.composite
def lists(draw: st.DrawFn, low: int, high: int) -> tuple[str, set[int]]:
    """A field and the numbers it means."""
    kind = draw(st.sampled_from(["*", "*/n", "a,b", "a-b"]))
    if kind == "*":
        return "*", set(range(low, high + 1))
    if kind == "*/n":
        step = draw(st.integers(1, high - low))
        return f"*/{step}", set(range(low, high + 1, step))
    found = sorted(draw(st.sets(st.integers(low, high), min_size=2, max_size=2)))
    if kind == "a,b":
        return f"{found[0]},{found[1]}", set(found)
    return f"{found[0]}-{found[1]}", set(range(found[0], found[1] + 1))


@QUICK
@given(moments(), lists(0, 59), lists(0, 23), lists(0, 6))
def test_the_next_time_is_the_first_minute_that_a_wall_clock_shows(
    moment: tuple[str, datetime], minutes: tuple[str, set[int]], hours: tuple[str, set[int]], days: tuple[str, set[int]]
) -> None:
    zone, after = moment
    found = schedule.parse(f"{minutes[0]} {hours[0]} * * {days[0]}", zone).next(after)
    minute, place = after.replace(second=0, microsecond=0), ZoneInfo(zone)
    for _ in range(30 * 60):
        minute += timedelta(minutes=1)
        local = minute.astimezone(place)
        if local.minute in minutes[1] and local.hour in hours[1] and local.isoweekday() % 7 in days[1]:
            assert found == minute
            return
        if found is not None and found <= minute:
            raise AssertionError(f"{found} is no time of the schedule")


@QUICK
@given(moments(), lists(0, 59), lists(0, 23), st.integers(0, 200_000))
def test_the_latest_missed_time_is_the_last_one_there_was(
    moment: tuple[str, datetime], minutes: tuple[str, set[int]], hours: tuple[str, set[int]], seconds: int
) -> None:
    zone, since = moment
    one, now = schedule.parse(f"{minutes[0]} {hours[0]} * * *", zone), since + timedelta(seconds=seconds)
    last, number = schedule.latest(one, since, now)
    if last is None:
        following = one.next(since)
        assert number == 0
        assert following is None or following > now
        return
    following = one.next(last)
    assert since < last <= now
    assert one.next(last - timedelta(minutes=1)) == last
    assert following is None or following > now
    assert number >= 1


START = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)
"""The evening before the clocks change in Berlin."""


class Schedules:
    """A CronJob, its jobs, and a clock that may be set."""

    def __init__(self, **spec: Any) -> None:
        self.now = START
        self.cronjob: Obj = {
            "metadata": {
                "name": "c",
                "namespace": "default",
                "uid": "c-uid",
                "creationTimestamp": format_time(self.now),
            },
            "spec": {"jobTemplate": {"spec": {"template": {}}}, **spec},
            "status": {},
        }
        self.jobs: dict[str, Obj] = {}
        self.started: list[str] = []

    def running(self) -> list[Obj]:
        return [one for one in self.jobs.values() if not end_of(one)]

    def sync(self, *, dies: bool = False) -> Plan:
        """One look; `dies`: after the job was created and before the status says so."""
        todo = plan(self.cronjob, list(self.jobs.values()), self.now)
        for one in todo.prune:
            assert end_of(one)
            del self.jobs[uid(one)]
        if todo.start is not None:
            assert todo.start <= self.now
            for one in todo.replace:
                del self.jobs[uid(one)]
            wanted = make_job(self.cronjob, todo.start)
            made = next((one for one in self.jobs.values() if name(one) == name(wanted)), None)
            if made is None:
                self.started.append(name(wanted))
                made = {**wanted, "metadata": {**wanted["metadata"], "uid": f"j{len(self.started)}"}, "status": {}}
                made["metadata"]["creationTimestamp"] = format_time(self.now)
                self.jobs[uid(made)] = made
            gone = {uid(one) for one in todo.replace}
            kept = [entry for entry in todo.status.get("active", ()) if entry["uid"] not in gone]
            todo.status |= {"active": [*kept, reference(made)], "lastScheduleTime": format_time(todo.start)}
        if not dies:
            self.cronjob = {**self.cronjob, "status": todo.status}
        assert not is_terminating(self.cronjob)
        return todo

    def end(self, number: int, kind: str) -> None:
        running = self.running()
        if running:
            one = running[number % len(running)]
            status = {
                "startTime": one["metadata"]["creationTimestamp"],
                "completionTime": format_time(self.now),
                "conditions": [{"type": kind, "status": "True"}],
            }
            self.jobs[uid(one)] = {**one, "status": status}

    def step(self, what: str, number: int) -> None:
        match what:
            case "sync":
                self.sync()
            case "dies":
                self.sync(dies=True)
            case "later":
                self.now += timedelta(minutes=number)
            case "long after":
                self.now += timedelta(hours=number)
            case "set back":
                self.now -= timedelta(minutes=7 * number)
            case "done":
                self.end(number, "Complete")
            case "failed":
                self.end(number, "Failed")


HAPPENINGS = ("sync", "sync", "sync", "dies", "later", "later", "long after", "set back", "done", "failed")
happenings = st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 20)), max_size=40)


@st.composite
def cronjobs(draw: st.DrawFn, *policies: str) -> Schedules:
    spec: dict[str, Any] = {
        "schedule": draw(st.sampled_from(["* * * * *", "*/5 * * * *", "30 2 * * *", "0 * * * *"])),
        "concurrencyPolicy": draw(st.sampled_from(policies)),
        "successfulJobsHistoryLimit": draw(st.integers(0, 3)),
        "failedJobsHistoryLimit": draw(st.integers(0, 1)),
    }
    if draw(st.booleans()):
        spec["timeZone"] = "Europe/Berlin"
    if draw(st.booleans()):
        spec["startingDeadlineSeconds"] = draw(st.integers(1, 600))
    return Schedules(**spec)


@QUICK
@given(cronjobs("Allow", "Forbid", "Replace"), happenings)
def test_no_time_is_started_twice_and_history_stays_within_its_limits(
    world: Schedules, story: list[tuple[str, int]]
) -> None:
    for what, number in story:
        world.step(what, number)
        assert len(world.started) == len(set(world.started))
    world.now = max(world.now, START)
    for _ in range(3):
        world.sync()
    spec = world.cronjob["spec"]
    for kind, limit in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        assert sum(end_of(one) == kind for one in world.jobs.values()) <= spec[limit]
    listed = [entry["uid"] for entry in world.cronjob["status"].get("active", ())]
    assert sorted(listed) == sorted(uid(one) for one in world.running())


@QUICK
@given(cronjobs("Forbid", "Replace"), happenings)
def test_one_job_at_a_time_when_so_asked(world: Schedules, story: list[tuple[str, int]]) -> None:
    for what, number in story:
        world.step(what, number)
        assert len(world.running()) <= 1


@QUICK
@given(cronjobs("Allow", "Forbid", "Replace"), happenings)
def test_a_schedule_goes_on_after_all_that(world: Schedules, story: list[tuple[str, int]]) -> None:
    for what, number in story:
        world.step(what, number)
    for _ in range(8):
        world.end(0, "Complete")
    world.sync()
    last = world.cronjob["status"].get("lastScheduleTime")
    # A clock that was set back is past the last start again at some time.
    world.now = max(world.now, START, parse_time(last) if last else START)
    before = len(world.started)
    todo = world.sync()
    assert todo.wake is not None
    for _ in range(2):
        world.end(0, "Complete")
    world.now += timedelta(seconds=todo.wake)
    world.sync()
    assert len(world.started) > before
    assert job_name(world.cronjob, world.now.replace(second=0, microsecond=0)) == world.started[-1]
