"""What podFailurePolicy, successPolicy and backoff say about a job's pods. Pure.

Texts are those of kube-controller-manager's pkg/controller/job.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from orca.api.objects import Obj, is_terminating, meta, name, namespace
from orca.api.times import parse_time
from orca.controllers import podstate
from orca.controllers.job.indexes import parse

FIRST_BACKOFF, LAST_BACKOFF = 10.0, 600.0


def only_failed(job: Obj) -> bool:
    """Pods are replaced when they have failed, not already while they terminate."""
    return bool(job["spec"].get("podReplacementPolicy") == "Failed")


def has_failed(job: Obj, pod: Obj) -> bool:
    """The pod counts as a failure.

    A pod that is being deleted does at once, unless its end is to be awaited; even then when no grace is left, for
    nothing will ever report the end of a pod that no host runs.
    """
    phase = podstate.phase(pod)
    if phase == "Failed":
        return True
    if phase == "Succeeded" or not is_terminating(pod):
        return False
    return not only_failed(job) or not meta(pod).get("deletionGracePeriodSeconds")


def match_failure(job: Obj, pod: Obj) -> tuple[str, str]:
    """The action of the first rule that a failed pod matches ("" without one), and FailJob's message."""
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        action = rule["action"]
        if rule.get("onExitCodes"):
            status = _exit_code(pod, rule["onExitCodes"])
            if status is not None:
                code = status["state"]["terminated"]["exitCode"]
                return action, (
                    f"Container {status['name']} for pod {namespace(pod)}/{name(pod)} failed with exit code {code} "
                    f"matching {action} rule at index {number}"
                )
        for pattern in rule.get("onPodConditions") or ():
            for condition in pod.get("status", {}).get("conditions") or ():
                wanted = (pattern["type"], pattern.get("status", "True"))
                if (condition["type"], condition["status"]) == wanted:
                    return action, (
                        f"Pod {namespace(pod)}/{name(pod)} has condition {condition['type']} matching {action} rule "
                        f"at index {number}"
                    )
    return "", ""


def _exit_code(pod: Obj, codes: Obj) -> Obj | None:
    """The first container that ended as the requirement says."""
    status = pod.get("status", {})
    for found in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if codes.get("containerName") not in (None, found["name"]):
            continue
        code = ((found.get("state") or {}).get("terminated") or {}).get("exitCode", 0)
        if code and (code in codes["values"]) == (codes["operator"] == "In"):
            return dict(found)
    return None


def match_success(job: Obj, succeeded: Collection[int]) -> str:
    """The message of the first successPolicy rule that is met, "" when none is."""
    for number, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules") or ()):
        wanted, counted = rule.get("succeededIndexes"), rule.get("succeededCount")
        among = parse(wanted, job["spec"]["completions"]) if wanted is not None else None
        done = len(among & set(succeeded)) if among is not None else len(succeeded)
        if counted is None:
            counted = len(among) if among is not None else None
        if counted is not None and done >= counted:
            return f"Matched rules at index {number}"
    return ""


def finished_at(pod: Obj) -> datetime:
    """When a pod ended: its last container's end, else its deletion, else its creation."""
    status = pod.get("status", {})
    ends = [
        ((found.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for found in status.get("containerStatuses") or ()
    ]
    known = [parse_time(end) for end in ends if end]
    if known:
        return max(known)
    deleted = meta(pod).get("deletionTimestamp")
    if deleted:
        return parse_time(deleted) - timedelta(seconds=meta(pod).get("deletionGracePeriodSeconds") or 0)
    return podstate.created_at(pod)


def delay(failures: int, last: datetime | None, now: datetime) -> float:
    """Seconds until a pod may follow the last of so many failures in a row."""
    if not failures or last is None:
        return 0.0
    pause = min(FIRST_BACKOFF * 2 ** min(failures - 1, 16), LAST_BACKOFF)
    return max((last + timedelta(seconds=pause) - now).total_seconds(), 0.0)


def backoff(job: Obj, pods: Iterable[Obj], now: datetime) -> float:
    """Seconds until the next pod of a job may start: 10, 20, 40, … after each failure since the last success.

    Read off the pods that are there, so it is the same after a restart of the controller.
    """
    ended = [pod for pod in pods if podstate.phase(pod) == "Succeeded"]
    success = max(map(finished_at, ended), default=None)
    failures = [finished_at(pod) for pod in pods if has_failed(job, pod)]
    counted = [end for end in failures if success is None or end > success]
    return delay(len(counted), max(counted, default=None), now)
