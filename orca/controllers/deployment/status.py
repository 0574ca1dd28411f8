"""Counters and conditions of a Deployment, with upstream's reasons and messages. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from orca.api.objects import Obj, meta, name
from orca.api.times import format_time, parse_time
from orca.controllers import conditions
from orca.controllers.deployment.sizes import Limits, replicas_of

NO_DEADLINE = 2**31 - 1

AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"
CREATED = "NewReplicaSetCreated"
FOUND = "FoundNewReplicaSet"
UPDATED = "ReplicaSetUpdated"
CREATE_FAILED = "ReplicaSetCreateError"


def deadline_of(deployment: Obj) -> int | None:
    """`spec.progressDeadlineSeconds`; None when progress is not watched."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds == NO_DEADLINE else int(seconds)


def progress(deployment: Obj) -> Obj | None:
    """The Progressing condition."""
    return conditions.find((deployment.get("status") or {}).get("conditions"), "Progressing")


def counters(deployment: Obj, new: Obj | None, replicasets: Sequence[Obj], limits: Limits, now: datetime) -> Obj:
    """The status but for progress and failure: counters, Available, what else was there before."""
    old = deployment.get("status") or {}

    def total(part: str) -> int:
        return sum((rs.get("status") or {}).get(part) or 0 for rs in replicasets)

    available = total("availableReplicas")
    wanted = sum(rs["spec"].get("replicas") or 0 for rs in replicasets)
    status: Obj = {"observedGeneration": meta(deployment).get("generation", 0)}
    for part, count in (
        ("replicas", total("replicas")),
        ("updatedReplicas", ((new or {}).get("status") or {}).get("replicas") or 0),
        ("readyReplicas", total("readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", max(wanted - available, 0)),
    ):
        if count:
            status[part] = count
    reports = [rs.get("status") or {} for rs in replicasets]
    if all("terminatingReplicas" in report or not report.get("observedGeneration") for report in reports):
        # Else one of the sets was last looked at by somebody who does not count them.
        status["terminatingReplicas"] = total("terminatingReplicas")
    if old.get("collisionCount") is not None:
        status["collisionCount"] = old["collisionCount"]
    if available >= limits.fewest:
        verdict = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        verdict = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    status["conditions"] = conditions.put(
        old.get("conditions"), conditions.build("Available", *verdict, now, updated=True)
    )
    return status


def is_complete(deployment: Obj, status: Obj) -> bool:
    """All pods are of the newest template and available, and none of another remains."""
    if status.get("observedGeneration", 0) < meta(deployment).get("generation", 0):
        return False
    parts = ("updatedReplicas", "replicas", "availableReplicas")
    return all(status.get(part, 0) == replicas_of(deployment) for part in parts)


def is_progressing(old: Obj, new: Obj) -> bool:
    """Between the two statuses something moved in the right direction."""

    def outdated(status: Obj) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    better = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return any(new.get(part, 0) > old.get(part, 0) for part in better) or outdated(new) < outdated(old)


def has_timed_out(deployment: Obj, condition: Obj | None, now: datetime) -> bool:
    """No progress for longer than the deadline since `condition` (Progressing) was updated."""
    seconds = deadline_of(deployment)
    if seconds is None or condition is None or condition.get("reason") == AVAILABLE:
        return False
    if condition.get("reason") == TIMED_OUT:
        return True
    return now > _last_progress(condition) + timedelta(seconds=seconds)


def with_progress(deployment: Obj, new: Obj | None, status: Obj, now: datetime) -> Obj:
    """`status` with the Progressing condition that fits; without one when progress is not watched."""
    found: list[Obj] = status["conditions"]
    if deadline_of(deployment) is None:
        return {**status, "conditions": conditions.without(found, "Progressing")}
    current = conditions.find(found, "Progressing")
    rested = current is not None and current.get("reason") == AVAILABLE
    if rested and status.get("replicas", 0) == status.get("updatedReplicas", 0):
        return status
    subject = f'ReplicaSet "{name(new)}"' if new else f'Deployment "{name(deployment)}"'
    if is_complete(deployment, status):
        condition = _progressing("True", AVAILABLE, f"{subject} has successfully progressed.", now)
        found = conditions.put(found, condition)
    elif is_progressing(deployment.get("status") or {}, status):
        condition = _progressing("True", UPDATED, f"{subject} is progressing.", now)
        if current is not None and current["status"] == "True":
            condition["lastTransitionTime"] = current.get("lastTransitionTime", condition["lastTransitionTime"])
        # The newest lastUpdateTime counts for the deadline, so it is replaced even when nothing else changed.
        found = [*conditions.without(found, "Progressing"), condition]
    elif has_timed_out(deployment, current, now):
        found = conditions.put(found, _progressing("False", TIMED_OUT, f"{subject} has timed out progressing.", now))
    return {**status, "conditions": found}


def with_failure(status: Obj, new: Obj | None, replicasets: Sequence[Obj], now: datetime) -> Obj:
    """`status` with the ReplicaFailure of one of the sets, the newest first, or without."""
    for replicaset in ([new] if new else []) + [rs for rs in replicasets if rs is not new]:
        failure = conditions.find((replicaset.get("status") or {}).get("conditions"), "ReplicaFailure")
        if failure is not None:
            shown = conditions.build(
                "ReplicaFailure",
                failure["status"],
                failure.get("reason", ""),
                failure.get("message", ""),
                parse_time(failure["lastTransitionTime"]) if failure.get("lastTransitionTime") else now,
                updated=True,
            )
            return {**status, "conditions": conditions.put(status["conditions"], shown)}
    return {**status, "conditions": conditions.without(status["conditions"], "ReplicaFailure")}


def announced(deployment: Obj, status: Obj, reason: str, message: str, now: datetime) -> Obj:
    """`status` with Progressing set for a new, found or failed ReplicaSet."""
    if deadline_of(deployment) is None:
        return status
    state = "False" if reason == CREATE_FAILED else "True"
    return {**status, "conditions": conditions.put(status["conditions"], _progressing(state, reason, message, now))}


def paused_condition(deployment: Obj, now: datetime) -> list[Obj] | None:
    """The conditions after a pause or resume was noticed; None when there is nothing to notice.

    While paused the deadline stands still; resuming starts it anew.
    """
    if deadline_of(deployment) is None:
        return None
    condition = progress(deployment)
    if condition is not None and condition.get("reason") == TIMED_OUT:
        return None
    paused = bool(deployment["spec"].get("paused"))
    was_paused = condition is not None and condition.get("reason") == PAUSED
    if paused == was_paused:
        return None
    reason, message = (PAUSED, "Deployment is paused") if paused else (RESUMED, "Deployment is resumed")
    found = (deployment.get("status") or {}).get("conditions")
    return conditions.put(found, _progressing("Unknown", reason, message, now))


def next_look(deployment: Obj, status: Obj, now: datetime) -> float | None:
    """Seconds until the deadline has to be checked again; None when it need not be."""
    seconds = deadline_of(deployment)
    condition = conditions.find(status.get("conditions"), "Progressing")
    if seconds is None or condition is None or condition.get("reason") in (AVAILABLE, TIMED_OUT, PAUSED):
        return None
    if is_complete(deployment, status):
        return None
    left = _last_progress(condition) + timedelta(seconds=seconds) - now
    return max(left.total_seconds(), 0.0) + 1.0


def _last_progress(condition: Obj) -> datetime:
    return parse_time(condition.get("lastUpdateTime") or condition["lastTransitionTime"])


def _progressing(state: str, reason: str, message: str, now: datetime) -> Obj:
    condition = conditions.build("Progressing", state, reason, message, now, updated=True)
    condition["lastUpdateTime"] = format_time(now)
    return condition
