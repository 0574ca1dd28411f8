"""NodeUnschedulable: cordoned nodes take only pods that tolerate the cordon's taint."""

from __future__ import annotations

from collections.abc import Iterable

from orca.api.objects import Obj
from orca.scheduler.filters.base import Failure, Filter, Task, where
from orca.scheduler.filters.taint_toleration import tolerates
from orca.scheduler.snapshot import Mask, Snapshot

CORDON: Obj = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class NodeUnschedulable(Filter):
    name = "NodeUnschedulable"
    alone = True
    by_pods = False

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        if any(tolerates(one, CORDON) for one in task.shape.tolerations):
            return
        cordoned = snapshot.remembered(task.shape, self.name, lambda: where(snapshot, lambda node: node.unschedulable))
        yield Failure(cordoned & among, "node(s) were unschedulable", final=True)

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        node = snapshot.nodes[slot]
        return node is not None and (
            not node.unschedulable or any(tolerates(one, CORDON) for one in task.shape.tolerations)
        )
