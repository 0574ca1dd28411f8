"""What keeps a workload from having its pods: its conditions, and its pods that are not well, alike ones once. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from orca.api.objects import Obj, controller_of, is_terminating, meta, name, uid
from orca.explain.why.findings import Explanation, Finding, World
from orca.explain.why.waiting import explain_pod

SHOWN = 5
_BAD = {
    "ReplicaFailure": "True",
    "Failed": "True",
    "Progressing": "False",
    "Suspended": "True",
    "FailureTarget": "True",
}


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
    findings = list(_conditions(owner))
    for between in owned:
        if between["kind"] != "Pod":
            findings += [one for one in _conditions(between) if one.says not in {known.says for known in findings}]
    spec = owner.get("spec") or {}
    if spec.get("paused"):
        findings.append(Finding("its rollout is paused", f"kubectl rollout resume {kind.lower()}/{name(owner)}"))
    if spec.get("suspend"):
        findings.append(Finding("it is suspended", "set spec.suspend to false"))
    pods = [one for one in owned if one["kind"] == "Pod"]
    below: list[Explanation] = []
    alike = 0
    seen: set[tuple[str, ...]] = set()
    for pod in sorted(pods, key=lambda one: str(meta(one).get("creationTimestamp")), reverse=True):
        if is_terminating(pod) and len(pods) > 1:
            continue
        told = explain_pod(pod, world, now)
        if told.is_well:
            continue
        marks = (told.state, *(one.says for one in told.findings))
        if marks in seen or len(below) == SHOWN:
            alike += 1
            continue
        seen.add(marks)
        below.append(told)
    if alike:
        findings.append(Finding(f"{alike} more of its pods are in the same way, or not shown"))
    return Explanation(f"{kind.lower()}/{name(owner)}", _state(owner, pods), tuple(findings), None, tuple(below))


def _conditions(obj: Obj) -> Iterator[Finding]:
    for one in (obj.get("status") or {}).get("conditions") or ():
        if _BAD.get(one.get("type")) == one.get("status"):
            yield Finding(
                f"{obj['kind'].lower()}/{name(obj)}: {one.get('reason') or one['type']}: {one.get('message') or ''}"
            )


def _state(owner: Obj, pods: Sequence[Obj]) -> str:
    spec, status = owner.get("spec") or {}, owner.get("status") or {}
    wanted = spec.get("replicas", status.get("desiredNumberScheduled", spec.get("completions")))
    ready = status.get("readyReplicas", status.get("numberReady", status.get("ready"))) or 0
    if owner["kind"] == "Job":
        return f"{status.get('succeeded', 0)} of {wanted} completed, {len(pods)} pods"
    return f"{ready} of {wanted} pods ready" if wanted is not None else f"{len(pods)} pods"
