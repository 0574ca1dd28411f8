"""What every filter is given and answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from orca.api.objects import Obj, key, labels, namespace
from orca.api.selectors import Selector
from orca.scheduler.shape import Shape, shape_of
from orca.scheduler.snapshot import Mask, Node, Snapshot


@dataclass(slots=True)
class Task:
    """One pod to be placed. `default_selector` finds its siblings when it names no spread constraints of its own."""

    pod: Obj
    shape: Shape
    default_selector: Selector | None = None
    key: str = field(init=False)
    namespace: str = field(init=False)
    labels: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.key, self.namespace, self.labels = key(self.pod), namespace(self.pod), labels(self.pod)

    @classmethod
    def of(cls, pod: Obj, default_selector: Selector | None = None) -> Task:
        return cls(pod, shape_of(pod), default_selector)


@dataclass(frozen=True, slots=True)
class Failure:
    """Nodes (rows) that fail for one reason. `final`: removing other pods from them would not help; `whole`: the reason
    is the pod's and no node's, so it is told once and without a number."""

    nodes: Mask
    reason: str
    final: bool
    whole: bool = False


class Filter(ABC):
    """One rule, by the name of kube-scheduler's plugin."""

    name: str
    alone = False
    """Whether what it says depends on nothing but the node, its pods and the pod's shape."""
    by_pods = True
    """Whether it may say something else of a node once pods have left it."""

    def concerns(self, task: Task, snapshot: Snapshot) -> bool:
        """Whether it has anything to say about a pod."""
        return True

    @abstractmethod
    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        """The nodes among `among` that fail; a node may be named with several reasons."""

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        """Whether one node passes: `check` for a single row, which rules make cheaper that are asked often."""
        only = np.zeros(snapshot.size, dtype=bool)
        only[slot] = True
        return not any(failure.nodes[slot] for failure in self.check(task, snapshot, only))


def where(snapshot: Snapshot, holds: Callable[[Node], bool]) -> Mask:
    """Rows whose node a condition holds for."""
    return np.fromiter((node is not None and holds(node) for node in snapshot.nodes), dtype=bool, count=snapshot.size)
