"""NodeVolumeLimits: no more volumes of a CSI driver on a node than its CSINode says that it can have attached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from orca.scheduler.filters.base import Failure, Filter, Task
from orca.scheduler.snapshot import Mask, Snapshot
from orca.scheduler.volumes import claim_keys


class NodeVolumeLimits(Filter):
    name = "NodeVolumeLimits"

    def concerns(self, task: Task, snapshot: Snapshot) -> bool:
        return bool(self._wanted(task, snapshot))

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        wanted = self._wanted(task, snapshot)
        if not wanted:
            return
        failed = np.zeros(snapshot.size, dtype=bool)
        for node in snapshot.storage.limits:
            slot = snapshot.slots.get(node)
            if slot is not None and among[slot]:
                failed[slot] = not _room(wanted, snapshot, node)
        yield Failure(failed, "node(s) exceed max volume count", final=False)

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        wanted, node = self._wanted(task, snapshot), snapshot.nodes[slot]
        return not wanted or node is None or _room(wanted, snapshot, node.name)

    @staticmethod
    def _wanted(task: Task, snapshot: Snapshot) -> dict[str, str]:
        if not snapshot.storage.limits:
            return {}
        return snapshot.storage.attached(claim_keys(task.pod))


def _room(wanted: Mapping[str, str], snapshot: Snapshot, node: str) -> bool:
    """`wanted`: volume -> driver."""
    limits = snapshot.storage.limits.get(node)
    if not limits:
        return True
    there: dict[str, str] = {}
    for placed in snapshot.by_node.get(node, {}).values():
        if placed.claims:
            there.update(snapshot.storage.attached(placed.claims))
    new = {volume: driver for volume, driver in wanted.items() if volume not in there}
    for driver in set(new.values()):
        limit = limits.get(driver)
        used = sum(1 for one in there.values() if one == driver)
        if limit is not None and used + sum(1 for one in new.values() if one == driver) > limit:
            return False
    return True
