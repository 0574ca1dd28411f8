"""NodeAffinity: spec.nodeSelector and required node affinity."""

from __future__ import annotations

from collections.abc import Iterable

from orca.scheduler.filters.base import Failure, Task, where
from orca.scheduler.shape import Shape
from orca.scheduler.snapshot import Mask, Node, Snapshot


def wanted_nodes(shape: Shape, snapshot: Snapshot) -> Mask:
    """Rows that node selector and required affinity allow."""

    def allowed(node: Node) -> bool:
        if not all(one.matches(node.labels) for one in shape.selector):
            return False
        terms = shape.required_nodes
        return terms is None or any(term.matches(node.name, node.labels) for term in terms)

    if not shape.selector and shape.required_nodes is None:
        return snapshot.alive
    return snapshot.remembered(shape, "NodeAffinity", lambda: where(snapshot, allowed))


class NodeAffinity:
    name = "NodeAffinity"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        failed = among & ~wanted_nodes(task.shape, snapshot)
        yield Failure(failed, "node(s) didn't match Pod's node affinity/selector", final=True)
