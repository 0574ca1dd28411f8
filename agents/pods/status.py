"""``status`` of a pod from its spec, what was observed and what was decided. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from agents.pods import conditions
from agents.pods.containers import (
    api_status,
    ended,
    ephemeral_containers,
    has_begun,
    init_containers,
    is_ready,
    is_sidecar,
    is_started,
    main_containers,
    may_restart_all,
    present,
    restarts_all,
    spec_of,
)
from agents.pods.deletion import is_deleting
from agents.pods.lifecycle import RISING, Life
from agents.pods.memory import LONG_AGO, Gone, Memory
from agents.pods.resources import qos_class
from agents.pods.sizes import in_force
from agents.pods.sizing import POD
from agents.pods.steps import Plan, Waiting
from agents.resources.amounts import has_pod_level
from agents.runtime.model import ContainerInfo
from orca.api.objects import Obj, meta
from orca.api.times import format_time

LOST = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}


VANISHED = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was deleted.  The container used to be Running",
}
MESSAGES_LIMIT = 12 * 1024
"""Bytes that the termination messages of all of a pod's containers may have together."""


def build_status(pod: Obj, memory: Memory, decided: Plan, now: datetime, host_ips: Sequence[str]) -> Obj:
    """The whole status this host stands for; conditions of others are not in it."""
    before: Obj = pod.get("status") or {}
    over = decided.life in (Life.FINISHED, Life.RELEASING, Life.GONE)
    lost = over and (is_deleting(pod, memory) or decided.doom is not None)
    begun = any(memory.newest(container["name"]) is not None for container in main_containers(pod))
    ran = _have_run(pod, memory) if lost else 0
    init = [
        _init_status(pod, container, memory, decided, lost and number < max(ran, 1))
        for number, container in enumerate(init_containers(pod))
    ]
    initialized = lost and _was_initialized(pod, memory)
    main = [_main_status(pod, container, memory, decided, initialized) for container in main_containers(pod)]
    phase = pod_phase(pod, init, main, over=over, begun=begun)
    if before.get("phase") in ("Succeeded", "Failed"):
        phase = before["phase"]
    elif over and (decided.doom is not None or (lost and phase not in ("Succeeded", "Failed"))):
        phase = "Failed"
    status: Obj = {
        "phase": phase,
        "qosClass": before.get("qosClass") or qos_class(pod),
        "startTime": before.get("startTime") or format_time(memory.first_seen or now),
        "hostIP": host_ips[0],
        "hostIPs": [{"ip": address} for address in host_ips],
        "containerStatuses": main,
    }
    refused = decided.doom is not None and decided.doom.event
    if refused or (before.get("phase") == "Failed" and not before.get("containerStatuses")):
        del status["containerStatuses"]  # refused: nothing was or will be made
    elif init:
        status["initContainerStatuses"] = init
    if has_pod_level(pod):
        whole = memory.sizing.allotted.get(POD) or spec_of(pod)["resources"]
        status["resources"] = memory.sizing.in_force or whole
        if whole.get("requests"):
            status["allocatedResources"] = whole["requests"]
    if ephemeral_containers(pod):
        status["ephemeralContainerStatuses"] = [
            _container_status(pod, container, memory, decided, lost) for container in ephemeral_containers(pod)
        ]
    if meta(pod).get("generation"):
        status["observedGeneration"] = meta(pod)["generation"]
    if memory.ips:
        status["podIP"] = memory.ips[0]
        status["podIPs"] = [{"ip": address} for address in memory.ips]
    if decided.doom is not None and over:
        status["reason"], status["message"] = decided.doom.reason, decided.doom.message
    sidecars = [item for item, spec in zip(init, init_containers(pod), strict=True) if is_sidecar(spec)]
    existing = before.get("conditions") or []
    of_containers = conditions.containers_ready([*sidecars, *main], phase)
    # Once nothing runs the sandbox is on its way out: said with the same write that tells how the containers ended.
    wired = not over and memory.sandbox is not None and memory.sandbox.running and memory.wired
    wanted = [
        conditions.condition("PodReadyToStartContainers", wired),
        conditions.initialized(pod, init, phase, begun=begun),
        conditions.ready(pod, of_containers, existing),
        of_containers,
        conditions.condition("PodScheduled", True),
        *(() if over else conditions.of_resize(memory.sizing)),
    ]
    if may_restart_all(pod):
        wanted.append(conditions.all_restarting(restarts_all(pod, memory), phase))
    if over and decided.doom is not None and decided.doom.disruption:
        wanted.append(conditions.disruption(decided.doom.disruption))
    _shorten_messages(pod, status)
    status["conditions"] = conditions.stamped(wanted, existing, pod, now)
    return status


def lacks_addresses(memory: Memory) -> bool:
    """Containers run or have run, and the addresses of their pod are not known yet: an agent before this one has died
    before it told of them. They come in a moment, with the next attach, unless that fails."""
    sandbox = memory.sandbox
    attached = memory.wired or sandbox is None or not sandbox.running
    attaching = memory.life in RISING and not attached and "network" not in memory.failures
    return attaching and not memory.ips and any(has_begun(info) for info in memory.all_containers())


def _has_run(pod: Obj, name: str, memory: Memory) -> bool:
    """There is evidence that a container was started once."""
    info, before = memory.newest(name), api_status(pod, name)
    if name in memory.last or (info is not None and (info.running or ended(info) is not None)):
        return True
    return bool((before.get("lastState") or {}).get("terminated") or (before.get("state") or {}).keys() - {"waiting"})


def _have_run(pod: Obj, memory: Memory) -> int:
    """How many init containers there are up to the last one that was started."""
    ran = [_has_run(pod, container["name"], memory) for container in init_containers(pod)]
    return max((number for number, yes in enumerate(ran, 1) if yes), default=0)


def _was_initialized(pod: Obj, memory: Memory) -> bool:
    """Main containers were started or could have been: only then one that is not there was lost. One that waited for
    init containers until the pod's end still does, as upstream tells it."""
    if not init_containers(pod) or any(_has_run(pod, one["name"], memory) for one in main_containers(pod)):
        return True
    last = init_containers(pod)[-1]
    info, before = memory.newest(last["name"]), api_status(pod, last["name"])
    if is_sidecar(last):
        return bool(before.get("started") or (info is not None and is_started(last, info, memory)))
    end = ended(info) if info is not None else None
    told = [(before.get(state) or {}).get("terminated") or {} for state in ("state", "lastState")]
    return (end is not None and end.exit_code == 0) or any(one.get("exitCode") == 0 for one in told)


def pod_phase(pod: Obj, init: Sequence[Obj], main: Sequence[Obj], *, over: bool, begun: bool) -> str:
    """Phase from container statuses, as upstream counts them. ``over``: nothing runs and nothing will again; only then
    a pod has succeeded or failed, since until then it may hold what others wait for. ``begun``: a main container has
    been there."""
    pending_init = failed_init = running = waiting = stopped = succeeded = 0
    for spec, item in zip(init_containers(pod), init, strict=True):
        state, last = item["state"], item.get("lastState") or {}
        done = state.get("terminated") or (last.get("terminated") if "waiting" in state else None)
        if is_sidecar(spec):
            running += "running" in state
            pending_init += 0 if item.get("started") or done else 1
        elif done is None:
            pending_init += 1
        elif done["exitCode"] != 0:
            failed_init += 1
    for item in main:
        state, last = item["state"], item.get("lastState") or {}
        if "running" in state:
            running += 1
        elif "terminated" in state:
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
        elif last.get("terminated"):
            stopped += 1
        else:
            waiting += 1
    if over and failed_init and not begun:
        return "Failed"
    if over and not running and not waiting and stopped:
        return "Succeeded" if stopped == succeeded else "Failed"
    if waiting or ((pending_init or failed_init) and not begun):
        return "Pending"
    return "Running"


def _main_status(pod: Obj, container: Obj, memory: Memory, decided: Plan, lost: bool) -> Obj:
    status = _container_status(pod, container, memory, decided, lost)
    info = present(pod, container["name"], memory)
    if info is not None:
        status["started"] = is_started(container, info, memory)
        status["ready"] = is_ready(container, info, memory)
    return status


def _init_status(pod: Obj, container: Obj, memory: Memory, decided: Plan, lost: bool) -> Obj:
    if is_sidecar(container):
        return _main_status(pod, container, memory, decided, lost)
    status = _container_status(pod, container, memory, decided, lost)
    info = present(pod, container["name"], memory)
    end = ended(info) if info is not None else None
    status["ready"] = end is not None and end.exit_code == 0
    status["started"] = info is not None and info.running and info.id not in memory.hooks
    return status


def _container_status(pod: Obj, container: Obj, memory: Memory, decided: Plan, lost: bool) -> Obj:
    name = container["name"]
    over = decided.life in (Life.FINISHED, Life.RELEASING, Life.GONE)
    info, last = present(pod, name, memory), memory.last.get(name)
    before = api_status(pod, name)
    status: Obj = {
        "name": name,
        "image": info.image if info is not None else container.get("image", ""),
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": max(info.attempt if info is not None else 0, int(before.get("restartCount", 0))),
        "state": {},
        "lastState": {},
    }
    if info is None:
        if lost or (over and (before.get("state") or {}).get("terminated")):
            # Already removed: what was written when it ended stays; one that never ended is lost.
            return _kept(before, status)
        status["state"] = {"waiting": _waiting(pod, container, decided)}
        return status | _left(last, before)
    image = memory.image_details.get(info.image_id)
    status["imageID"] = image.pull_id if image is not None else before.get("imageID") or f"docker://{info.image_id}"
    status["containerID"] = f"docker://{info.id}"
    resources, allotted = in_force(container, info, memory.sizing, spec_of(pod).get("resources"))
    if resources:
        status["resources"] = resources
        if allotted:
            status["allocatedResources"] = allotted
    if container.get("volumeMounts"):
        status["volumeMounts"] = [_mount(one, memory) for one in container["volumeMounts"]]
    if signal := (container.get("lifecycle") or {}).get("stopSignal"):
        status["stopSignal"] = signal
    known_user = before.get("user") if before.get("containerID") == status["containerID"] else None
    if user := memory.users.get(info.id) or known_user:
        status["user"] = user
    previous = next((one for one in memory.containers[name] if one.attempt < info.attempt), None)
    if previous is not None and previous.attempt < info.attempt - 1:
        previous = None  # the one between was removed
    if info.running and info.id in memory.hooks:
        # Upstream, too, calls no container running whose postStart has not ended.
        status["state"] = {"waiting": _waiting(pod, container, decided)}
    elif info.running and info.id in memory.failed_hooks:
        status["state"] = {"waiting": {"reason": "PostStartHookError", "message": memory.failed_hooks[info.id]}}
    elif info.running:
        status["state"] = {"running": {"startedAt": _time(info.started_at)}}
    elif name in decided.waiting:
        status["state"] = {"waiting": _as_waiting(decided.waiting[name])}
        previous = info
    else:
        status["state"] = {"terminated": terminated(info, memory.messages)}
    if previous is not None and ended(previous) is not None:
        status["lastState"] = {"terminated": terminated(previous, memory.messages)}
    elif previous is None and info.attempt > 0:
        status["lastState"] = _of_removed(info, last, before)
    return status


def _of_removed(info: ContainerInfo, last: Gone | None, before: Obj) -> Obj:
    """``lastState`` where the attempt before was removed: by a restart of all containers, or by somebody else."""
    told = int(before.get("restartCount", 0))
    newest = last is not None and min(told, info.attempt - 1) <= last.info.attempt < info.attempt
    if last is not None and newest and ended(last.info) is not None:
        return {"terminated": terminated(last.info, {last.info.id: last.message})}
    if told == info.attempt:
        kept: Obj = before.get("lastState") or {}
        # While a container waits to be restarted, it is its own end that stands there.
        return {} if (kept.get("terminated") or {}).get("containerID") == f"docker://{info.id}" else kept
    state: Obj = _left(None, before).get("lastState") or {}
    return state


def _left(last: Gone | None, before: Obj) -> Obj:
    """What stays to be told of a container that is there no more, while its successor is on its way."""
    state: Obj | None
    if last is not None and last.info.attempt < int(before.get("restartCount", 0)):
        last = None  # an agent before this one has told of a newer one
    if last is not None and ended(last.info) is not None:
        state = terminated(last.info, {last.info.id: last.message})
    elif (before.get("state") or {}).get("terminated"):
        state = before["state"]["terminated"]
    elif last is not None or "running" in (before.get("state") or {}):
        state = dict(VANISHED)
    else:
        state = (before.get("lastState") or {}).get("terminated")
    if state is None:
        return {}
    attempt = last.info.attempt if last is not None else int(before.get("restartCount", 0))
    return {"restartCount": attempt, "lastState": {"terminated": state}}


def _mount(mount: Obj, memory: Memory) -> Obj:
    """As upstream tells a mount."""
    told: Obj = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        wished = mount.get("recursiveReadOnly") in ("Enabled", "IfPossible")
        in_depth = wished and memory.read_only_in_depth
        told |= {"readOnly": True, "recursiveReadOnly": "Enabled" if in_depth else "Disabled"}
    return told


def _kept(before: Obj, empty: Obj) -> Obj:
    if (before.get("state") or {}).get("terminated"):
        return dict(before)
    return {**empty, **before, "ready": False, "started": False, "state": {"terminated": dict(LOST)}}


def terminated(info: ContainerInfo, messages: Mapping[str, str]) -> Obj:
    """A ``terminated`` state."""
    end = ended(info)
    assert end is not None, f"{info.name} has not ended"
    state: Obj = {
        "exitCode": end.exit_code,
        "reason": end.reason,
        "containerID": f"docker://{info.id}",
        "startedAt": _time(info.started_at),
        "finishedAt": _time(end.at),
    }
    message = messages.get(info.id) or end.message
    if message:
        state["message"] = message
    return state


def _shorten_messages(pod: Obj, status: Obj) -> None:
    """No pod's last words fill the API, however many containers it has."""
    limit = MESSAGES_LIMIT // max(len(init_containers(pod)) + len(main_containers(pod)), 1)
    for group in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(group) or ():
            for state in ("state", "lastState"):
                ended_so = (item.get(state) or {}).get("terminated") or {}
                message = ended_so.get("message") or ""
                if len(message) * 4 > limit and len(data := message.encode()) > limit:
                    item[state] = {"terminated": {**ended_so, "message": data[:limit].decode(errors="ignore")}}


def _waiting(pod: Obj, container: Obj, decided: Plan) -> Obj:
    name = container["name"]
    if name in decided.waiting:
        return _as_waiting(decided.waiting[name])
    if init_containers(pod):
        return {"reason": "PodInitializing"}
    return {"reason": "ContainerCreating"}


def _as_waiting(why: Waiting) -> Obj:
    return {"reason": why.reason, "message": why.message} if why.message else {"reason": why.reason}


def _time(when: datetime | None) -> str:
    """A container that never ran shows the epoch, as upstream."""
    return format_time(when or LONG_AGO)
