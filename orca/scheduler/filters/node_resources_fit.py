"""NodeResourcesFit: what a pod requests must be free, and there must be room for one more pod."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from orca.scheduler.filters.base import Failure, Filter, Task
from orca.scheduler.shape import Requests
from orca.scheduler.snapshot import PODS, RESOURCES, Mask, Rows, Snapshot


class NodeResourcesFit(Filter):
    """Of extended resources those in `ignored`, and those whose part before the slash is in `ignored_groups`, are
    somebody else's business."""

    name = "NodeResourcesFit"
    alone = True

    def __init__(self, ignored: frozenset[str] = frozenset(), ignored_groups: frozenset[str] = frozenset()) -> None:
        self._ignored = ignored
        self._groups = ignored_groups

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        # Mostly few nodes changed since a pod of this shape was looked at, and mostly all that are left have room.
        fits = snapshot.kept(task.shape, (self.name, self._ignored, self._groups), partial(self._room, task, snapshot))
        if not (among & ~fits).any():
            return
        full = among & (snapshot.used[:, PODS] + 1 > snapshot.allocatable[:, PODS])
        yield Failure(full, "Too many pods", final=False)
        for resource, amount in task.shape.requests.items():
            if self._ignores(resource):
                continue
            column = snapshot.column(resource)
            allocatable = snapshot.allocatable[:, column]
            short = among & (snapshot.used[:, column] + amount > allocatable)
            if not short.any():
                continue
            never = short & (amount > allocatable)
            # Told as one reason, but a node that is too small even when empty cannot be helped by preemption.
            if never.any():
                yield Failure(never, f"Insufficient {resource}", final=True)
            yield Failure(short & ~never, f"Insufficient {resource}", final=False)

    def _room(self, task: Task, snapshot: Snapshot, rows: Rows) -> Mask:
        fits: Mask = snapshot.used[rows, PODS] + 1 <= snapshot.allocatable[rows, PODS]
        for resource, amount in task.shape.requests.items():
            if not self._ignores(resource):
                column = snapshot.column(resource)
                fits &= snapshot.used[rows, column] + amount <= snapshot.allocatable[rows, column]
        return fits

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        used, allocatable = snapshot.used[slot].tolist(), snapshot.allocatable[slot].tolist()
        if used[PODS] + 1 > allocatable[PODS]:
            return False
        for resource, amount in task.shape.requests.items():
            if self._ignores(resource):
                continue
            column = snapshot.column(resource)
            # A column that is new was unknown to all nodes.
            if column >= len(used) or used[column] + amount > allocatable[column]:
                return False
        return True

    def asked(self, task: Task) -> Requests:
        """What has to be free, besides the place of one pod."""
        return {resource: amount for resource, amount in task.shape.requests.items() if not self._ignores(resource)}

    def _ignores(self, resource: str) -> bool:
        if resource in RESOURCES:
            return False
        return resource in self._ignored or resource.partition("/")[0] in self._groups
