"""Taking a pod down: its containers end in their order, then what it has on this host goes, then its object. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from agents.pods.containers import find_container, init_containers, is_sidecar
from agents.pods.decision import Decision
from agents.pods.deletion import grace_of, is_deleting
from agents.pods.lifecycle import Life, move
from agents.pods.pulls import VOLUME_PREFIX
from agents.pods.steps import DeleteObject, PreStop, Release, StopContainer
from agents.runtime.model import ContainerInfo

SIDECAR_GRACE = 2.0
IMAGE_VOLUME = f"image:{VOLUME_PREFIX}"


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
        if not memory.released and _may_release(decision):
            decision.actions.append(Release(files=False))
        return Life.FINISHED
    told = memory.removed or memory.deleted
    # As a kubelet does, the API hears first: nothing of the pod runs but its sandbox, which has lost its network.
    # Containers are removed before only if they may be what stands in the way.
    if told or not memory.failures.keys().isdisjoint(("release", "delete")):
        for info in memory.everything():
            decision.remove(info)
    if not memory.cleaned and "sizes" not in memory.in_flight and _may_release(decision):
        decision.actions.append(Release(files=True))
    if not memory.cleaned:
        return Life.RELEASING
    if told:
        left = memory.everything() or memory.in_flight
        return Life.RELEASING if left else move(memory.life, Life.GONE)
    if "delete" not in memory.in_flight and decision.may_retry("delete"):
        decision.actions.append(DeleteObject())
    return Life.RELEASING


def _may_release(decision: Decision) -> bool:
    """Nothing is being mounted any more: what is made after the rest was taken away would stay."""
    flying = decision.memory.in_flight
    mounting = any(key == "volumes" or key.startswith(IMAGE_VOLUME) for key in flying)
    return not mounting and "release" not in flying and decision.may_retry("release")


def _stop_everything(decision: Decision) -> bool:
    """Stop what runs: main containers at once, sidecars in their turn. True while any is left."""
    memory = decision.memory
    grace = grace_of(decision.pod, memory)
    deadline = (memory.stopping_since or decision.now) + timedelta(seconds=grace)
    running = [info for info in memory.all_containers() if info.running]
    order = [container["name"] for container in init_containers(decision.pod) if is_sidecar(container)]
    for info in running:
        if info.container not in order:
            decision.stop(info, grace, "", deadline)
    for info in _in_turn(decision, running, order, deadline):
        begun = memory.in_flight.get(f"stop:{info.container}")
        left = max((deadline - decision.now).total_seconds(), SIDECAR_GRACE)
        # Whose turn came late has that little all the same.
        until = deadline if begun is None else max(deadline, begun)
        decision.stop(info, left, "", until + timedelta(seconds=SIDECAR_GRACE))
    for info in running:
        if info.container in order:
            _pre_stop(decision, info, deadline)
    return bool(running) or decision.stopping_or_starting()


def _in_turn(
    decision: Decision, running: list[ContainerInfo], order: list[str], deadline: datetime
) -> list[ContainerInfo]:
    """The sidecars that may be stopped: once all other containers have ended the last one, and so on up to the first;
    all of them when the grace period is over. ``order`` has their names as in the spec."""
    sidecars = [info for info in running if info.container in order]
    if not sidecars or decision.now >= deadline:
        return sidecars
    decision.wake(deadline)
    last = max(sidecars, key=lambda info: order.index(info.container))
    flying = decision.memory.in_flight
    # A stop that is under way is looked after: its time may be cut short, or run out.
    busy = {one.partition(":")[2] for one in flying if one.startswith(("start:", "stop:"))} - {last.container}
    earlier = order[: order.index(last.container)]
    return [last] if len(sidecars) == len(running) and busy.issubset(earlier) else []


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
