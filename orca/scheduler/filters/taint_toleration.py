"""TaintToleration: NoSchedule and NoExecute taints keep away pods that do not tolerate them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orca.api.objects import Obj
from orca.scheduler.filters.base import Failure, Task
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
    kept_away = np.zeros(snapshot.size, dtype=bool)
    for nodes in _by_taint(task, snapshot).values():
        kept_away |= nodes
    return snapshot.alive & ~kept_away


def _by_taint(task: Task, snapshot: Snapshot) -> dict[str, Mask]:
    """Text of the first untolerated taint -> rows that have it."""

    def answer() -> dict[str, Mask]:
        found: dict[str, Mask] = {}
        for slot, node in enumerate(snapshot.nodes):
            if node is None or not node.taints:
                continue
            taints = untolerated(task.shape.tolerations, node)
            if taints:
                text = f"{{{taints[0]['key']}: {taints[0].get('value') or ''}}}"
                found.setdefault(text, np.zeros(snapshot.size, dtype=bool))[slot] = True
        return found

    return snapshot.remembered(task.shape, "TaintToleration", answer)


class TaintToleration:
    name = "TaintToleration"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        for text, nodes in _by_taint(task, snapshot).items():
            yield Failure(nodes & among, f"node(s) had untolerated taint {text}", final=True)
