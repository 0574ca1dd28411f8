"""NodeResourcesFit: what a pod requests must be free, and there must be room for one more pod."""

from __future__ import annotations

from collections.abc import Iterable

from orca.scheduler.filters.base import Failure, Task
from orca.scheduler.snapshot import PODS, Mask, Snapshot


class NodeResourcesFit:
    name = "NodeResourcesFit"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        full = among & (snapshot.used[:, PODS] + 1 > snapshot.allocatable[:, PODS])
        yield Failure(full, "Too many pods", final=False)
        for resource, amount in task.shape.requests.items():
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
