"""NodeName: a pod that names its node runs there or nowhere. Such pods are bound already and seldom come here."""

from __future__ import annotations

from collections.abc import Iterable

from orca.scheduler.filters.base import Failure, Filter, Task, where
from orca.scheduler.snapshot import Mask, Snapshot


class NodeName(Filter):
    name = "NodeName"
    by_pods = False

    def concerns(self, task: Task, snapshot: Snapshot) -> bool:
        return bool(task.pod["spec"].get("nodeName"))

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        wanted = task.pod["spec"].get("nodeName")
        if wanted:
            others = where(snapshot, lambda node: node.name != wanted)
            yield Failure(others & among, "node(s) didn't match the requested node name", final=True)

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        node, wanted = snapshot.nodes[slot], task.pod["spec"].get("nodeName")
        return node is not None and (not wanted or node.name == wanted)
