"""TaintToleration prefers nodes with the fewest PreferNoSchedule taints the pod does not tolerate."""

from __future__ import annotations

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.filters.taint_toleration import untolerated
from orca.scheduler.scores.base import scaled
from orca.scheduler.snapshot import Floats, Rows, Snapshot


def taint_toleration(task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
    """None when no node has such a taint."""

    def answer() -> Floats:
        listed = [one for one in task.shape.tolerations if one.get("effect") in (None, "", "PreferNoSchedule")]
        return np.fromiter(
            (
                len(untolerated(listed, node, ("PreferNoSchedule",))) if node is not None else 0
                for node in snapshot.nodes
            ),
            dtype=float,
            count=snapshot.size,
        )

    return scaled(snapshot.remembered(task.shape, "PreferNoSchedule", answer)[rows], reverse=True)
