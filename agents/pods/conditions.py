"""Pod conditions with upstream's types, reasons and messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from agents.pods.sizing import Sizing
from orca.api.objects import Obj, meta
from orca.api.times import format_time

OWN = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "AllContainersRestarting",
)
"""Types this host writes; every other condition belongs to somebody else and is left alone."""
SHARED = ("DisruptionTarget",)
"""Types this host writes with a pod's end; before that they are others' to write."""
RESIZE = ("PodResizePending", "PodResizeInProgress")
"""Types this host writes while they hold, and takes away afterwards."""


def condition(kind: str, status: bool, reason: str = "", message: str = "") -> Obj:
    """A condition without its times."""
    made: Obj = {"type": kind, "status": "True" if status else "False"}
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    return made


def initialized(pod: Obj, statuses: Sequence[Obj], phase: str, *, begun: bool) -> Obj:
    """``Initialized``; ``statuses`` are those of init containers, ``begun`` that a main container was started."""
    if phase == "Succeeded":
        return condition("Initialized", True, "PodCompleted")
    if begun:
        return condition("Initialized", True)
    sidecars = {
        container["name"]
        for container in (pod.get("spec") or {}).get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }
    incomplete = [
        status["name"]
        for status in statuses
        if not (status.get("started") if status["name"] in sidecars else status.get("ready"))
    ]
    if not incomplete:
        return condition("Initialized", True)
    return condition("Initialized", False, "ContainersNotInitialized", _named("incomplete", incomplete))


def containers_ready(statuses: Sequence[Obj], phase: str) -> Obj:
    """``ContainersReady``; ``statuses`` are those of main containers and sidecars."""
    if phase == "Succeeded":
        return condition("ContainersReady", False, "PodCompleted")
    if phase == "Failed":
        return condition("ContainersReady", False, "PodFailed")
    unready = [status["name"] for status in statuses if not status.get("ready")]
    if unready:
        return condition("ContainersReady", False, "ContainersNotReady", _named("unready", unready))
    return condition("ContainersReady", True)


def ready(pod: Obj, of_containers: Obj, existing: Iterable[Obj]) -> Obj:
    """``Ready``: the containers, and every readiness gate."""
    if of_containers["status"] != "True":
        return {**of_containers, "type": "Ready"}
    known = {item.get("type"): item.get("status") for item in existing}
    why = []
    for gate in (pod.get("spec") or {}).get("readinessGates") or ():
        kind = gate["conditionType"]
        if kind not in known:
            why.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif known[kind] != "True":
            why.append(f'the status of pod readiness gate "{kind}" is not "True", but {known[kind]}')
    if why:
        return condition("Ready", False, "ReadinessGatesNotReady", ", ".join(why))
    return condition("Ready", True)


def all_restarting(under_way: bool, phase: str) -> Obj:
    """``AllContainersRestarting``, for pods that have a rule which asks for that."""
    if phase in ("Succeeded", "Failed"):
        return condition("AllContainersRestarting", False, "PodCompleted" if phase == "Succeeded" else "PodFailed")
    if not under_way:
        return condition("AllContainersRestarting", False)
    text = "container exited with restart policy rule"
    return condition("AllContainersRestarting", True, "RestartAllContainersStarted", text)


def disruption(message: str) -> Obj:
    """``DisruptionTarget`` of a pod that this host ended."""
    return condition("DisruptionTarget", True, "TerminationByKubelet", message)


def of_resize(sizing: Sizing) -> list[Obj]:
    """What waits for room, and what is being applied; each of the generation it came with."""
    found = []
    if sizing.pending is not None:
        made = condition("PodResizePending", True, sizing.pending.reason, sizing.pending.message)
        found.append({**made, "observedGeneration": sizing.pending.generation})
    if sizing.progress is not None:
        error = sizing.progress.error
        made = condition("PodResizeInProgress", True, "Error" if error else "", error)
        found.append({**made, "observedGeneration": sizing.progress.generation})
    return found


def stamped(wanted: Sequence[Obj], existing: Sequence[Obj], pod: Obj, now: datetime) -> list[Obj]:
    """With ``lastTransitionTime`` kept while the status stays, and ``observedGeneration`` where none is told. A pod
    once told to be initialized stays it, also when init containers run again."""
    before = {item.get("type"): item for item in existing}
    generation = meta(pod).get("generation")
    result = []
    for decided in wanted:
        old = before.get(decided["type"])
        stays = decided["type"] == "Initialized" and old is not None and old.get("status") == "True"
        item = condition("Initialized", True) if stays and decided["status"] != "True" else decided
        same = old is not None and old.get("status") == item["status"] and old.get("lastTransitionTime")
        made = {**item, "lastProbeTime": None, "lastTransitionTime": same or format_time(now)}
        if generation:
            made.setdefault("observedGeneration", generation)
        result.append(made)
    return result


def _named(what: str, names: Iterable[str]) -> str:
    return f"containers with {what} status: [{' '.join(names)}]"
