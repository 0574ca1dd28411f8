"""One pod: why it has no node, what it waits for when it has one, what holds it when it is to go. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orca.api.durations import format_duration
from orca.api.objects import Obj, is_terminating, meta, name
from orca.explain.why import events
from orca.explain.why.claims import explain_claims
from orca.explain.why.containers import explain_containers
from orca.explain.why.ending import explain_ending, explain_over
from orca.explain.why.findings import Explanation, Finding, World
from orca.explain.why.nodes import is_ready, lost, node_of
from orca.explain.why.placement import judge
from orca.scheduler.profile import DEFAULT, DEFAULT_NAME, Profile

_LATER = (
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "FailedCreatePodSandBox",
    "NetworkNotReady",
    "FailedCreatePodContainer",
    "FailedSync",
)
_FIXES = {
    "FailedMount": "make what the volume names, or correct it",
    "FailedAttachVolume": "see that no other node holds the volume",
}
_LEADER_SECONDS = 30.0


def explain_pod(pod: Obj, world: World, now: datetime) -> Explanation:
    """Of one pod: nothing in the way, or what."""
    status = pod.get("status") or {}
    phase = str(status.get("phase") or "Pending")
    title = f"pod/{name(pod)}"
    if is_terminating(pod):
        where = f", on {pod['spec']['nodeName']}" if pod["spec"].get("nodeName") else ""
        return Explanation(title, f"is being deleted{where}", tuple(explain_ending(pod, world, now)))
    if phase in ("Succeeded", "Failed"):
        return Explanation(title, f"is over: {phase}", tuple(explain_over(pod, world)))
    if not pod["spec"].get("nodeName"):
        return _unplaced(pod, world, now, title)
    where = f"{phase} on {pod['spec']['nodeName']}"
    node = node_of(pod, world)
    if _is_true(status, "Ready") and (node is None or is_ready(node)):
        return Explanation(title, f"{where}, ready")
    findings = tuple(_not_ready(pod, node, world, now))
    return Explanation(title, f"{where}, not ready", findings or (_silent(pod, node, now),))


def _unplaced(pod: Obj, world: World, now: datetime, title: str) -> Explanation:
    spec = pod["spec"]
    gates = [one["name"] for one in spec.get("schedulingGates") or ()]
    if gates:
        told = f"scheduling is gated by {', '.join(gates)}"
        return Explanation(title, "has no node", (Finding(told, "whoever set the gates has to take them away"),))
    scheduler = spec.get("schedulerName") or DEFAULT_NAME
    profile = _profile(world, scheduler)
    if profile is None:
        served = ", ".join(sorted(world.profiles or ())) or DEFAULT_NAME
        told = f"no scheduler of this cluster answers to its schedulerName {scheduler!r} (there are: {served})"
        last = tuple(_told(world, pod, now, ("FailedScheduling",)))
        if world.profiles is None:
            told = f"it is left to the scheduler {scheduler!r}, whose rules cannot be read"
        fix = "" if last else f"run that scheduler, or use one of: {served}"
        return Explanation(title, "has no node", (Finding(told, fix), *last))
    if set(world.unread) - {"events", "profiles"}:
        # By half of the facts a pod seems to fit where it does not, or to lack a claim that is there.
        told = f"not allowed to read: {', '.join(one for one in world.unread if one != 'profiles')}"
        last = tuple(_told(world, pod, now, ("FailedScheduling",)))
        return Explanation(title, "has no node", (Finding(told, "ask with more rights"), *last))
    placement = judge(pod, world, profile, world.siblings.get(str(meta(pod).get("uid"))))
    claims = tuple(one for one in explain_claims(pod, world, now) if placement.whole or not one.waits)
    findings = list(claims or placement.whole)
    if placement.fits:
        findings.append(_about_to_be(pod, world, now, placement.fits, profile))
    nominated = (pod.get("status") or {}).get("nominatedNodeName")
    if nominated:
        findings.append(Finding(f"room is being made on {nominated} by ending pods of lower priority", waits=True))
    return Explanation(title, "has no node", tuple(findings), placement)


def _profile(world: World, scheduler: str) -> Profile | None:
    if world.profiles is not None:
        return world.profiles.get(scheduler)
    return DEFAULT if scheduler == DEFAULT_NAME else None


def _about_to_be(pod: Obj, world: World, now: datetime, fits: tuple[str, ...], profile: Profile) -> Finding:
    rules = "the scheduler's default rules" if world.profiles is None else f"the rules of {profile.name}"
    says = f"{', '.join(fits)} would take it now by {rules}"
    silent = events.since(world.leader_renewed, now)
    waited = events.since(meta(pod).get("creationTimestamp"), now)
    if world.leader_renewed is not None and silent > _LEADER_SECONDS:
        says += f", but no scheduler works: none has renewed its lease for {format_duration(int(silent))}"
        return Finding(says, "start orca server, without --no-controllers", _last_verdict(pod))
    return Finding(f"{says}: it is about to be placed", details=_last_verdict(pod), waits=waited < 600)


def _last_verdict(pod: Obj) -> tuple[str, ...]:
    """What the scheduler said when it found no node: the cluster was another then, or its profile has other rules."""
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False" and one.get("message"):
            return (f"the scheduler said at {one.get('lastTransitionTime') or 'some time'}: {one['message']}",)
    return ()


def _not_ready(pod: Obj, node: Obj | None, world: World, now: datetime) -> Iterator[Finding]:
    status = pod.get("status") or {}
    if node is not None and not is_ready(node):
        yield lost(pod, node, now)
        if _is_true(status, "Ready") or any(one.get("started") for one in status.get("containerStatuses") or ()):
            return  # what its containers did when the host was last heard of explains nothing
    if not _is_true(status, "PodReadyToStartContainers") or not status.get("containerStatuses"):
        yield from explain_claims(pod, world, now)
    trouble = list(_told(world, pod, now, _LATER)) if _is_being_made(status) else []
    yield from trouble
    told = list(explain_containers(pod, world, now))
    # That its containers are being made says nothing beside what keeps them from being made.
    yield from (one for one in told if not (trouble and one.waits))
    for gate in pod["spec"].get("readinessGates") or ():
        if not _is_true(status, gate["conditionType"]):
            says = f"the readiness gate {gate['conditionType']} is not true"
            yield Finding(says, "whoever owns the gate has to set it")


def _is_being_made(status: Obj) -> bool:
    """Trouble with volumes and sandboxes is over once a container has started."""
    listed = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return not listed or any(
        ((one.get("state") or {}).get("waiting") or {}).get("reason") in ("ContainerCreating", "PodInitializing")
        for one in listed
    )


def _silent(pod: Obj, node: Obj | None, now: datetime) -> Finding:
    """Bound, and its host has said nothing of it."""
    bound = next(
        (
            one.get("lastTransitionTime")
            for one in (pod.get("status") or {}).get("conditions") or ()
            if one.get("type") == "PodScheduled"
        ),
        None,
    )
    waited, where = events.since(bound, now), pod["spec"]["nodeName"]
    if node is None:
        return Finding(f"there is no node {where}: nobody runs it", "delete the pod, or join that host")
    if waited > 30:
        says = f"its host {where} has said nothing of it for {format_duration(int(waited))}"
        return Finding(says, f"see the log of the agent on {where}")
    return Finding(f"its host {where} has said nothing of it yet", waits=True)


def _told(world: World, pod: Obj, now: datetime, reasons: tuple[str, ...]) -> Iterator[Finding]:
    """The newest event of each reason, oldest first."""
    for event in events.last_each(events.of(world, pod, reasons)):
        says = f"{event['reason']}: {events.text(event)}{events.ago(event, now)}"
        yield Finding(says, _FIXES.get(event["reason"], ""))


def _is_true(status: Obj, kind: str) -> bool:
    return any(one.get("type") == kind and one.get("status") == "True" for one in status.get("conditions") or ())
