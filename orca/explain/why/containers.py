"""What the containers of a pod wait for, in the order in which they start: images, crashes, probes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from orca.api.durations import format_duration, parse_duration
from orca.api.objects import Obj, name
from orca.api.times import format_time, parse_time
from orca.explain.why import events
from orca.explain.why.findings import Finding, World

_IMAGE = "check the image's name and the pull secret; without a registry, load the image into the host"
_FIXES = {
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "RegistryUnavailable": "the registry does not answer: see that the host reaches it",
    "ErrImageNeverPull": "load the image into the host, or change imagePullPolicy",
    "InvalidImageName": "correct the image's name",
    "CreateContainerConfigError": "make the ConfigMap or Secret that it names, or the key in it",
    "CreateContainerError": "correct what the message names",
    "RunContainerError": "correct the command, or what the message names",
    "PostStartHookError": "correct the postStart hook",
}
_PULLING = (
    (
        ("dial tcp", "no such host", "i/o timeout", "Client.Timeout", "connection refused"),
        "the host does not reach the registry: let it, or load the image into the host, or correct the image's name",
    ),
    (("unauthorized", "no basic auth", "access denied", "authentication required"), "give the pod a pull secret"),
    (("manifest unknown", "not found"), "the registry has no such image or tag: correct the image's name"),
    (("toomanyrequests",), "the registry lets nobody pull so often: log in, or wait"),
)
_BACK_OFF = re.compile(r"back-off (\S+) restarting")
_PROBES = {"Startup": "startupProbe", "Readiness": "readinessProbe", "Liveness": "livenessProbe"}


def explain_containers(pod: Obj, world: World, now: datetime) -> Iterator[Finding]:
    """Of a pod that has a node. The first init container that is not done hides all that come after it."""
    status, spec = pod.get("status") or {}, pod["spec"]
    told = {one["name"]: one for one in status.get("initContainerStatuses") or ()}
    listed = spec.get("initContainers") or ()
    for place, container in enumerate(listed, 1):
        one = told.get(container["name"])
        sidecar = container.get("restartPolicy") == "Always"
        kind = "sidecar" if sidecar else "init container"
        called = f"{kind} {container['name']} (init container {place} of {len(listed)})"
        if one is not None and not _is_done(one, sidecar=sidecar):
            yield from _one(pod, container, one, world, now, called, initial=True)
            return
    if listed and not told and not status.get("containerStatuses"):
        return
    told |= {one["name"]: one for one in status.get("containerStatuses") or ()}
    sidecars = [one for one in listed if one.get("restartPolicy") == "Always"]
    for container in (*sidecars, *spec.get("containers", ())):
        one = told.get(container["name"])
        if one is not None and not one.get("ready"):
            kind = "sidecar" if container in sidecars else "container"
            yield from _one(pod, container, one, world, now, f"{kind} {container['name']}")


def _is_done(one: Obj, *, sidecar: bool) -> bool:
    if sidecar:
        return bool(one.get("started"))
    return ((one.get("state") or {}).get("terminated") or {}).get("exitCode") == 0


def _one(
    pod: Obj, container: Obj, one: Obj, world: World, now: datetime, called: str, *, initial: bool = False
) -> Iterator[Finding]:
    state = one.get("state") or {}
    if waiting := state.get("waiting"):
        reason, message = waiting.get("reason") or "", waiting.get("message") or ""
        if reason in ("ContainerCreating", "PodInitializing"):
            yield _being_made(pod, one, world, now, called, message)
        elif reason == "CrashLoopBackOff":
            yield _crashed(pod, one, world, now, called, message)
        else:
            yield Finding(f"{called}: {reason}: {message}".rstrip(": "), _fix_of(reason, message))
    elif ended := state.get("terminated"):
        fix = f"kubectl logs {name(pod)} -c {one['name']}"
        yield Finding(f"{called} {end(ended)}{_killed(pod, one, world)}", fix, printed(pod, one, world))
    else:
        yield from _running(pod, container, one, world, now, called, initial=initial)


def _fix_of(reason: str, message: str) -> str:
    """By what the engine or the registry has answered, where that is known."""
    fix = _FIXES.get(reason, "")
    if fix == _IMAGE:
        fix = next((told for words, told in _PULLING if any(word in message for word in words)), fix)
    return fix


def _being_made(pod: Obj, one: Obj, world: World, now: datetime, called: str, message: str) -> Finding:
    """With how far the pull of its image has come, where the host says so."""
    what = message
    pulling = events.newest(world, pod, ("Pulling", "Pulled"), container=one["name"])
    if not what and pulling is not None and pulling.get("reason") == "Pulling":
        what = f"{events.text(pulling)}{events.ago(pulling, now)}"
    return Finding(f"{called} is being made{f': {what}' if what else ''}", waits=True)


def _running(
    pod: Obj, container: Obj, one: Obj, world: World, now: datetime, called: str, *, initial: bool
) -> Iterator[Finding]:
    started = ((one.get("state") or {}).get("running") or {}).get("startedAt")
    age = events.since(started, now)
    restarts = _restarted(pod, one, world)
    waits_for = "startupProbe" if container.get("startupProbe") and not one.get("started") else "readinessProbe"
    probe = container.get(waits_for)
    failed = [
        event
        for event in events.of(world, pod, ("Unhealthy",), container=one["name"])
        if not started or events.when(event) >= started
    ]
    relevant = [event for event in failed if _PROBES.get(events.text(event).partition(" ")[0]) == waits_for]
    if last := (relevant or failed)[-1:]:
        says = f"{called} runs and is not ready: {events.text(last[0])}{events.ago(last[0], now)}{restarts}"
        yield Finding(says, f"make it answer its {waits_for}{_asked(probe)}, or correct the probe")
    elif initial and not (container.get("restartPolicy") == "Always" and probe):
        says = f"{called} runs, for {format_duration(int(age))} now{restarts}"
        yield Finding(says, details=printed(pod, one, world), waits=True)
    elif probe is not None:
        delay = float(probe.get("initialDelaySeconds") or 0) - age
        begins = f"; it is first asked in {delay:.0f} s" if delay > 0 else ""
        says = f"{called} runs and its {waits_for}{_asked(probe)} has not passed yet{begins}{restarts}"
        yield Finding(says, waits=True)
    else:
        yield Finding(f"{called} runs and is about to be ready{restarts}", waits=True)


def _asked(probe: Obj | None) -> str:
    """ " (http-get :8080/healthz)"."""
    if not probe:
        return ""
    if http := probe.get("httpGet"):
        return f" (http-get :{http.get('port')}{http.get('path') or '/'})"
    if tcp := probe.get("tcpSocket"):
        return f" (tcp-socket :{tcp.get('port')})"
    if grpc := probe.get("grpc"):
        return f" (grpc :{grpc.get('port')} {grpc.get('service') or ''})".replace(" )", ")")
    return f" (exec {' '.join((probe.get('exec') or {}).get('command') or ())})"


def _crashed(pod: Obj, one: Obj, world: World, now: datetime, called: str, message: str) -> Finding:
    ended = (one.get("lastState") or {}).get("terminated") or {}
    killed = _killed(pod, one, world)
    again = f"; {message}" if message else ""
    if (found := _BACK_OFF.search(message)) and ended.get("finishedAt"):
        tried = parse_time(ended["finishedAt"]) + timedelta(seconds=parse_duration(found[1]))
        left = max(0, int((tried - now).total_seconds()))
        again = f"; back-off {found[1]}: it is tried again at {format_time(tried)[11:]} (in {format_duration(left)})"
    says = f"{called} {end(ended)}{killed}, {one.get('restartCount', 0)} restarts so far{again}"
    if ended.get("reason") == "OOMKilled":
        fix = "raise its memory limit"
        limit = ((_spec_of(pod, one).get("resources") or {}).get("limits") or {}).get("memory")
        fix += f" (now {limit})" if limit else ""
    elif killed:
        fix = "make it answer the probe, or correct the probe"
    else:
        fix = f"kubectl logs {name(pod)} -c {one['name']} --previous"
    return Finding(says, fix, printed(pod, one, world))


def _spec_of(pod: Obj, one: Obj) -> Obj:
    listed = (*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ()))
    return next((container for container in listed if container["name"] == one["name"]), {})


def _restarted(pod: Obj, one: Obj, world: World) -> str:
    """What ended the run before this one, for a container that was started again."""
    ended = (one.get("lastState") or {}).get("terminated")
    if not ended or not one.get("restartCount"):
        return ""
    return f"; before, it {end(ended)}{_killed(pod, one, world)} ({one['restartCount']} restarts)"


def _killed(pod: Obj, one: Obj, world: World) -> str:
    """ ": its livenessProbe failed: …" when a probe was what ended it."""
    killing = events.newest(world, pod, ("Killing",), container=one["name"])
    said = events.text(killing) if killing is not None else ""
    for kind, field in _PROBES.items():
        if f"failed {kind.lower()} probe" in said:
            unhealthy = [
                events.text(event)
                for event in events.of(world, pod, ("Unhealthy",), container=one["name"])
                if events.text(event).startswith(kind)
            ]
            asked = _asked(_spec_of(pod, one).get(field))
            return f", killed because its {field}{asked} failed{f': {unhealthy[-1]}' if unhealthy else ''}"
    return ""


def printed(pod: Obj, one: Obj, world: World) -> tuple[str, ...]:
    """The end of what its last run printed."""
    text = world.logs.get((name(pod), one["name"]), "")
    return tuple(f"it printed: {line}" for line in text.strip().splitlines()[-3:])


def end(ended: Obj) -> str:
    """How a run ended: exit code, signal, reason, message."""
    text = f"ended with exit code {ended.get('exitCode', '?')}"
    if ended.get("reason") not in (None, "Error", "Completed"):
        text += f" ({ended['reason']})"
    return f"{text}: {ended['message'].strip()}" if ended.get("message") else text
