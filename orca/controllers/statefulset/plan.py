"""What to create and delete for one StatefulSet, and its status. Pure.

Safety: a pod is made only where no pod of its ordinal exists, not even one that is being deleted; with OrderedReady one
pod at a time comes or goes, and only beside available ones; a rolling update takes no available pod while
`maxUnavailable` others are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orca.api.objects import Obj, is_terminating, meta, name
from orca.controllers import podstate
from orca.controllers.deployment.sizes import resolve
from orca.controllers.statefulset.identity import ordinal_of, ordinals, revision_of


@dataclass(frozen=True, slots=True)
class Revisions:
    """Names: `current` is what the last finished update left, `update` what the spec asks for."""

    current: str
    update: str


@dataclass(slots=True)
class Plan:
    """`create`: ordinal and name of the revision; `delete`: pods. Both in the order in which to do them."""

    create: list[tuple[int, str]] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)


class _Look:
    """One StatefulSet and its pods, sorted by what they are to it."""

    def __init__(self, statefulset: Obj, pods: Sequence[Obj], revisions: Revisions, now: datetime) -> None:
        spec = statefulset["spec"]
        self.statefulset, self.revisions, self.now = statefulset, revisions, now
        self.ordered = spec.get("podManagementPolicy") != "Parallel"
        self.min_ready = spec.get("minReadySeconds") or 0
        self.wanted = ordinals(statefulset)
        members: dict[int, Obj] = {}
        for pod in pods:
            ordinal = ordinal_of(statefulset, name(pod))
            if ordinal is not None:
                members[ordinal] = pod
        self.members = members
        self.condemned = [members[ordinal] for ordinal in sorted(members, reverse=True) if ordinal not in self.wanted]
        strategy = spec.get("updateStrategy") or {}
        rolling = strategy.get("rollingUpdate") or {}
        self.rolls = strategy.get("type") != "OnDelete"
        self.partition = (rolling.get("partition") or 0) if self.rolls else 0
        # Rounded down, as the controller does and its documentation does not say.
        asked = resolve(rolling.get("maxUnavailable"), len(self.wanted), up=False)
        self.max_unavailable = max(asked, 1)

    def ready(self, pod: Obj) -> bool:
        return podstate.phase(pod) == "Running" and podstate.is_ready(pod)

    def available(self, pod: Obj | None) -> bool:
        """Ready for long enough and here to stay."""
        if pod is None or is_terminating(pod):
            return False
        return self.ready(pod) and podstate.available_in(pod, self.min_ready, self.now) == 0

    def revision_for(self, ordinal: int) -> str:
        """Which revision a pod made now has."""
        kept = self.rolls and ordinal < self.wanted.start + self.partition
        return self.revisions.current if kept else self.revisions.update


def plan(statefulset: Obj, pods: Sequence[Obj], revisions: Revisions, now: datetime) -> Plan:
    """`pods`: those it controls. The next steps; nothing for one that is being deleted."""
    todo = Plan()
    if is_terminating(statefulset):
        return todo
    look = _Look(statefulset, pods, revisions, now)
    if _fill(look, todo) and _shrink(look, todo) and look.rolls:
        _roll(look, todo)
    return todo


def _fill(look: _Look, todo: Plan) -> bool:
    """Makes pods that are missing and takes away those that ended. Answers whether to go on with other work."""
    for ordinal in look.wanted:
        pod = look.members.get(ordinal)
        if pod is None:
            todo.create.append((ordinal, look.revision_for(ordinal)))
        elif podstate.is_finished(pod) and not is_terminating(pod):
            todo.delete.append(pod)
        if look.ordered and not look.available(pod):
            return False
    return True


def _shrink(look: _Look, todo: Plan) -> bool:
    """Takes away pods beyond the wanted ordinals, the highest first. Answers whether to go on with other work."""
    # One that ended never becomes available: nothing waits for it.
    coming = [pod for pod in look.condemned if not look.available(pod) and not podstate.is_finished(pod)]
    for pod in look.condemned:
        if is_terminating(pod):
            if look.ordered:
                return False
            continue
        # Of several that are not available upstream lets only the lowest go before the others have come up.
        if look.ordered and pod in coming and pod is not coming[-1]:
            return False
        todo.delete.append(pod)
        if look.ordered:
            return False
    return True


def _roll(look: _Look, todo: Plan) -> None:
    """Takes away pods of other revisions, the highest first, down to the partition.

    One that is not available anyway costs nothing of `maxUnavailable`: else a set whose pods are all broken could never
    be given a better template. (With OrderedReady all are available here.)
    """
    room = look.max_unavailable - sum(not look.available(look.members.get(ordinal)) for ordinal in look.wanted)
    for ordinal in reversed(look.wanted):
        pod = look.members.get(ordinal)
        if ordinal < look.wanted.start + look.partition or pod is None:
            continue
        if revision_of(pod) == look.revisions.update or is_terminating(pod) or podstate.is_finished(pod):
            continue
        if look.available(pod):
            if room <= 0:
                continue
            room -= 1
        todo.delete.append(pod)


def new_status(statefulset: Obj, pods: Sequence[Obj], revisions: Revisions, now: datetime) -> Obj:
    """The whole status."""
    look = _Look(statefulset, pods, revisions, now)
    members = list(look.members.values())
    staying = [pod for pod in members if not is_terminating(pod)]
    ready = sum(look.ready(pod) for pod in members)
    min_ready = look.min_ready
    available = sum(look.ready(pod) and podstate.available_in(pod, min_ready, now) == 0 for pod in members)
    current = sum(revision_of(pod) == revisions.current for pod in staying)
    updated = sum(revision_of(pod) == revisions.update for pod in staying)
    settled = revisions.current
    if look.rolls and len(look.wanted) == len(members) == ready == updated:
        settled, current = revisions.update, updated
    old = statefulset.get("status") or {}
    status: Obj = {
        "observedGeneration": meta(statefulset).get("generation", 0),
        "replicas": len(members),
        "availableReplicas": available,
        "currentRevision": settled,
        "updateRevision": revisions.update,
        "collisionCount": old.get("collisionCount") or 0,
    }
    for part, counted in (("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)):
        if counted:
            status[part] = counted
    if old.get("conditions"):
        status["conditions"] = old["conditions"]
    return status


def next_look(statefulset: Obj, pods: Sequence[Obj], now: datetime) -> float | None:
    """Seconds until the next ready pod becomes available."""
    min_ready = statefulset["spec"].get("minReadySeconds") or 0
    return min((wait for pod in pods if (wait := podstate.available_in(pod, min_ready, now))), default=None)
