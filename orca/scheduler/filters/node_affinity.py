"""NodeAffinity: spec.nodeSelector and required node affinity, and what a profile adds to every pod's."""

from __future__ import annotations

from collections.abc import Iterable

from orca.scheduler.filters.base import Failure, Filter, Task, where
from orca.scheduler.shape import NodeTerm, Shape
from orca.scheduler.snapshot import Mask, Node, Snapshot

ENFORCED = "node(s) didn't match scheduler-enforced node affinity"
UNMET = "node(s) didn't match Pod's node affinity/selector"


def _allowed(shape: Shape, node: Node) -> bool:
    if not all(one.matches(node.labels) for one in shape.selector):
        return False
    terms = shape.required_nodes
    return terms is None or any(term.matches(node.name, node.labels) for term in terms)


def wanted_nodes(shape: Shape, snapshot: Snapshot) -> Mask:
    """Rows that node selector and required affinity allow."""
    if not shape.selector and shape.required_nodes is None:
        return snapshot.alive
    return snapshot.remembered(shape, "NodeAffinity", lambda: where(snapshot, lambda node: _allowed(shape, node)))


class NodeAffinity(Filter):
    """`added`: terms of the profile's ``addedAffinity``, one of which a node has to meet as well; None: none."""

    name = "NodeAffinity"
    alone = True
    by_pods = False

    def __init__(self, added: tuple[NodeTerm, ...] | None = None) -> None:
        self._added = added

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        if self._added is not None:
            question = f"added {hash(self._added)}"
            unmet = among & ~snapshot.remembered(task.shape, question, lambda: where(snapshot, self._enforced))
            yield Failure(unmet, ENFORCED, final=True)
            among = among & ~unmet
        yield Failure(among & ~wanted_nodes(task.shape, snapshot), UNMET, final=True)

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        node = snapshot.nodes[slot]
        return node is not None and self._enforced(node) and _allowed(task.shape, node)

    def _enforced(self, node: Node) -> bool:
        return self._added is None or any(term.matches(node.name, node.labels) for term in self._added)
