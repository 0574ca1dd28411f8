"""Each node × each rule of the pod's scheduler profile, and the smallest change that would let the pod run. Pure."""

from __future__ import annotations

import numpy as np

from orca.api.objects import Obj, is_terminating, uid
from orca.api.podphase import is_finished
from orca.api.selectors import Selector
from orca.explain.why.findings import Finding, NodeVerdict, Obstacle, Placement, World
from orca.explain.why.obstacles import obstacles
from orca.scheduler.filters import Task
from orca.scheduler.profile import DEFAULT, Profile
from orca.scheduler.snapshot import Snapshot


def snapshot_of(world: World, pod: Obj) -> Snapshot:
    """The cluster as the scheduler sees it when it looks for a node for a pod."""
    snapshot = Snapshot()
    for space in world.namespaces:
        snapshot.set_namespace(space)
    for node in world.nodes:
        snapshot.set_node(node)
    for claim in world.claims:
        snapshot.storage.set_claim(claim)
    for volume in world.volumes:
        snapshot.storage.set_volume(volume)
    for one in world.classes:
        snapshot.storage.set_class(one)
    for one in world.csi_nodes:
        snapshot.storage.set_csi_node(one)
    for other in world.pods:
        if is_finished(other):
            continue
        where, nominated = other["spec"].get("nodeName"), (other.get("status") or {}).get("nominatedNodeName")
        if where:
            snapshot.place(other, where)
        elif nominated and uid(other) != uid(pod) and not is_terminating(other) and _priority(other) >= _priority(pod):
            # Room that was made for others, who have not come yet, is theirs.
            snapshot.place(other, nominated, awaited=True)
    return snapshot


def _priority(pod: Obj) -> int:
    return int(pod["spec"].get("priority") or 0)


def judge(pod: Obj, world: World, profile: Profile = DEFAULT, siblings: Selector | None = None) -> Placement:
    """Put a pod that has no node to every rule of a profile on every node. ``siblings``: the selector by which a
    profile's own spread constraints count."""
    snapshot = snapshot_of(world, pod)
    task = Task.of(pod, siblings)
    if not snapshot.slots:
        return Placement(whole=(Finding("there is no node", "join a host: see the README"),))
    whole: dict[str, Finding] = {}
    failing: dict[int, list[Obstacle]] = {slot: [] for slot in snapshot.slots.values()}
    for rule in profile.filters:
        reasons: dict[int, list[str]] = {}
        for failure in rule.check(task, snapshot, snapshot.alive.copy()):
            if failure.whole:
                whole[failure.reason] = Finding(failure.reason)
                continue
            for slot in map(int, np.flatnonzero(failure.nodes)):
                reasons.setdefault(slot, []).append(failure.reason)
        for slot, told in reasons.items():
            if slot in failing:
                failing[slot] += obstacles(rule, told, task, snapshot, slot)
    verdicts, fits = [], []
    for node_name, slot in sorted(snapshot.slots.items()):
        if failing[slot]:
            verdicts.append(NodeVerdict(node_name, tuple(failing[slot])))
        else:
            fits.append(node_name)
    return Placement(tuple(verdicts), tuple(whole.values()), () if whole else tuple(fits))
