"""Reading one container of a pod: spec beside what was observed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agents.pods.memory import LONG_AGO, Memory, container_hash
from agents.runtime.model import HASH, SANDBOX_ID, ContainerInfo
from orca.api.objects import Obj

START_ERROR_CODE = 128


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    at: datetime


def spec_of(pod: Obj) -> Obj:
    """``spec``, an empty dict when missing."""
    found: Obj = pod.get("spec") or {}
    return found


def init_containers(pod: Obj) -> list[Obj]:
    """``spec.initContainers``: regular ones and sidecars, in order."""
    return spec_of(pod).get("initContainers") or []


def main_containers(pod: Obj) -> list[Obj]:
    """``spec.containers``."""
    return spec_of(pod).get("containers") or []


def ephemeral_containers(pod: Obj) -> list[Obj]:
    """``spec.ephemeralContainers``: added while the pod runs, never restarted, without probes."""
    return spec_of(pod).get("ephemeralContainers") or []


def every_container(pod: Obj) -> list[Obj]:
    """Init, main and ephemeral containers."""
    return [*init_containers(pod), *main_containers(pod), *ephemeral_containers(pod)]


def find_container(pod: Obj, name: str) -> Obj | None:
    """A container of the spec by name."""
    return next((container for container in every_container(pod) if container["name"] == name), None)


def is_sidecar(container: Obj) -> bool:
    """An init container that stays: ``restartPolicy: Always``."""
    return container.get("restartPolicy") == "Always"


def restart_policy(pod: Obj) -> str:
    return spec_of(pod).get("restartPolicy") or "Always"


def ended(info: ContainerInfo) -> Ended | None:
    """None while a container runs or was only created; one that could not be started has ended with 128."""
    if info.state == "exited":
        at = info.finished_at or info.started_at or info.created_at or LONG_AGO
        if info.oom_killed:
            return Ended(info.exit_code, "OOMKilled", info.error, at)
        return Ended(info.exit_code, "Completed" if info.exit_code == 0 else "Error", info.error, at)
    if info.state == "created" and info.error:
        return Ended(START_ERROR_CODE, "StartError", info.error, info.created_at or LONG_AGO)
    return None


def has_begun(info: ContainerInfo) -> bool:
    """The container was started, or could not be."""
    return info.running or ended(info) is not None


RESTART_ALL = "RestartAllContainers"


def rule_for(container: Obj, exit_code: int) -> str:
    """Action of the first of a container's own rules that fits its end: ``Restart``, :data:`RESTART_ALL`, or ""."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        listed = exit_code in (codes.get("values") or ())
        if listed is (codes.get("operator") == "In"):
            return str(rule.get("action") or "")
    return ""


def may_restart_all(pod: Obj) -> bool:
    """Whether the end of some container can make all of the pod's start anew."""
    return any(
        rule.get("action") == RESTART_ALL
        for container in (*init_containers(pod), *main_containers(pod))
        for rule in container.get("restartPolicyRules") or ()
    )


def may_restart(container: Obj, policy: str, end: Ended) -> bool:
    """Whether a container that ended is started again: the first of its own rules that fits, then its policy."""
    if rule_for(container, end.exit_code):
        return True
    return policy == "Always" or (policy == "OnFailure" and end.exit_code != 0)


def policy_of(pod: Obj, container: Obj, *, init: bool) -> str:
    """Restart policy of one container; a regular init container never runs again after success."""
    if init and is_sidecar(container):
        return "Always"
    policy = container.get("restartPolicy") or restart_policy(pod)
    return "OnFailure" if init and policy == "Always" else policy


def is_changed(container: Obj, info: ContainerInfo) -> bool:
    """The spec asks for another container than the one that was made."""
    label = info.labels.get(HASH)
    return label is not None and label != container_hash(container)


def asked_for_again(info: ContainerInfo, memory: Memory) -> bool:
    """This host has stopped the container to make it anew, whatever its restart policy says."""
    return info.id in memory.sizing.restarting or info.id in memory.sizing.replaced


def is_started(container: Obj, info: ContainerInfo, memory: Memory) -> bool:
    """``status.containerStatuses[].started``: runs, postStart ended, startup probe succeeded."""
    if not info.running or info.id in memory.hooks or info.id in memory.failed_hooks:
        return False
    if not container.get("startupProbe"):
        return True
    results = memory.probes.get(info.id)
    return results is not None and results.startup is True


def is_ready(container: Obj, info: ContainerInfo, memory: Memory) -> bool:
    """``status.containerStatuses[].ready`` of a main container or sidecar."""
    if not is_started(container, info, memory):
        return False
    if not container.get("readinessProbe"):
        return True
    results = memory.probes.get(info.id)
    return results is not None and results.readiness is True


def in_sandbox(info: ContainerInfo | None, memory: Memory) -> bool:
    """The container belongs to the present sandbox; those of one before it count for nothing in init order."""
    return info is not None and memory.sandbox is not None and info.labels.get(SANDBOX_ID, "") == memory.sandbox.id


def api_status(pod: Obj, name: str) -> Obj:
    """What the API has as status of a container, {} when nothing."""
    status = pod.get("status") or {}
    for group in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for item in status.get(group) or ():
            if item.get("name") == name:
                found: Obj = item
                return found
    return {}


def told_message(pod: Obj, info: ContainerInfo) -> str:
    """The last words of a container as the API has them, "" for none."""
    known = api_status(pod, info.container)
    for state in ("state", "lastState"):
        told = (known.get(state) or {}).get("terminated") or {}
        if told.get("containerID") == f"docker://{info.id}":
            return str(told.get("message") or "")
    return ""


def present(pod: Obj, name: str, memory: Memory) -> ContainerInfo | None:
    """The latest attempt of a container, None when the engine has lost it: an earlier one that is still there is not
    what the API was told of last. One that was made and never started is none yet; it is replaced."""
    known, last = memory.containers.get(name) or (), memory.last.get(name)
    info = next((one for one in known if has_begun(one)), None)
    if info is None or (last is not None and last.info.attempt > info.attempt):
        return None
    told = int(api_status(pod, name).get("restartCount", 0))
    return info if info.running or told <= info.attempt else None


def next_attempt(pod: Obj, name: str, memory: Memory) -> int:
    """Number of the next container of that name; continues from the API when the engine has lost the latest."""
    info = present(pod, name, memory)
    if info is not None:
        return info.attempt + 1 if ended(info) is not None or info.running else info.attempt
    known = api_status(pod, name)
    was = known.get("containerID") or (known.get("lastState") or {}).get("terminated")
    told = int(known.get("restartCount", 0)) + 1 if was else 0
    return max(told, memory.last[name].info.attempt + 1) if name in memory.last else told


def restarts_all(pod: Obj, memory: Memory) -> bool:
    """A container ended so that all of the pod's are to start anew, and that has not been seen to yet."""
    return bool(asking_for_all(pod, memory))


def asking_for_all(pod: Obj, memory: Memory) -> list[tuple[Obj, ContainerInfo, Ended]]:
    """The containers whose end asks for it. That they exist is the only trace of it: they are the last to be removed,
    so that an agent that comes meanwhile goes on."""
    found = []
    for container in (*init_containers(pod), *main_containers(pod)):
        info = memory.newest(container["name"]) if container.get("restartPolicyRules") else None
        end = ended(info) if info is not None else None
        if info is not None and end is not None and rule_for(container, end.exit_code) == RESTART_ALL:
            found.append((container, info, end))
    return found
