"""What to create and delete for one DaemonSet, and its status. Pure.

Safety: never two pods of one DaemonSet on a node except while it surges, and a rolling update takes down available
pods on at most `maxUnavailable` nodes at a time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orca.api.objects import Obj, is_terminating, labels, meta, name
from orca.controllers import podstate
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.daemonset.placement import Placement, place, target_of
from orca.controllers.deployment.sizes import resolve


@dataclass(slots=True)
class Plan:
    """Names of nodes to make a pod for, and pods to delete; `failed` are those deleted because they failed."""

    create: list[str] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    failed: list[Obj] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rolling:
    """Limits of a rolling update in nodes; both 0: pods are replaced when somebody deletes them."""

    unavailable: int
    surge: int


def rolling_of(daemonset: Obj, desired: int) -> Rolling:
    """From `updateStrategy`; percentages of the `desired` number are rounded up."""
    strategy = daemonset["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return Rolling(0, 0)
    rolling = strategy.get("rollingUpdate") or {}
    surge = resolve(rolling.get("maxSurge", 0), desired, up=True)
    unavailable = resolve(rolling.get("maxUnavailable", 1), desired, up=True)
    return Rolling(unavailable or (0 if surge else 1), surge)


def by_node(pods: Sequence[Obj]) -> dict[str, list[Obj]]:
    """node name -> its pods, bound ones first, then the oldest first.

    Those that are over and on their way out are left out: nothing more is to be done about them, and nothing has to
    wait for them. So are those that say nothing of a node.
    """
    found: dict[str, list[Obj]] = {}
    for pod in sorted(pods, key=lambda pod: (not pod["spec"].get("nodeName"), podstate.created_at(pod), name(pod))):
        node = target_of(pod)
        if node and not (is_terminating(pod) and podstate.is_finished(pod)):
            found.setdefault(node, []).append(pod)
    return found


def placements(daemonset: Obj, nodes: Sequence[Obj]) -> dict[str, Placement]:
    """node name -> whether a pod should be there."""
    spec = daemonset["spec"]["template"].get("spec") or {}
    return {name(node): place(spec, node) for node in nodes}


def plan(
    daemonset: Obj,
    nodes: Sequence[Obj],
    pods: Sequence[Obj],
    revision: str,
    now: datetime,
    held: Collection[str] = (),
) -> Plan:
    """`pods` are those the set controls, `revision` is the hash of its present template, `held` are nodes where a pod
    failed so lately that the next one has to wait."""
    todo = Plan()
    if is_terminating(daemonset):
        return todo
    where = placements(daemonset, nodes)
    there = by_node(pods)
    desired = sum(found.start for found in where.values())
    rolling = rolling_of(daemonset, desired)
    min_ready = daemonset["spec"].get("minReadySeconds") or 0
    for node, placement in where.items():
        _keep_one(node, placement, there.get(node, []), revision, rolling, todo, held=node in held)
    for node, found in there.items():
        if node not in where:
            # Bound ones are the business of those who know for how long the node has been missing.
            todo.delete += [pod for pod in found if not is_terminating(pod) and not pod["spec"].get("nodeName")]
    if rolling.surge:
        _surge(where, there, revision, rolling, min_ready, now, todo)
    elif rolling.unavailable:
        _replace(where, there, revision, rolling, min_ready, now, todo)
    return todo


def _keep_one(
    node: str, placement: Placement, found: list[Obj], revision: str, rolling: Rolling, todo: Plan, *, held: bool
) -> None:
    live = [pod for pod in found if not is_terminating(pod)]
    if not placement.stay:
        todo.delete += live
        return
    failed = [pod for pod in live if podstate.is_finished(pod) and not (held and podstate.phase(pod) == "Failed")]
    todo.failed += failed
    todo.delete += failed
    running = [pod for pod in live if not podstate.is_finished(pod)]
    # Beside pods that leave a new one may come only where two may be.
    if placement.start and not (running or len(failed) < len(live) if rolling.surge else found):
        todo.create.append(node)
    if rolling.surge:
        old = [pod for pod in running if not _is_new(pod, revision)]
        new = [pod for pod in running if _is_new(pod, revision)]
        todo.delete += old[1:] + new[1:]
    else:
        todo.delete += running[1:]


def _is_new(pod: Obj, revision: str) -> bool:
    return labels(pod).get(HASH_LABEL) == revision


def _is_available(pod: Obj, min_ready: int, now: datetime) -> bool:
    return not is_terminating(pod) and podstate.available_in(pod, min_ready, now) == 0


def _replace(
    where: Mapping[str, Placement],
    there: Mapping[str, list[Obj]],
    revision: str,
    rolling: Rolling,
    min_ready: int,
    now: datetime,
    todo: Plan,
) -> None:
    """Old pods that do not serve go at once, serving ones while fewer than `maxUnavailable` nodes are without: nodes
    that should be served, and those that still have a pod."""
    doomed = {name(pod) for pod in todo.delete}
    room = rolling.unavailable
    candidates: list[Obj] = []
    for node in dict.fromkeys([*there, *(node for node, placement in where.items() if placement.start)]):
        live = [pod for pod in there.get(node, []) if not is_terminating(pod) and name(pod) not in doomed]
        old = [pod for pod in live if not _is_new(pod, revision)]
        if len(live) == 1 and _is_available(live[0], min_ready, now):
            candidates += old
            continue
        room -= 1
        if len(live) == len(old):
            todo.delete += old
    if room > 0:
        todo.delete += candidates[:room]


def _surge(
    where: Mapping[str, Placement],
    there: Mapping[str, list[Obj]],
    revision: str,
    rolling: Rolling,
    min_ready: int,
    now: datetime,
    todo: Plan,
) -> None:
    """A new pod beside each old one, on at most `maxSurge` nodes; the old one goes when the new one is available.

    An old pod that does not serve is replaced whatever the limit: first the new one comes, then, as there is nothing
    to wait for, the old one goes. Where a pod may stay but no new one would be started, the old one goes as well; one
    that serves only when as many nodes as should be are served without it.
    """
    doomed = {name(pod) for pod in todo.delete}
    surging = spare = 0
    waiting: list[str] = []
    leaving: list[Obj] = []
    for node, placement in where.items():
        live = [pod for pod in there.get(node, []) if not is_terminating(pod) and name(pod) not in doomed]
        old = [pod for pod in live if not _is_new(pod, revision)]
        new = [pod for pod in live if _is_new(pod, revision)]
        serving = any(_is_available(pod, min_ready, now) for pod in old)
        spare += any(_is_available(pod, min_ready, now) for pod in old or new) - placement.start
        if not old:
            continue
        if not placement.start:
            if serving:
                leaving += old
            else:
                todo.delete += old
        elif any(_is_available(pod, min_ready, now) for pod in new):
            todo.delete += old
        elif new:
            surging += 1
            todo.delete += [pod for pod in old if not podstate.is_ready(pod)]
        elif serving:
            waiting.append(node)
        else:
            todo.create.append(node)
    todo.create += waiting[: max(rolling.surge - surging, 0)]
    todo.delete += leaving[: max(spare, 0)]


def new_status(daemonset: Obj, nodes: Sequence[Obj], pods: Sequence[Obj], revision: str, now: datetime) -> Obj:
    """The counters."""
    there = by_node(pods)
    min_ready = daemonset["spec"].get("minReadySeconds") or 0
    desired = current = misplaced = ready = updated = available = 0
    for node, placement in placements(daemonset, nodes).items():
        found = there.get(node)
        if not placement.start:
            misplaced += bool(found)
            continue
        desired += 1
        if found:
            # One pod speaks for the node: while it surges, the old one.
            current += 1
            ready += podstate.is_ready(found[0])
            available += podstate.available_in(found[0], min_ready, now) == 0
            updated += _is_new(found[0], revision)
    status: Obj = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misplaced,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
        "observedGeneration": meta(daemonset).get("generation", 0),
    }
    for part, counted in (
        ("updatedNumberScheduled", updated),
        ("numberAvailable", available),
        ("numberUnavailable", desired - available),
    ):
        if counted:
            status[part] = counted
    old = daemonset.get("status") or {}
    for part in ("collisionCount", "conditions"):
        if old.get(part):
            status[part] = old[part]
    return status


def next_look(daemonset: Obj, pods: Sequence[Obj], now: datetime) -> float | None:
    """Seconds until the next ready pod becomes available."""
    min_ready = daemonset["spec"].get("minReadySeconds") or 0
    return min((wait for pod in pods if (wait := podstate.available_in(pod, min_ready, now))), default=None)
