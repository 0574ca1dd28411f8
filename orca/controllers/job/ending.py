"""How a job ends, and the conditions that say so. Pure; reasons and messages are kube-controller-manager's.

What ends a job is first an interim condition (FailureTarget, SuccessCriteriaMet); Failed or Complete follows when no
pod of the job runs any more and each has been counted.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from orca.api.objects import Obj
from orca.api.times import format_time, parse_time
from orca.controllers import conditions, podstate
from orca.controllers.job import policy
from orca.controllers.job.observed import Observed


def condition(kind: str, status: str, reason: str, message: str, now: datetime) -> Obj:
    """As Jobs have them: with a time of the last probe."""
    made = conditions.build(kind, status, reason, message, now)
    return {"type": made.pop("type"), "status": made.pop("status"), "lastProbeTime": format_time(now), **made}


def verdict(seen: Observed, found: Sequence[Obj], started: str | None, now: datetime) -> Obj | None:
    """The interim condition that says how the job ends: the one it has, or a new one; None: it goes on."""
    for kind in ("SuccessCriteriaMet", "FailureTarget"):
        present = conditions.find(found, kind)
        if present is not None and present["status"] == "True":
            return present
    reason, text = _failure(seen, started, now)
    if reason:
        return condition("FailureTarget", "True", reason, text, now)
    text = policy.match_success(seen.job, seen.done) if seen.indexed else ""
    return condition("SuccessCriteriaMet", "True", "SuccessPolicy", text, now) if text else None


def _failure(seen: Observed, started: str | None, now: datetime) -> tuple[str, str]:
    """Reason and message of a job that must fail, empty when it need not."""
    spec = seen.spec
    for action, text in seen.verdicts.values():
        if action == "FailJob":
            return "PodFailurePolicy", text
    limit = spec.get("backoffLimit", 6)
    if seen.failed > limit or _restarts_exceed(seen, limit):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = spec.get("activeDeadlineSeconds")
    timed = deadline is not None and started and not spec.get("suspend")
    if timed and now >= parse_time(started or "") + timedelta(seconds=deadline):
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    if seen.per_index is not None:
        most = spec.get("maxFailedIndexes")
        if most is not None and len(seen.lost) > most:
            return "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
        if seen.lost and len(seen.lost) + len(seen.done) >= (seen.completions or 0):
            return "FailedIndexes", "Job has failed indexes"
    return "", ""


def _restarts_exceed(seen: Observed, limit: int) -> bool:
    """Containers that the hosts restart use up the limit too."""
    if (seen.spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    total = 0
    for pod in seen.pods:
        if podstate.phase(pod) in ("Running", "Pending"):
            for part in ("initContainerStatuses", "containerStatuses"):
                total += sum(one.get("restartCount", 0) for one in pod.get("status", {}).get(part) or ())
    return total >= limit if limit else total > 0


def completion(seen: Observed, now: datetime) -> Obj | None:
    """The interim condition of a job that has all it was to have; None while it has not."""
    if seen.active:
        return None
    if seen.succeeded < (1 if seen.completions is None else seen.completions):
        return None
    text = "Reached expected number of succeeded pods"
    return condition("SuccessCriteriaMet", "True", "CompletionsReached", text, now)


def suspension(found: list[Obj], suspended: bool, now: datetime) -> tuple[list[Obj], str]:
    """The conditions, and `Suspended` or `Resumed` when that is news."""
    present = conditions.find(found, "Suspended")
    if suspended and (present is None or present["status"] != "True"):
        wanted = condition("Suspended", "True", "JobSuspended", "Job suspended", now)
    elif not suspended and present is not None and present["status"] == "True":
        wanted = condition("Suspended", "False", "JobResumed", "Job resumed", now)
    else:
        return found, ""
    news = "Suspended" if suspended else "Resumed"
    if present is None:
        return [*found, wanted], news
    return [wanted if one is present else one for one in found], news


def final(seen: Observed, interim: Obj, now: datetime) -> tuple[Obj, list[tuple[str, str, str]]]:
    """The condition that ends the job, and what is told about it as (type, reason, message)."""
    reason, message = interim.get("reason", ""), interim.get("message", "")
    if interim["type"] == "FailureTarget":
        return condition("Failed", "True", reason, message, now), [("Warning", reason, message)]
    events = [("Normal", "Completed", "Job completed")]
    if seen.completions is not None and seen.succeeded > seen.completions:
        text = "Too many succeeded pods running after completion count reached"
        events.insert(0, ("Warning", "TooManySucceededPods", text))
    return condition("Complete", "True", reason, message, now), events
