"""How full a node would be: NodeResourcesFit's strategies, and NodeResourcesBalancedAllocation.

Reference: kube-scheduler's ``noderesources`` plugins (the formulas).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.scores.base import BEST
from orca.scheduler.snapshot import CPU, MEMORY, RESOURCES, Floats, Rows, Snapshot

CPU_AND_MEMORY = (("cpu", 1), ("memory", 1))
LEAST, MOST, RATIO = "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"


@dataclass(frozen=True, slots=True)
class FitStrategy:
    """``scoringStrategy``: (resource, weight) of each that counts; `shape`: (percent used, 0 to 10), rising, of
    RequestedToCapacityRatio."""

    type: str = LEAST
    resources: tuple[tuple[str, int], ...] = CPU_AND_MEMORY
    shape: tuple[tuple[int, int], ...] = ()


SCORED = FitStrategy()


def allocation(task: Task, snapshot: Snapshot, rows: Rows, strategy: FitStrategy = SCORED) -> Floats | None:
    """The weighted mean of what the strategy says of each resource. Pods that request no cpu or memory are counted with
    kube-scheduler's non-zero amounts."""
    return snapshot.kept(task.shape, strategy, partial(_allocation, task, snapshot, strategy))[rows]


def _allocation(task: Task, snapshot: Snapshot, strategy: FitStrategy, rows: Rows) -> Floats:
    points: Floats = np.zeros(len(rows))
    weights: Floats = np.zeros(len(rows))
    for resource, weight in strategy.resources:
        asked = task.shape.requests.get(resource, 0)
        if not asked and resource not in RESOURCES:
            continue
        column = snapshot.column(resource)
        total = snapshot.allocatable[rows, column].astype(float)
        if column in (CPU, MEMORY):
            used = snapshot.nonzero[rows, column] + float(task.shape.nonzero[column])
        else:
            used = snapshot.used[rows, column] + float(asked)
        has = total > 0
        safe = np.where(has, total, 1.0)
        if strategy.type == LEAST:
            rated = np.floor((total - used) * BEST / safe)
            rated[used > total] = 0.0
        elif strategy.type == MOST:
            rated = np.floor(np.minimum(used, total) * BEST / safe)
        else:
            utilization = np.where(used > total, BEST, np.floor(used * BEST / safe))
            known, scores = zip(*strategy.shape, strict=True)
            rated = np.trunc(np.interp(utilization, known, np.array(scores) * (BEST / 10)))
            has &= rated > 0
        points += np.where(has, rated * weight, 0.0)
        weights += np.where(has, weight, 0)
    mean = points / np.maximum(weights, 1)
    return np.floor(mean + 0.5) if strategy.type == RATIO else np.floor(mean)


def balanced_allocation(
    task: Task, snapshot: Snapshot, rows: Rows, resources: tuple[tuple[str, int], ...] = CPU_AND_MEMORY
) -> Floats | None:
    """100 when the resources' fractions are equal, 50 when one of two is full and the other empty: 1 - deviation."""
    requests = task.shape.requests
    if not any(requests.get(resource) for resource, _ in resources):
        return None
    question = ("balanced", resources)
    return snapshot.kept(task.shape, question, partial(_balanced, task, snapshot, resources))[rows]


def _balanced(task: Task, snapshot: Snapshot, resources: tuple[tuple[str, int], ...], rows: Rows) -> Floats:
    requests = task.shape.requests
    fractions, present = [], []
    for resource, _ in resources:
        asked = requests.get(resource, 0)
        if not asked and resource not in RESOURCES:
            continue
        column = snapshot.column(resource)
        total = snapshot.allocatable[rows, column].astype(float)
        has = total > 0
        used = snapshot.used[rows, column] + float(asked)
        fractions.append(np.where(has, np.minimum(used / np.where(has, total, 1.0), 1.0), 0.0))
        present.append(has)
    count = np.maximum(np.sum(present, axis=0), 1)
    mean = np.sum(fractions, axis=0) / count
    spread = sum(np.where(has, (one - mean) ** 2, 0.0) for one, has in zip(fractions, present, strict=True))
    return np.asarray((1 - np.sqrt(spread / count)) * BEST)
