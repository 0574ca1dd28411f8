"""TaintToleration: NoSchedule and NoExecute taints keep away pods that do not tolerate them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orca.api.objects import Obj
from orca.scheduler.filters.base import Failure, Filter, Task
from orca.scheduler.snapshot import Mask, Node, Snapshot

KEEPING_AWAY = ("NoSchedule", "NoExecute")


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """Reference: k8s.io/api core/v1 Toleration.ToleratesTaint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(tolerations: Iterable[Obj], node: Node, effects: tuple[str, ...] = KEEPING_AWAY) -> list[Obj]:
    """Taints of a node with one of `effects` that nothing tolerates."""
    listed = tuple(tolerations)
    return [
        taint
        for taint in node.taints
        if taint.get("effect") in effects and not any(tolerates(one, taint) for one in listed)
    ]


def tolerated_nodes(task: Task, snapshot: Snapshot) -> Mask:
    """Rows without a taint that keeps the pod away."""
    return snapshot.alive & ~_kept_away(task, snapshot)


def _kept_away(task: Task, snapshot: Snapshot) -> Mask:
    """Rows with a taint that the pod does not tolerate."""

    def answer() -> Mask:
        found: Mask = np.zeros(snapshot.size, dtype=bool)
        for slot, node in enumerate(snapshot.nodes):
            if node is not None and node.taints and untolerated(task.shape.tolerations, node):
                found[slot] = True
        return found

    return snapshot.remembered(task.shape, "TaintToleration", answer)


class TaintToleration(Filter):
    name = "TaintToleration"
    alone = True
    by_pods = False

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        # Which taint is told to nobody: its key and value are the administrators' (upstream since v1.34).
        yield Failure(_kept_away(task, snapshot) & among, "node(s) had untolerated taint(s)", final=True)

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        node = snapshot.nodes[slot]
        return node is not None and not untolerated(task.shape.tolerations, node)
