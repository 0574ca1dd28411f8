"""LeastAllocated prefers empty nodes, BalancedAllocation nodes whose cpu and memory are used alike."""

from __future__ import annotations

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.scores.base import BEST
from orca.scheduler.snapshot import CPU, MEMORY, Floats, Rows, Snapshot


def least_allocated(task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
    """Mean free share of cpu and memory, pods without requests counted with kube-scheduler's non-zero amounts."""
    total = snapshot.allocatable[rows][:, (CPU, MEMORY)].astype(float)
    used = snapshot.nonzero[rows] + np.array(task.shape.nonzero)
    with np.errstate(divide="ignore", invalid="ignore"):
        free = np.where((total > 0) & (used <= total), (total - used) * BEST / total, 0.0)
    return free.mean(axis=1)


def balanced_allocation(task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
    """100 when both fractions are equal, 50 when one is full and the other empty."""
    requests = task.shape.requests
    if not requests.get("cpu") and not requests.get("memory"):
        return None
    total = snapshot.allocatable[rows][:, (CPU, MEMORY)].astype(float)
    used = snapshot.used[rows][:, (CPU, MEMORY)] + np.array((requests.get("cpu", 0), requests.get("memory", 0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        fractions = np.where(total > 0, np.minimum(used / total, 1.0), 1.0)
    return (1 - np.abs(fractions[:, 0] - fractions[:, 1]) / 2) * BEST
