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
from orca.controllers.job import ending, policy
from orca.controllers.job.indexes import index_of, show
from orca.controllers.job.observed import Observed, failures_of
from orca.controllers.job.pods import is_tracked, make_pod
from orca.controllers.job.policy import Backoff

MANAGER = "kubernetes.io/job-controller"
BURST = 500
"""Pods created, deleted or counted in one look."""


@dataclass(slots=True)
class Plan:
    """`status` as it should be read once create, delete and discard are done; to be written before `untrack`.

    `create` are pods; `delete` ends pods that will be counted, `discard` those that shall not be (their finalizer goes
    first); `untrack` have been counted. `events` are (type, reason, message), told when the status has been written.
    `wake` is when to look again in seconds. `backoff` is to be given to the next look.
    """

    status: Obj
    create: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    discard: list[Obj] = field(default_factory=list)
    untrack: list[Obj] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    wake: float | None = None
    backoff: Backoff | None = None


def is_finished(job: Obj) -> bool:
    """It is Complete or Failed for good."""
    return any(conditions.status_of(job, kind) == "True" for kind in ("Complete", "Failed"))


def is_ours(job: Obj) -> bool:
    """No other controller was named for it."""
    return (job["spec"].get("managedBy") or MANAGER) == MANAGER


def plan(job: Obj, pods: Sequence[Obj], now: datetime, backoff: Backoff | None = None) -> Plan:
    """One step for a job that is ours. `pods` are all pods it controls, `backoff` is what the last look left (None:
    there was none, and what the pods tell has to do)."""
    if is_finished(job):
        return Plan(dict(job.get("status") or {}), untrack=[pod for pod in pods if is_tracked(pod)])
    seen = Observed(job, pods)
    made = Plan({}, backoff=policy.follow(backoff, job, [pod for pod in pods if seen.index_is_valid(pod)]))
    found: list[Obj] = list((job.get("status") or {}).get("conditions") or ())
    started = (job.get("status") or {}).get("startTime")
    suspended = bool(job["spec"].get("suspend"))
    if started is None and (pods or not suspended):
        # Pods tell of a start that nobody noted, as when a controller died: a job that ends must have one.
        started = format_time(now)
    verdict = ending.verdict(seen, found, started, now)
    if verdict is not None:
        made.delete = seen.active[:BURST]
    elif is_terminating(job):
        verdict = ending.completion(seen, now)
    else:
        _manage(seen, now, made)
        verdict = ending.completion(seen, now)
        if verdict is None:
            found, changed = ending.suspension(found, suspended, now)
            if changed:
                made.events.append(("Normal", changed, f"Job {changed.lower()}"))
            if changed == "Resumed":
                started = format_time(now)
        _wake_at_deadline(seen, started, now, made)
    uncounted, held = _count(seen, made, verdict)
    if verdict is not None:
        if conditions.find(found, verdict["type"]) is None:
            found = [*found, verdict]
        ready_to_end = not seen.active and not seen.terminating and not held and not any(uncounted.values())
        if ready_to_end and not made.untrack:
            last, told = ending.final(seen, verdict, now)
            found.append(last)
            made.events += told
    if verdict is not None and started is None:
        started = format_time(now)  # with nothing to do it may end while it is suspended
    made.status = _status(seen, made, found, started, uncounted)
    if verdict is not None and conditions.find(found, "Complete"):
        made.status["completionTime"] = format_time(now)
    return made


def _manage(seen: Observed, now: datetime, made: Plan) -> None:
    """Pods to make or to take away; never both in one look."""
    active, parallelism = len(seen.active), seen.spec.get("parallelism", 1)
    if seen.spec.get("suspend"):
        wanted = 0
    elif seen.completions is None:
        # After the first success what runs may end by itself, whatever parallelism says by now.
        wanted = active if seen.succeeded else parallelism
    else:
        wanted = max(min(seen.completions - seen.succeeded - len(seen.lost), parallelism), 0)
    made.discard = _surplus(seen, active - wanted)[:BURST]
    room = wanted - active - (len(seen.terminating) if policy.only_failed(seen.job) else 0)
    if made.discard or room <= 0:
        return
    if seen.per_index is None and made.backoff is not None:
        wait = policy.delay(made.backoff.failures, made.backoff.last, now)
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


def _surplus(seen: Observed, count: int) -> list[Obj]:
    """Active pods of invalid, finished or doubled indexes, and then as many as are too many."""
    order = podstate.active_order(seen.active)
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


def _pending(seen: Observed, predecessors: dict[int, Obj], now: datetime, made: Plan) -> Iterable[int]:
    """Indexes that want a pod now, from the lowest."""
    taken = {index_of(pod) for pod in seen.active} | seen.done | seen.lost
    if policy.only_failed(seen.job):
        taken |= {index_of(pod) for pod in seen.terminating}
    for index in range(seen.completions or 0):
        if index in taken:
            continue
        last = predecessors.get(index)
        wait = policy.delay(failures_of(last) + 1, policy.finished_at(last), now) if last else 0.0
        if wait > 0:
            _wake(made, wait)
        else:
            yield index


def _wake(made: Plan, seconds: float) -> None:
    made.wake = seconds if made.wake is None else min(made.wake, seconds)


def _wake_at_deadline(seen: Observed, started: str | None, now: datetime, made: Plan) -> None:
    deadline = seen.spec.get("activeDeadlineSeconds")
    if deadline is not None and started and not seen.spec.get("suspend"):
        _wake(made, max((parse_time(started) + timedelta(seconds=deadline) - now).total_seconds(), 0.001))


def _count(seen: Observed, made: Plan, verdict: Obj | None) -> tuple[dict[str, list[str]], int]:
    """Fills `untrack`; answers what is uncounted, and how many pods still hold their finalizer for the next look.

    Once every pod of a job that ends is on its way out, none is waited for: those of a job that fails count as failed,
    those that a success made superfluous do not count.
    """
    closing = verdict is not None and not seen.active
    fails = closing and verdict is not None and verdict["type"] == "FailureTarget"
    succeeds = verdict is not None and not fails and verdict["type"] == "SuccessCriteriaMet"
    letting_go = closing or is_terminating(seen.job)
    succeeded, failed = list(seen.uncounted_ok), list(seen.uncounted_bad)
    new_ok, new_bad = set(map(uid, seen.new_ok)), set(map(uid, seen.new_bad))
    failures = set(map(uid, seen.failed_pods))
    predecessors = {} if verdict is not None else seen.awaiting()
    delayed = set(map(uid, predecessors.values()))
    held = 0
    for pod in seen.pods:
        if not is_tracked(pod):
            continue
        one = uid(pod)
        over = one in failures or podstate.phase(pod) == "Succeeded"
        if not letting_go and (not over or one in delayed):
            held += 1
            continue
        if len(made.untrack) >= BURST:
            held += 1
            continue
        if one in new_ok:
            if not seen.indexed:
                succeeded.append(one)
        elif one in new_bad:
            if podstate.phase(pod) == "Failed" or not succeeds:
                failed.append(one)
        elif fails and not over and one not in seen.known_bad and _counts(seen, pod):
            failed.append(one)
        made.untrack.append(pod)
    uncounted = {}
    if succeeded:
        uncounted["succeeded"] = succeeded
    if failed:
        uncounted["failed"] = failed
    return uncounted, held


def _counts(seen: Observed, pod: Obj) -> bool:
    return seen.index_is_valid(pod) and policy.match_failure(seen.job, pod)[0] != "Ignore"


def _status(
    seen: Observed, made: Plan, found: Sequence[Obj], started: str | None, uncounted: dict[str, list[str]]
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
