"""What to do next for one CronJob. Pure; reasons and texts are those of kube-controller-manager."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orca.api.builtin import CRONJOBS, JOBS
from orca.api.objects import Obj, annotations, is_terminating, name, namespace, uid
from orca.api.times import format_time, parse_time
from orca.controllers import conditions, podstate
from orca.controllers.claims import owner_reference
from orca.controllers.cronjob import schedule

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
UNSUPPORTED = (
    'CRON_TZ or TZ used in schedule "{}" is not officially supported, see '
    "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
)
MANY = 100
"""Missed times that earn a warning."""
SLACK = 0.1
"""Seconds after a scheduled time at which it is looked at."""


@dataclass(slots=True)
class Plan:
    """`status` as it is before anything is started; `start` is the scheduled time of a job to create after `replace`
    have been deleted; `prune` are finished jobs over the limits; `events` are (type, reason, message); `wake` is in
    seconds."""

    status: Obj
    start: datetime | None = None
    replace: list[Obj] = field(default_factory=list)
    prune: list[Obj] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    wake: float | None = None


def end_of(job: Obj) -> str:
    """`Complete` or `Failed`, "" while the job runs."""
    return next((kind for kind in ("Complete", "Failed") if conditions.status_of(job, kind) == "True"), "")


def job_name(cronjob: Obj, when: datetime) -> str:
    """One name a scheduled minute, so that a time cannot be started twice."""
    return f"{name(cronjob)}-{int(when.timestamp()) // 60}"


def make_job(cronjob: Obj, when: datetime) -> Obj:
    """The job of a scheduled time."""
    template = cronjob["spec"]["jobTemplate"]
    metadata = template.get("metadata") or {}
    made: Obj = {
        "name": job_name(cronjob, when),
        "namespace": namespace(cronjob),
        "annotations": {**(metadata.get("annotations") or {}), SCHEDULED_AT: _stamp(cronjob, when)},
        "ownerReferences": [owner_reference(CRONJOBS, cronjob)],
    }
    if metadata.get("labels"):
        made["labels"] = dict(metadata["labels"])
    return {"apiVersion": JOBS.api_version, "kind": JOBS.kind, "metadata": made, "spec": template["spec"]}


def _stamp(cronjob: Obj, when: datetime) -> str:
    """A scheduled time as the wall clock of the CronJob shows it."""
    zone = cronjob["spec"].get("timeZone")
    local = when.astimezone(ZoneInfo(zone)) if zone else when
    return local.isoformat() if local.utcoffset() else format_time(when)


def reference(job: Obj) -> Obj:
    """As `status.active` lists it."""
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "name": name(job),
        "namespace": namespace(job),
        "uid": uid(job),
        "resourceVersion": job["metadata"].get("resourceVersion", ""),
    }


def plan(cronjob: Obj, jobs: Sequence[Obj], now: datetime) -> Plan:
    """One step. `jobs` are those it controls."""
    made = Plan(dict(cronjob.get("status") or {}))
    _follow(cronjob, jobs, made)
    made.prune = _surplus(cronjob, jobs)
    if not is_terminating(cronjob):
        _schedule(cronjob, jobs, now, made)
    return made


def scheduled_at(cronjob: Obj, job: Obj) -> datetime | None:
    """The scheduled time that a job was made for; None for one that somebody else made of the template."""
    try:
        when = datetime.fromisoformat(annotations(job).get(SCHEDULED_AT, ""))
        return when if when.tzinfo and name(job) == job_name(cronjob, when) else None
    except ValueError:
        return None


def _follow(cronjob: Obj, jobs: Sequence[Obj], made: Plan) -> None:
    """The status as the jobs now are.

    A job of ours that is not in it was made just before the controller died: it counts like the others, else its
    time could be started once more, or a second job beside it whatever the concurrency policy says.
    """
    by_uid = {uid(job): job for job in jobs}
    active = []
    listed = made.status.pop("active", None) or []
    for entry in listed:
        job = by_uid.get(entry["uid"])
        if job is None:
            made.events.append(("Normal", "MissingJob", f"Active job went missing: {entry['name']}"))
        elif end_of(job):
            text = f"Saw completed job: {name(job)}, condition: {end_of(job)}"
            made.events.append(("Normal", "SawCompletedJob", text))
        else:
            active.append(entry)
    known = {entry["uid"] for entry in listed}
    for job in jobs:
        when, noted = scheduled_at(cronjob, job), made.status.get("lastScheduleTime")
        if when is not None and (noted is None or when > parse_time(noted)):
            made.status["lastScheduleTime"] = format_time(when)
        if uid(job) not in known and not end_of(job):
            text = f"Saw a job that the controller did not create or forgot: {name(job)}"
            made.events.append(("Warning", "UnexpectedJob", text))
            if when is not None:
                active.append(reference(job))
        done = (job.get("status") or {}).get("completionTime")
        last = made.status.get("lastSuccessfulTime")
        if end_of(job) == "Complete" and done and (last is None or parse_time(done) > parse_time(last)):
            made.status["lastSuccessfulTime"] = done
    if active:
        made.status["active"] = active


def _surplus(cronjob: Obj, jobs: Sequence[Obj]) -> list[Obj]:
    """The oldest finished jobs over the limits."""
    surplus: list[Obj] = []
    for kind, part in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        limit = cronjob["spec"].get(part)
        if limit is None:
            continue
        finished = sorted((job for job in jobs if end_of(job) == kind and not is_terminating(job)), key=_age)
        surplus += finished[: max(len(finished) - limit, 0)]
    return surplus


def _age(job: Obj) -> tuple[bool, str, str]:
    """Sorts by start; what has none counts as the youngest."""
    started = (job.get("status") or {}).get("startTime") or ""
    return (not started, started, name(job))


def next_look(cronjob: Obj, now: datetime) -> float | None:
    """Seconds until the next time of the schedule; None when nobody can tell."""
    try:
        found = schedule.parse(cronjob["spec"]["schedule"], cronjob["spec"].get("timeZone"))
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return None
    return _until_next(found, _since(cronjob, cronjob.get("status") or {}), now)


def _since(cronjob: Obj, status: Obj) -> datetime:
    last = status.get("lastScheduleTime")
    return parse_time(last) if last else podstate.created_at(cronjob)


def _until_next(found: schedule.Schedule, since: datetime, now: datetime) -> float | None:
    """A pace (`@every`) is kept from the last time on, whenever this is asked."""
    last, _ = schedule.latest(found, since, now)
    following = found.next(last or since)
    return None if following is None else (following - now).total_seconds() + SLACK


def _schedule(cronjob: Obj, jobs: Sequence[Obj], now: datetime, made: Plan) -> None:
    spec = cronjob["spec"]
    zone, text = spec.get("timeZone"), spec["schedule"]
    if zone is not None and not _is_known(zone):
        made.events.append(("Warning", "UnknownTimeZone", f'invalid timeZone: "{zone}": unknown time zone {zone}'))
        return
    if spec.get("suspend"):
        return
    if "TZ" in text:
        made.events.append(("Warning", "UnsupportedSchedule", UNSUPPORTED.format(text)))
    try:
        found = schedule.parse(text, zone)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        made.events.append(("Warning", "UnparseableSchedule", f'unparseable schedule: "{text}" : {error}'))
        return
    last = made.status.get("lastScheduleTime")
    since = _since(cronjob, made.status)
    made.wake = _until_next(found, since, now)
    if made.wake is None:
        why = "time difference between two schedules is less than 1 second"
        made.events.append(("Warning", "InvalidSchedule", f"invalid schedule: {text} : {why}"))
        return
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None:
        # A second more than is allowed: what was missed just now is told of.
        since = max(since, now - timedelta(seconds=deadline + 1))
    when, missed = schedule.latest(found, since, now)
    if missed > MANY:
        text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        made.events.append(("Warning", "TooManyMissedTimes", text))
    if when is None or (last and parse_time(last) >= when):
        return
    if deadline is not None and when + timedelta(seconds=deadline) < now:
        stamp = when.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
        made.events.append(("Warning", "MissSchedule", f"Missed scheduled time to start a job: {stamp}"))
        return
    _start(cronjob, jobs, when, made)


def _is_known(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return False
    return True


def _start(cronjob: Obj, jobs: Sequence[Obj], when: datetime, made: Plan) -> None:
    active = made.status.get("active") or []
    if any(entry["name"] == job_name(cronjob, when) for entry in active):
        return
    behaviour = cronjob["spec"].get("concurrencyPolicy", "Allow")
    if behaviour == "Forbid" and active:
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        made.events.append(("Normal", "JobAlreadyActive", text))
        return
    if behaviour == "Replace":
        running = {entry["uid"] for entry in active}
        made.replace = [job for job in jobs if uid(job) in running]
    made.start = when
