"""What to do next for one job, from what is there and the time. Pure.

Counting, as upstream: a pod carries the finalizer `job-tracking` until its end is in the status. A look first writes
the uids of pods that ended into `status.uncountedTerminatedPods`, then their finalizers go, and a later look, which
sees an uncounted uid without a finalizer, moves it into `succeeded` or `failed`. Whatever is interrupted where, a pod
is in one of these states and is counted once. Indexed successes need no uids: an index is in `completedIndexes` or not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orca.api.objects import Obj, is_terminating, uid
from orca.api.times import format_time, parse_time
from orca.controllers import conditions, podstate
from orca.controllers.job import policy
from orca.controllers.job.indexes import index_of, parse, show
from orca.controllers.job.pods import FAILURES, IGNORED, count_of, is_tracked, make_pod

MANAGER = "kubernetes.io/job-controller"
BURST = 500
"""Pods created, deleted or counted in one look."""


@dataclass(slots=True)
class Plan:
    """`status` as it should be read once create, delete and discard are done; to be written before `untrack`.

    `create` are pods; `delete` ends pods that will be counted, `discard` those that shall not be (their finalizer goes
    first); `untrack` have been counted. `events` are (type, reason, message), told when the status has been written.
    `wake` is when to look again in seconds.
    """

    status: Obj
    create: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    discard: list[Obj] = field(default_factory=list)
    untrack: list[Obj] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    wake: float | None = None


def is_finished(job: Obj) -> bool:
    """It is Complete or Failed for good."""
    return any(conditions.status_of(job, kind) == "True" for kind in ("Complete", "Failed"))


def is_ours(job: Obj) -> bool:
    """No other controller was named for it."""
    return (job["spec"].get("managedBy") or MANAGER) == MANAGER


def is_indexed(job: Obj) -> bool:
    """Each pod has an index, and each index has to succeed once."""
    return bool(job["spec"].get("completionMode") == "Indexed")


class _Observed:
    """One job's pods, sorted out."""

    def __init__(self, job: Obj, pods: Sequence[Obj]) -> None:
        spec, status = job["spec"], job.get("status") or {}
        self.job, self.pods, self.spec = job, pods, spec
        self.indexed = is_indexed(job)
        self.completions: int | None = spec.get("completions")
        self.per_index: int | None = spec.get("backoffLimitPerIndex") if self.indexed else None
        self.active = [pod for pod in pods if podstate.is_active(pod)]
        self.terminating = [pod for pod in pods if is_terminating(pod) and not podstate.is_finished(pod)]
        tracked = {uid(pod) for pod in pods if is_tracked(pod)}
        before = status.get("uncountedTerminatedPods") or {}
        listed_ok, listed_bad = before.get("succeeded") or [], before.get("failed") or []
        self.uncounted_ok = [one for one in listed_ok if one in tracked]
        self.uncounted_bad = [one for one in listed_bad if one in tracked]
        self.base_ok = (status.get("succeeded") or 0) + len(listed_ok) - len(self.uncounted_ok)
        self.base_bad = (status.get("failed") or 0) + len(listed_bad) - len(self.uncounted_bad)
        known_bad = set(self.uncounted_bad)
        self.new_ok = [
            pod
            for pod in pods
            if is_tracked(pod)
            and podstate.phase(pod) == "Succeeded"
            and uid(pod) not in known_bad
            and uid(pod) not in self.uncounted_ok
            and self._index_is_valid(pod)
        ]
        self.failed_pods = [pod for pod in pods if is_tracked(pod) and policy.has_failed(job, pod)]
        self.verdicts = {uid(pod): policy.match_failure(job, pod) for pod in self.failed_pods}
        self.new_bad = [
            pod
            for pod in self.failed_pods
            if uid(pod) not in known_bad and self.verdicts[uid(pod)][0] != "Ignore" and self._index_is_valid(pod)
        ]
        self.failed = self.base_bad + len(self.uncounted_bad) + len(self.new_bad)
        self.done: set[int] = set()
        self.lost: set[int] = set()
        if self.indexed:
            limit = self.completions or 0
            self.done = parse(status.get("completedIndexes"), limit)
            self.done |= {index for pod in self.new_ok if (index := index_of(pod)) is not None}
            if self.per_index is not None:
                self.lost = parse(status.get("failedIndexes"), limit)
                self.lost |= {index for pod in self.new_bad if (index := self._fails_index(pod)) is not None}
                self.lost -= self.done
            self.succeeded = len(self.done)
        else:
            self.succeeded = self.base_ok + len(self.uncounted_ok) + len(self.new_ok)

    def _index_is_valid(self, pod: Obj) -> bool:
        if not self.indexed:
            return True
        index = index_of(pod)
        return index is not None and index < (self.completions or 0)

    def _fails_index(self, pod: Obj) -> int | None:
        assert self.per_index is not None
        if self.verdicts[uid(pod)][0] == "FailIndex" or count_of(pod, FAILURES) >= self.per_index:
            return index_of(pod)
        return None

    def awaiting(self) -> dict[int, Obj]:
        """Index -> the failed pod whose successor is still to be made: it holds the index's number of failures."""
        if self.per_index is None:
            return {}
        following = {index_of(pod) for pod in self.active}
        found: dict[int, Obj] = {}
        for pod in self.failed_pods:
            index = index_of(pod)
            if index is None or index in self.done or index in self.lost or index in following:
                continue
            other = found.get(index)
            if self._index_is_valid(pod) and (other is None or _failures(other) < _failures(pod)):
                found[index] = pod
        return found


def _failures(pod: Obj) -> int:
    return count_of(pod, FAILURES) + count_of(pod, IGNORED)


def plan(job: Obj, pods: Sequence[Obj], now: datetime) -> Plan:
    """One step for a job that is ours. `pods` are all pods it controls."""
    tracked = [pod for pod in pods if is_tracked(pod)]
    if is_finished(job) or is_terminating(job):
        return Plan(dict(job.get("status") or {}), untrack=tracked)
    seen = _Observed(job, pods)
    made = Plan({})
    found: list[Obj] = list((job.get("status") or {}).get("conditions") or ())
    started = (job.get("status") or {}).get("startTime")
    suspended = bool(job["spec"].get("suspend"))
    if started is None and not suspended:
        started = format_time(now)
    verdict = _verdict(seen, found, started, now)
    if verdict is not None:
        made.delete = seen.active[:BURST]
    else:
        _manage(seen, now, made)
        if _is_complete(seen):
            text = "Reached expected number of succeeded pods"
            verdict = conditions.build("SuccessCriteriaMet", "True", "CompletionsReached", text, now)
        else:
            found, changed = _suspension(found, suspended, now)
            if changed:
                made.events.append(("Normal", changed, f"Job {changed.lower()}"))
            if changed == "Resumed":
                started = format_time(now)
        _wake_at_deadline(seen, started, now, made)
    uncounted, held = _count(seen, made, ended=verdict is not None)
    if verdict is not None:
        found = conditions.put(found, verdict)
        ready_to_end = not seen.active and not seen.terminating and not held and not any(uncounted.values())
        if ready_to_end and not made.untrack:
            found.append(_final(verdict, now, made))
    made.status = _status(seen, made, found, started, uncounted)
    if verdict is not None and conditions.find(found, "Complete"):
        made.status["completionTime"] = format_time(now)
    return made


def _verdict(seen: _Observed, found: Sequence[Obj], started: str | None, now: datetime) -> Obj | None:
    """The interim condition that says how the job ends: the one it has, or a new one; None: it goes on."""
    for kind in ("FailureTarget", "SuccessCriteriaMet"):
        present = conditions.find(found, kind)
        if present is not None and present["status"] == "True":
            return present
    reason, text = _failure(seen, started, now)
    if reason:
        return conditions.build("FailureTarget", "True", reason, text, now)
    text = policy.match_success(seen.job, seen.done) if seen.indexed else ""
    return conditions.build("SuccessCriteriaMet", "True", "SuccessPolicy", text, now) if text else None


def _failure(seen: _Observed, started: str | None, now: datetime) -> tuple[str, str]:
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


def _restarts_exceed(seen: _Observed, limit: int) -> bool:
    """Containers that the hosts restart use up the limit too."""
    if (seen.spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    total = 0
    for pod in seen.pods:
        if podstate.phase(pod) in ("Running", "Pending"):
            for part in ("initContainerStatuses", "containerStatuses"):
                total += sum(one.get("restartCount", 0) for one in pod.get("status", {}).get(part) or ())
    return total >= limit if limit else total > 0


def _is_complete(seen: _Observed) -> bool:
    if seen.active:
        return False
    return seen.succeeded > 0 if seen.completions is None else seen.succeeded >= seen.completions


def _manage(seen: _Observed, now: datetime, made: Plan) -> None:
    """Pods to make or to take away; never both in one look."""
    active, parallelism = len(seen.active), seen.spec.get("parallelism", 1)
    if seen.spec.get("suspend"):
        wanted = 0
    elif seen.completions is None:
        wanted = min(active, parallelism) if seen.succeeded else parallelism
    else:
        wanted = max(min(seen.completions - seen.succeeded - len(seen.lost), parallelism), 0)
    made.discard = _surplus(seen, active - wanted, now)[:BURST]
    room = wanted - active - (len(seen.terminating) if policy.only_failed(seen.job) else 0)
    if made.discard or room <= 0:
        return
    if seen.per_index is None:
        wait = policy.backoff(seen.job, seen.pods, now)
        if wait > 0:
            _wake(made, wait)
            return
    room = min(room, BURST)
    if not seen.indexed:
        made.create = [make_pod(seen.job, None) for _ in range(room)]
        return
    predecessors = seen.awaiting()
    for index in _pending(seen, predecessors, now, made):
        if len(made.create) == room:
            break
        last = predecessors.get(index)
        ignored = last is not None and seen.verdicts[uid(last)][0] == "Ignore"
        made.create.append(make_pod(seen.job, index, last, ignored=ignored))


def _surplus(seen: _Observed, count: int, now: datetime) -> list[Obj]:
    """Active pods of invalid, finished or doubled indexes, and then as many as are too many."""
    order = podstate.deletion_order(seen.active, {}, now)
    if not seen.indexed:
        return order[: max(count, 0)]
    kept: set[int] = set()
    surplus: list[Obj] = []
    rest: list[Obj] = []
    for pod in reversed(order):
        index = index_of(pod)
        if index is None or index >= (seen.completions or 0) or index in kept or index in seen.done | seen.lost:
            surplus.append(pod)
        else:
            kept.add(index)
            rest.insert(0, pod)
    return surplus + rest[: max(count - len(surplus), 0)]


def _pending(seen: _Observed, predecessors: dict[int, Obj], now: datetime, made: Plan) -> Iterable[int]:
    """Indexes that want a pod now, from the lowest."""
    taken = {index_of(pod) for pod in seen.active} | seen.done | seen.lost
    if policy.only_failed(seen.job):
        taken |= {index_of(pod) for pod in seen.terminating}
    for index in range(seen.completions or 0):
        if index in taken:
            continue
        last = predecessors.get(index)
        wait = policy.delay(_failures(last) + 1, policy.finished_at(last), now) if last else 0.0
        if wait > 0:
            _wake(made, wait)
        else:
            yield index


def _wake(made: Plan, seconds: float) -> None:
    made.wake = seconds if made.wake is None else min(made.wake, seconds)


def _wake_at_deadline(seen: _Observed, started: str | None, now: datetime, made: Plan) -> None:
    deadline = seen.spec.get("activeDeadlineSeconds")
    if deadline is not None and started and not seen.spec.get("suspend"):
        _wake(made, max((parse_time(started) + timedelta(seconds=deadline) - now).total_seconds(), 0.001))


def _count(seen: _Observed, made: Plan, *, ended: bool) -> tuple[dict[str, list[str]], int]:
    """Fills `untrack`; answers what is uncounted, and how many pods still hold their finalizer for the next look."""
    succeeded, failed = list(seen.uncounted_ok), list(seen.uncounted_bad)
    new_ok, new_bad = set(map(uid, seen.new_ok)), set(map(uid, seen.new_bad))
    failures = set(map(uid, seen.failed_pods))
    predecessors = {} if ended else seen.awaiting()
    delayed = set(map(uid, predecessors.values()))
    held = 0
    for pod in seen.pods:
        if not is_tracked(pod):
            continue
        one = uid(pod)
        over = one in failures or podstate.phase(pod) == "Succeeded"
        if not over or one in delayed or len(made.untrack) >= BURST:
            held += 1
            continue
        if one in new_ok and not seen.indexed:
            succeeded.append(one)
        elif one in new_bad:
            failed.append(one)
        made.untrack.append(pod)
    uncounted = {}
    if succeeded:
        uncounted["succeeded"] = succeeded
    if failed:
        uncounted["failed"] = failed
    return uncounted, held


def _suspension(found: list[Obj], suspended: bool, now: datetime) -> tuple[list[Obj], str]:
    """The conditions, and `Suspended` or `Resumed` when that is news."""
    present = conditions.find(found, "Suspended")
    if suspended and (present is None or present["status"] != "True"):
        wanted = conditions.build("Suspended", "True", "JobSuspended", "Job suspended", now)
    elif not suspended and present is not None and present["status"] == "True":
        wanted = conditions.build("Suspended", "False", "JobResumed", "Job resumed", now)
    else:
        return found, ""
    return conditions.put(found, wanted), "Suspended" if suspended else "Resumed"


def _final(verdict: Obj, now: datetime, made: Plan) -> Obj:
    """The condition that ends the job, and its event."""
    kind = "Complete" if verdict["type"] == "SuccessCriteriaMet" else "Failed"
    reason, message = verdict.get("reason", ""), verdict.get("message", "")
    if kind == "Complete":
        made.events.append(("Normal", "Completed", "Job completed"))
    else:
        made.events.append(("Warning", reason, message))
    return conditions.build(kind, "True", reason, message, now)


def _status(
    seen: _Observed, made: Plan, found: Sequence[Obj], started: str | None, uncounted: dict[str, list[str]]
) -> Obj:
    gone = {uid(pod) for pod in (*made.delete, *made.discard)}
    left = [pod for pod in seen.active if uid(pod) not in gone]
    status: Obj = {
        "active": len(left) + len(made.create),
        "failed": seen.base_bad,
        "ready": sum(map(podstate.is_ready, left)),
        "succeeded": len(seen.done) if seen.indexed else seen.base_ok,
        "terminating": len(seen.terminating) + len(gone),
        "uncountedTerminatedPods": uncounted,
    }
    for part in ("active", "failed", "succeeded"):
        if not status[part]:
            del status[part]
    if started is not None:
        status["startTime"] = started
    if found:
        status["conditions"] = list(found)
    if seen.indexed and seen.done:
        status["completedIndexes"] = show(seen.done)
    if seen.per_index is not None:
        status["failedIndexes"] = show(seen.lost)
    return status
