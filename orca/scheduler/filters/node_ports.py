"""NodePorts: two pods cannot have the same host port; 0.0.0.0 is every address."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orca.scheduler.filters.base import Failure, Filter, Task
from orca.scheduler.shape import HostPort
from orca.scheduler.snapshot import Mask, Snapshot

EVERYWHERE = ("0.0.0.0", "", "::")


def clash(wanted: HostPort, taken: HostPort) -> bool:
    """Whether both cannot be on one node."""
    if wanted[1:] != taken[1:]:
        return False
    return wanted[0] == taken[0] or wanted[0] in EVERYWHERE or taken[0] in EVERYWHERE


class NodePorts(Filter):
    name = "NodePorts"
    alone = True

    def concerns(self, task: Task, snapshot: Snapshot) -> bool:
        return bool(task.shape.ports)

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        wanted = task.shape.ports
        if not wanted:
            return
        failed = np.zeros(snapshot.size, dtype=bool)
        for slot in np.flatnonzero(among):
            taken = snapshot.ports[slot]
            failed[slot] = bool(taken) and any(clash(one, other) for one in wanted for other in taken)
        yield Failure(failed, "node(s) didn't have free ports for the requested pod ports", final=False)

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        taken = snapshot.ports[slot]
        return not taken or not any(clash(one, other) for one in task.shape.ports for other in taken)
