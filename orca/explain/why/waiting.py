"""What a pod that has a node waits for: volumes, images, init containers, a crash's back-off, probes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from orca.api.objects import Obj, is_terminating, meta, name
from orca.api.times import parse_time
from orca.explain.why.findings import Explanation, Finding, World
from orca.explain.why.placement import judge

DEFAULT_SCHEDULER = "default-scheduler"
_LATER = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "NetworkNotReady", "FailedCreatePodContainer")
_IMAGE = "check the image's name and the pull secret; without a registry, load the image into the host"
_FIXES = {
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "ErrImageNeverPull": "load the image into the host, or change imagePullPolicy",
    "InvalidImageName": "correct the image's name",
    "CreateContainerConfigError": "make the ConfigMap or Secret that it names, or the key in it",
    "CreateContainerError": "see the message",
    "RunContainerError": "correct the command, or what the message names",
}


def explain_pod(pod: Obj, world: World, now: datetime) -> Explanation:
    """Of one pod: nothing in the way, or what."""
    status = pod.get("status") or {}
    phase = str(status.get("phase") or "Pending")
    title = f"pod/{name(pod)}"
    if is_terminating(pod):
        return Explanation(title, "is being deleted", tuple(_ending(pod, world, now)))
    if phase in ("Succeeded", "Failed"):
        return Explanation(title, f"is over: {phase}", tuple(_over(pod)))
    if not pod["spec"].get("nodeName"):
        return _unplaced(pod, world, title)
    where = f"{phase} on {pod['spec']['nodeName']}"
    if _is_true(status, "Ready"):
        return Explanation(title, f"{where}, ready")
    findings = tuple(_not_ready(pod, world, now))
    return Explanation(title, f"{where}, not ready", findings or (Finding("nothing is said yet", waits=True),))


def _unplaced(pod: Obj, world: World, title: str) -> Explanation:
    spec = pod["spec"]
    gates = [one["name"] for one in spec.get("schedulingGates") or ()]
    if gates:
        told = f"scheduling is gated by {', '.join(gates)}"
        return Explanation(title, "has no node", (Finding(told, "whoever set the gates has to take them away"),))
    scheduler = spec.get("schedulerName") or DEFAULT_SCHEDULER
    if scheduler != DEFAULT_SCHEDULER:
        told = f"it is left to the scheduler {scheduler!r}"
        last = tuple(_told(world, pod, ("FailedScheduling",)))
        fix = "" if last else f"run that scheduler, or use {DEFAULT_SCHEDULER}"
        return Explanation(title, "has no node", (Finding(told, fix), *last))
    if set(world.unread) - {"events"}:
        # By half of the facts a pod seems to fit where it does not, or to lack a claim that is there.
        told = f"not allowed to read: {', '.join(world.unread)}"
        last = tuple(_told(world, pod, ("FailedScheduling",)))
        return Explanation(title, "has no node", (Finding(told, "ask with more rights"), *last))
    placement = judge(pod, world)
    findings = list(placement.whole)
    if placement.fits:
        says = (
            f"{', '.join(placement.fits)} would take it now by the scheduler's default rules: it is about to be placed"
        )
        findings.append(Finding(says, details=_last_verdict(pod), waits=True))
    nominated = (pod.get("status") or {}).get("nominatedNodeName")
    if nominated:
        findings.append(Finding(f"room is being made on {nominated} by ending pods of lower priority", waits=True))
    return Explanation(title, "has no node", tuple(findings), placement)


def _last_verdict(pod: Obj) -> tuple[str, ...]:
    """What the scheduler said when it found no node: the cluster was another then, or its profile has other rules."""
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False" and one.get("message"):
            return (f"the scheduler said at {one.get('lastTransitionTime') or 'some time'}: {one['message']}",)
    return ()


def _ending(pod: Obj, world: World, now: datetime) -> Iterator[Finding]:
    since = parse_time(meta(pod)["deletionTimestamp"])
    left = (since - now).total_seconds()
    if left > 0:
        yield Finding(f"its containers have {left:.0f} s left to end", waits=True)
        return
    finalizers = meta(pod).get("finalizers") or ()
    if finalizers:
        yield Finding(f"finalizers: {', '.join(finalizers)}", "whoever set them has to take them away")
    node = next((one for one in world.nodes if name(one) == pod["spec"].get("nodeName")), None)
    if node is not None and not _is_true(node.get("status") or {}, "Ready"):
        fix = f"bring the host back, or: kubectl delete pod {name(pod)} --force --grace-period=0"
        yield Finding(f"its node {name(node)} is not ready, so nobody can say that it has ended", fix)
    elif not finalizers:
        yield from _told(world, pod, ("FailedKillPod", "ExceededGracePeriod"))


def _over(pod: Obj) -> Iterator[Finding]:
    status = pod.get("status") or {}
    if status.get("phase") != "Failed":
        return
    if status.get("reason") or status.get("message"):
        yield Finding(f"{status.get('reason') or 'Failed'}: {status.get('message') or ''}".rstrip(": "))
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            yield Finding(
                f"container {container['name']} {_end(ended)}", f"kubectl logs {name(pod)} -c {container['name']}"
            )


def _not_ready(pod: Obj, world: World, now: datetime) -> Iterator[Finding]:
    status = pod.get("status") or {}
    node = next((one for one in world.nodes if name(one) == pod["spec"]["nodeName"]), None)
    if node is not None and not _is_true(node.get("status") or {}, "Ready"):
        yield Finding(
            f"its node {name(node)} is not ready",
            "see kubectl describe node; the pod moves when its toleration is over",
        )
    yield from _told(world, pod, _LATER)
    init, main = status.get("initContainerStatuses") or (), status.get("containerStatuses") or ()
    for place, one in enumerate(init, 1):
        if not _initialized(pod, one):
            yield from _container(pod, one, world, now, f"init container {place} of {len(init)}, {one['name']}")
            return
    for one in main:
        if not one.get("ready"):
            yield from _container(pod, one, world, now, f"container {one['name']}")
    for gate in pod["spec"].get("readinessGates") or ():
        if not _is_true(status, gate["conditionType"]):
            yield Finding(
                f"the readiness gate {gate['conditionType']} is not true", "whoever owns the gate has to set it"
            )


def _initialized(pod: Obj, one: Obj) -> bool:
    spec: Obj = next((c for c in pod["spec"].get("initContainers") or () if c["name"] == one["name"]), {})
    if spec.get("restartPolicy") == "Always":
        return bool(one.get("started"))
    return ((one.get("state") or {}).get("terminated") or {}).get("exitCode") == 0


def _container(pod: Obj, one: Obj, world: World, now: datetime, called: str) -> Iterator[Finding]:
    state = one.get("state") or {}
    if waiting := state.get("waiting"):
        reason, message = waiting.get("reason") or "", waiting.get("message") or ""
        if reason in ("ContainerCreating", "PodInitializing"):
            pulling = [text.says for text in _told(world, pod, ("Pulling",))] if not message else [message]
            yield Finding(f"{called} is being made{f': {pulling[-1]}' if pulling else ''}", waits=True)
        elif reason == "CrashLoopBackOff":
            yield _crashed(pod, one, world, called, message)
        else:
            yield Finding(f"{called}: {reason}: {message}".rstrip(": "), _FIXES.get(reason, ""))
    elif ended := state.get("terminated"):
        yield Finding(
            f"{called} {_end(ended)}", f"kubectl logs {name(pod)} -c {one['name']}", _printed(pod, one, world)
        )
    else:
        probes = list(_told(world, pod, ("Unhealthy",), field=one["name"]))
        if probes:
            yield Finding(f"{called} runs and is not ready", "see what the probe asks for", (probes[-1].says,))
        elif "init" in called:
            yield Finding(f"{called} runs", waits=True)
        else:
            yield Finding(f"{called} runs and its probe has not passed yet", waits=True)


def _crashed(pod: Obj, one: Obj, world: World, called: str, message: str) -> Finding:
    ended = (one.get("lastState") or {}).get("terminated") or {}
    says = f"{called} {_end(ended)}, {one.get('restartCount', 0)} restarts so far; {message}"
    fix = (
        "raise its memory limit"
        if ended.get("reason") == "OOMKilled"
        else f"kubectl logs {name(pod)} -c {one['name']} --previous"
    )
    return Finding(says, fix, _printed(pod, one, world))


def _printed(pod: Obj, one: Obj, world: World) -> tuple[str, ...]:
    text = world.logs.get((name(pod), one["name"]), "")
    return tuple(f"it printed: {line}" for line in text.strip().splitlines()[-3:])


def _end(ended: Obj) -> str:
    text = f"ended with exit code {ended.get('exitCode', '?')}"
    if ended.get("reason") not in (None, "Error", "Completed"):
        text += f" ({ended['reason']})"
    return f"{text}: {ended['message'].strip()}" if ended.get("message") else text


def _told(world: World, pod: Obj, reasons: Collection[str], *, field: str = "") -> Iterator[Finding]:
    """The newest event of each reason, oldest first."""
    newest: dict[str, Obj] = {}
    for event in sorted(world.events, key=_when):
        about = event.get("involvedObject") or {}
        if about.get("uid") != meta(pod).get("uid") or event.get("reason") not in reasons:
            continue
        if field and f"{{{field}}}" not in (about.get("fieldPath") or ""):
            continue
        newest[event["reason"]] = event
    for reason, event in newest.items():
        yield Finding(f"{reason}: {event.get('message') or ''}", waits=reason == "Pulling")


def _when(event: Obj) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or meta(event).get("creationTimestamp") or "")


def _is_true(status: Obj, kind: str) -> bool:
    return any(one.get("type") == kind and one.get("status") == "True" for one in status.get("conditions") or ())
