"""What podFailurePolicy, successPolicy and backoff say about a job's pods. Pure.

Texts are those of kube-controller-manager's pkg/controller/job.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from orca.api.objects import Obj, is_terminating, meta, name, namespace, uid
from orca.api.times import parse_time
from orca.controllers import conditions, podstate
from orca.controllers.job.indexes import parse

FIRST_BACKOFF, LAST_BACKOFF = 10.0, 600.0


def only_failed(job: Obj) -> bool:
    """Pods are replaced when they have failed, not already while they terminate."""
    return bool(job["spec"].get("podReplacementPolicy") == "Failed")


def has_failed(job: Obj, pod: Obj) -> bool:
    """The pod counts as a failure: it failed, or is being deleted, unless its end is to be awaited."""
    phase = podstate.phase(pod)
    if phase == "Failed":
        return True
    return phase != "Succeeded" and is_terminating(pod) and not only_failed(job)


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
            continue
        patterns = {(one["type"], one.get("status", "True")) for one in rule.get("onPodConditions") or ()}
        for condition in pod.get("status", {}).get("conditions") or ():
            if (condition["type"], condition["status"]) in patterns:
                return action, (
                    f"Pod {namespace(pod)}/{name(pod)} has condition {condition['type']} matching {action} rule "
                    f"at index {number}"
                )
    return "", ""


def _exit_code(pod: Obj, codes: Obj) -> Obj | None:
    """The first container that ended as the requirement says."""
    status = pod.get("status", {})
    for found in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
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
        among = set(succeeded)
        if wanted is not None:
            required = parse(wanted, job["spec"]["completions"])
            if not required:
                continue
            among &= required
            if among == required:
                return f"Matched rules at index {number}"
        if counted is not None and len(among) >= counted:
            return f"Matched rules at index {number}"
    return ""


def finished_at(pod: Obj) -> datetime:
    """When a pod ended: its last container's end, else when it was no longer ready, else when it was deleted."""
    status = pod.get("status", {})
    sidecars = {one["name"] for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"}
    beside = [one for one in status.get("initContainerStatuses") or () if one["name"] in sidecars]
    ends = [
        ((found.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for found in (*(status.get("containerStatuses") or ()), *beside)
    ]
    if ends and all(ends):
        return max(parse_time(end) for end in ends if end)
    ready = conditions.find(status.get("conditions"), "Ready")
    if ready is not None and ready["status"] == "False" and ready.get("lastTransitionTime"):
        return parse_time(ready["lastTransitionTime"])
    deleted = meta(pod).get("deletionTimestamp")
    if deleted:
        return parse_time(deleted) - timedelta(seconds=meta(pod).get("deletionGracePeriodSeconds") or 0)
    return podstate.created_at(pod)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often pods of a job failed since the last success, and when last. `noted` are the uids of the pods that are
    in these numbers and still there."""

    failures: int = 0
    last: datetime | None = None
    noted: frozenset[str] = frozenset()


def follow(before: Backoff | None, job: Obj, pods: Iterable[Obj]) -> Backoff:
    """`before` with the ends of pods that it does not know. Kept in memory, for pods that failed may be gone; without
    it, as after a start of the controller, the pods that are there tell as much as can be known."""
    good = [pod for pod in pods if podstate.phase(pod) == "Succeeded"]
    bad = [pod for pod in pods if has_failed(job, pod)]
    known = before or Backoff()
    noted = frozenset(uid(pod) for pod in (*good, *bad))
    success = max((finished_at(pod) for pod in good if uid(pod) not in known.noted), default=None)
    ends = [finished_at(pod) for pod in bad if uid(pod) not in known.noted]
    if success is not None:
        ends = [end for end in ends if end > success]
        return Backoff(len(ends), max(ends, default=None), noted)
    return Backoff(known.failures + len(ends), max(ends, default=known.last), noted)


def delay(failures: int, last: datetime | None, now: datetime) -> float:
    """Seconds until a pod may follow the last of so many failures in a row: 10, 20, 40, … up to ten minutes."""
    if not failures or last is None:
        return 0.0
    pause = min(FIRST_BACKOFF * 2 ** min(failures - 1, 16), LAST_BACKOFF)
    return max((last + timedelta(seconds=pause) - now).total_seconds(), 0.0)
