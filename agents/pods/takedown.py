"""Taking a pod down: its containers end in their order, then what it has on this host goes, then its object. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from agents.pods.containers import find_container, init_containers, is_sidecar
from agents.pods.decision import Decision
from agents.pods.deletion import grace_of, is_deleting
from agents.pods.lifecycle import Life, move
from agents.pods.steps import DeleteObject, PreStop, Release, StopContainer
from agents.runtime.model import ContainerInfo

SIDECAR_GRACE = 2.0


def take_down(decision: Decision) -> Life:
    """Add to a decision what is next; how far the pod is."""
    memory, deleting = decision.memory, is_deleting(decision.pod, decision.memory)
    if memory.life is Life.GONE:
        return Life.GONE
    if _stop_everything(decision):
        return Life.STOPPING
    if not deleting:
        for info in _sandboxes(decision):
            decision.remove(info)
        if not memory.released and "release" not in memory.in_flight and decision.may_retry("release"):
            decision.actions.append(Release(files=False))
        return Life.FINISHED
    told = memory.removed or memory.deleted
    # As a kubelet does, the API hears first: nothing of the pod runs but its sandbox, which has lost its network.
    # Containers are removed before only if they may be what stands in the way.
    if told or not memory.failures.keys().isdisjoint(("release", "delete")):
        for info in memory.everything():
            decision.remove(info)
    if not memory.cleaned and not {"release", "sizes"} & memory.in_flight.keys() and decision.may_retry("release"):
        decision.actions.append(Release(files=True))
    if not memory.cleaned:
        return Life.RELEASING
    if told:
        left = memory.everything() or memory.in_flight
        return Life.RELEASING if left else move(memory.life, Life.GONE)
    if "delete" not in memory.in_flight and decision.may_retry("delete"):
        decision.actions.append(DeleteObject())
    return Life.RELEASING


def _stop_everything(decision: Decision) -> bool:
    """Stop what runs: main containers at once, then sidecars from the last to the first. True while any is left."""
    memory = decision.memory
    grace = grace_of(decision.pod, memory)
    deadline = (memory.stopping_since or decision.now) + timedelta(seconds=grace)
    running = {info.id: info for info in memory.all_containers() if info.running}
    order = [container["name"] for container in init_containers(decision.pod) if is_sidecar(container)]
    sidecars = [info for info in running.values() if info.container in order]
    mains = [info for info in running.values() if info.container not in order]
    if mains:
        for info in mains:
            decision.stop(info, grace, "", deadline)
    elif sidecars and not decision.stopping_or_starting():
        last = max(sidecars, key=lambda info: order.index(info.container))
        left = max((deadline - decision.now).total_seconds(), SIDECAR_GRACE)
        decision.stop(last, left, "", deadline + timedelta(seconds=SIDECAR_GRACE))
    for info in sidecars:
        _pre_stop(decision, info, deadline)
    return bool(running) or decision.stopping_or_starting()


def _pre_stop(decision: Decision, info: ContainerInfo, deadline: datetime) -> None:
    """Sidecars hear at once that the pod ends; their signal waits for their turn."""
    memory, flying = decision.memory, decision.memory.in_flight
    hook = ((find_container(decision.pod, info.container) or {}).get("lifecycle") or {}).get("preStop")
    done = info.id in memory.pre_stopped or f"stop:{info.container}" in flying
    stopping = any(isinstance(action, StopContainer) and action.id == info.id for action in decision.actions)
    if hook and not done and not stopping and not {f"prestop:{info.id}", f"start:{info.container}"} & flying.keys():
        left = (deadline - decision.now).total_seconds()
        if left > 0:
            decision.actions.append(PreStop(info.container, info.id, left))


def _sandboxes(decision: Decision) -> list[ContainerInfo]:
    current = [decision.memory.sandbox] if decision.memory.sandbox is not None else []
    return [*current, *decision.memory.old_sandboxes.values()]
