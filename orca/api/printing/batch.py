"""Jobs and CronJobs."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing import formats
from orca.api.printing.columns import AGE, NAME, Cells, Obj, boolean, integer, name, printer, spec, status, text
from orca.api.printing.columns import workload_columns as workload
from orca.api.printing.duration import between, since


def _completions(wanted: Obj, state: Obj) -> str:
    done = state.get("succeeded") or 0
    if wanted.get("completions") is not None:
        return f"{done}/{wanted['completions']}"
    parallelism = wanted.get("parallelism") or 0
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _state(obj: Obj) -> str:
    true = {c.get("type") for c in status(obj).get("conditions") or () if c.get("status") == "True"}
    if "Complete" in true:
        return "Complete"
    if "Failed" in true:
        return "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if "Suspended" in true:
        return "Suspended"
    return "FailureTarget" if "FailureTarget" in true else "Running"


@printer(
    "batch",
    "Job",
    NAME,
    text("Status", "Status of the job."),
    text("Completions", "Number of pods that succeeded."),
    text("Duration", "Time required to complete the job."),
    AGE,
    *workload(),
)
def job(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get jobs -o wide``."""
    wanted, state = spec(obj), status(obj)
    return [
        name(obj),
        _state(obj),
        _completions(wanted, state),
        between(state.get("startTime"), state.get("completionTime"), now),
        since(obj["metadata"].get("creationTimestamp"), now),
        *formats.containers(formats.template_spec(wanted)),
        formats.selector(wanted.get("selector")),
    ]


@printer(
    "batch",
    "CronJob",
    NAME,
    text("Schedule", "When jobs are started, in cron's form."),
    text("Timezone", "Time zone of the schedule."),
    boolean("Suspend", "True while no jobs are started."),
    integer("Active", "Number of running jobs."),
    text("Last Schedule", "When the last job was started."),
    AGE,
    *workload(),
)
def cron_job(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get cronjobs -o wide``."""
    wanted, state = spec(obj), status(obj)
    job_spec = (wanted.get("jobTemplate") or {}).get("spec") or {}
    last = state.get("lastScheduleTime")
    return [
        name(obj),
        wanted.get("schedule") or "",
        wanted.get("timeZone") or formats.NONE,
        formats.truth(wanted.get("suspend")),
        len(state.get("active") or ()),
        since(last, now) if last else formats.NONE,
        since(obj["metadata"].get("creationTimestamp"), now),
        *formats.containers(formats.template_spec(job_spec)),
        formats.selector(job_spec.get("selector")),
    ]
