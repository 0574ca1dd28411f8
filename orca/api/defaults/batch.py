"""Jobs and CronJobs."""

from __future__ import annotations

from orca.api.defaults.pods import template
from orca.api.defaults.registry import Obj, defaults, part, put, put_text

UNLIMITED = 2**31 - 1


def _failure_policy(spec: Obj) -> None:
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            put_text(pattern, status="True")


@defaults("batch", "Job")
def job(obj: Obj) -> None:
    """Defaults of a Job."""
    spec = part(obj, "spec")
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    per_index = spec.get("backoffLimitPerIndex") is not None
    put(
        spec,
        parallelism=1,
        backoffLimit=UNLIMITED if per_index else 6,
        completionMode="NonIndexed",
        suspend=False,
        manualSelector=False,
        podReplacementPolicy="Failed" if spec.get("podFailurePolicy") is not None else "TerminatingOrFailed",
    )
    _failure_policy(spec)
    found = spec.get("template")
    template(found)
    labels = ((found or {}).get("metadata") or {}).get("labels")
    meta = part(obj, "metadata")
    if labels and not meta.get("labels"):
        meta["labels"] = dict(labels)


@defaults("batch", "CronJob")
def cron_job(obj: Obj) -> None:
    """Defaults of a CronJob; those of its jobs are set when they are created."""
    spec = part(obj, "spec")
    put_text(spec, concurrencyPolicy="Allow")
    put(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    job_spec = part(part(spec, "jobTemplate"), "spec")
    _failure_policy(job_spec)
    template(job_spec.get("template"))
