"""What keeps a workload from having its pods: who refuses them, its own state, and its pods that are not well. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from orca.api.durations import format_duration
from orca.api.objects import Obj, controller_of, finalizers, is_terminating, labels, meta, name, namespace, uid
from orca.api.podphase import is_finished
from orca.api.times import parse_time
from orca.explain.why import events
from orca.explain.why.findings import Explanation, Finding, World
from orca.explain.why.placement import judge
from orca.explain.why.refusals import explain_refusals
from orca.explain.why.waiting import explain_pod

SHOWN = 5
_NUMBERS = re.compile(r"\d+[\w.:]*")
_BAD = {
    "Failed": "True",
    "Progressing": "False",
    "FailureTarget": "True",
}
_DAEMON_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{taint}", "operator": "Exists"}
    for taint in (
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    )
]


def tree(owner: Obj, objects: Sequence[Obj]) -> list[Obj]:
    """Everything that an object owns, over any number of steps."""
    found, known = [], {uid(owner)}
    grown = True
    while grown:
        grown = False
        for one in objects:
            reference = controller_of(one)
            if reference is not None and reference["uid"] in known and uid(one) not in known:
                known.add(uid(one))
                found.append(one)
                grown = True
    return found


def explain_workload(owner: Obj, owned: Sequence[Obj], world: World, now: datetime) -> Explanation:
    """``owned`` is its tree, pods among it."""
    kind = str(owner["kind"])
    if kind == "CronJob":
        owned = _newest_job(owner, owned)
    pods = [one for one in owned if one["kind"] == "Pod"]
    below, alike = _pods(kind, pods, world, now)
    findings = [*_own_state(owner, pods, world, now), *_refused(owner, owned, pods, world, now)]
    for one in (owner, *(other for other in owned if other["kind"] != "Pod")):
        known = {finding.says for finding in findings}
        findings += [told for told in _conditions(one, owner, below) if told.says not in known]
    if kind == "StatefulSet":
        findings += _next_ordinal(owner, pods, below)
    placement = None
    if kind == "DaemonSet" and not (owner.get("status") or {}).get("desiredNumberScheduled") and not pods:
        placement = judge(_daemon(owner), world)
    if not findings and not below and placement is None:
        findings += _missing(owner, owned, pods, now)
    if alike:
        verb = "more of its pods are" if alike > 1 else "more of its pods is"
        findings.append(Finding(f"{alike} {verb} in the same way, or not shown", follows=True))
    return Explanation(f"{kind.lower()}/{name(owner)}", _state(owner, pods), tuple(findings), placement, tuple(below))


def _pods(kind: str, pods: Sequence[Obj], world: World, now: datetime) -> tuple[list[Explanation], int]:
    """Those that are not well, alike ones once; how many are not shown. What is serious comes first."""
    told = []
    for pod in sorted(pods, key=lambda one: str(meta(one).get("creationTimestamp")), reverse=True):
        if is_terminating(pod) and kind != "StatefulSet" and len(pods) > 1 and not _is_stuck(pod, now):
            continue
        one = explain_pod(pod, world, now)
        if not one.is_well:
            told.append(one)
    below: list[Explanation] = []
    seen: set[tuple[str, ...]] = set()
    for one in sorted(told, key=lambda one: one.waits):
        # Names, addresses, counts and times of their own make no difference.
        called = one.title.partition("/")[2]
        marks = tuple(
            _NUMBERS.sub("", text.replace(called, ""))
            for text in (one.state.partition(" on ")[0], *(finding.says for finding in one.findings))
        )
        if marks not in seen and len(below) < SHOWN:
            seen.add(marks)
            below.append(one)
    return below, len(told) - len(below)


def _is_stuck(pod: Obj, now: datetime) -> bool:
    return bool(finalizers(pod)) or parse_time(meta(pod)["deletionTimestamp"]) < now


def _newest_job(owner: Obj, owned: Sequence[Obj]) -> list[Obj]:
    """Of a CronJob only what runs and what ran last: what failed before that is past."""
    active = {one.get("uid") for one in (owner.get("status") or {}).get("active") or ()}
    jobs = sorted((one for one in owned if one["kind"] == "Job"), key=lambda one: str(meta(one)["creationTimestamp"]))
    kept = [one for one in jobs if uid(one) in active or one is jobs[-1]]
    return [*kept, *(found for job in kept for found in tree(job, [one for one in owned if one["kind"] == "Pod"]))]


def _own_state(owner: Obj, pods: Sequence[Obj], world: World, now: datetime) -> Iterator[Finding]:
    kind, spec, status = owner["kind"].lower(), owner.get("spec") or {}, owner.get("status") or {}
    if is_terminating(owner):
        kept = ", ".join(finalizers(owner))
        yield Finding(f"it is being deleted{f', held by {kept}' if kept else ''}", waits=True)
    if spec.get("paused"):
        yield Finding("its rollout is paused", f"kubectl rollout resume {kind}/{name(owner)}")
    if spec.get("suspend"):
        fix = f'kubectl patch {kind} {name(owner)} -p \'{{"spec":{{"suspend":false}}}}\''
        yield Finding("it is suspended", fix)
    if spec.get("replicas") == 0 and kind != "cronjob":
        yield Finding("it is scaled to 0", f"kubectl scale {kind}/{name(owner)} --replicas=1")
    seen = status.get("observedGeneration")
    # Jobs and CronJobs do not say how far they have been looked at.
    if kind not in ("job", "cronjob") and (seen or 0) < meta(owner).get("generation", 0):
        silent = events.since(world.leader_renewed, now)
        if world.leader_renewed is not None and silent > 30:
            says = f"no controller works: none has renewed its lease for {format_duration(int(silent))}"
            yield Finding(says, "start orca server, without --no-controllers")
        else:
            yield Finding("its controller has not looked at its last change yet", waits=True)


def _refused(owner: Obj, owned: Sequence[Obj], pods: Sequence[Obj], world: World, now: datetime) -> Iterator[Finding]:
    """Only while pods are missing: what was refused once and is there now is past."""
    makers = [owner, *(one for one in owned if one["kind"] != "Pod")]
    wanted = _wanted(owner)
    active = sum(1 for pod in pods if not is_terminating(pod) and not is_finished(pod))
    if wanted is None or active < wanted or owner["kind"] in ("Job", "CronJob", "DaemonSet"):
        yield from explain_refusals(makers, world, now)
    else:
        failing = (one for one in makers if _has_failure(one))
        yield from explain_refusals(list(failing), world, now)


def _has_failure(maker: Obj) -> bool:
    return _is_true(maker, "ReplicaFailure")


def _conditions(obj: Obj, owner: Obj, below: Sequence[Explanation]) -> Iterator[Finding]:
    for one in (obj.get("status") or {}).get("conditions") or ():
        # A Job has failed once what was found to fail it (FailureTarget) is over with.
        if one.get("type") == "FailureTarget" and _is_true(obj, "Failed"):
            continue
        if _BAD.get(one.get("type")) != one.get("status"):
            continue
        says = f"{one.get('reason') or one['type']}: {one.get('message') or ''}"
        if obj is not owner:
            says = f"{obj['kind'].lower()}/{name(obj)}: {says}"
        follows = one["type"] == "Progressing" or one.get("reason") in ("BackoffLimitExceeded", "PodFailurePolicy")
        yield Finding(says, follows=follows and bool(below))


def _is_true(obj: Obj, kind: str) -> bool:
    listed = (obj.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == kind and one.get("status") == "True" for one in listed)


def _next_ordinal(owner: Obj, pods: Sequence[Obj], below: Sequence[Explanation]) -> Iterator[Finding]:
    """Ordered sets make a pod only when the one before is ready."""
    spec = owner.get("spec") or {}
    if spec.get("podManagementPolicy") == "Parallel":
        return
    start = int((spec.get("ordinals") or {}).get("start") or 0)
    there = {name(pod) for pod in pods}
    names = [f"{name(owner)}-{number}" for number in range(start, start + int(spec.get("replicas", 1)))]
    missing = [one for one in names if one not in there]
    waited = next((one.title for one in below if one.title.startswith("pod/")), "")
    if missing and waited:
        rest = f" ({len(missing) - 1} more after it)" if len(missing) > 1 else ""
        yield Finding(f"pod {missing[0]} is made when {waited} is ready{rest}", waits=True, follows=True)


def _daemon(owner: Obj) -> Obj:
    """A pod of a DaemonSet as it would be made for any node."""
    template = (owner.get("spec") or {}).get("template") or {}
    spec = {**(template.get("spec") or {})}
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *_DAEMON_TOLERATIONS]
    return {
        "metadata": {"name": name(owner), "namespace": namespace(owner), "uid": uid(owner), "labels": labels(template)},
        "spec": spec,
    }


def _missing(owner: Obj, owned: Sequence[Obj], pods: Sequence[Obj], now: datetime) -> Iterator[Finding]:
    wanted = _wanted(owner)
    if wanted is None or owner["kind"] in ("Job", "CronJob"):
        return
    active = sum(1 for pod in pods if not is_terminating(pod) and not is_finished(pod))
    if active < wanted:
        yield Finding(f"{wanted - active} of its pods are still to be made", waits=True)
        return
    least = (owner.get("spec") or {}).get("minReadySeconds") or 0
    available = (owner.get("status") or {}).get("availableReplicas", (owner.get("status") or {}).get("numberAvailable"))
    if least and (available or 0) < wanted:
        yield Finding(f"its pods are ready, and count as available after minReadySeconds ({least} s)", waits=True)


def _wanted(owner: Obj) -> int | None:
    spec, status = owner.get("spec") or {}, owner.get("status") or {}
    found = spec.get("replicas", status.get("desiredNumberScheduled", spec.get("completions")))
    if found is None and owner["kind"] in ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"):
        return 1
    return found


def _state(owner: Obj, pods: Sequence[Obj]) -> str:
    status, wanted = owner.get("status") or {}, _wanted(owner)
    ready = status.get("readyReplicas", status.get("numberReady", status.get("ready"))) or 0
    if owner["kind"] == "Job":
        done = next((one for one in status.get("conditions") or () if one.get("status") == "True"), None)
        said = f", {done['type'].lower()}" if done and done["type"] in ("Complete", "Failed", "Suspended") else ""
        return f"{status.get('succeeded', 0)} of {wanted} completed{said}, {len(pods)} pods"
    return f"{ready} of {wanted} pods ready" if wanted is not None else f"{len(pods)} pods"
