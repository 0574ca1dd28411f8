"""How full a node would be: NodeResourcesFit's strategies, and NodeResourcesBalancedAllocation.

Reference: kube-scheduler's ``noderesources`` plugins (the formulas).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.scores.base import BEST, Alone
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


@dataclass(frozen=True)
class Allocation(Alone):
    """The weighted mean of what the strategy says of each resource. Pods that request no cpu or memory are counted with
    kube-scheduler's non-zero amounts."""

    strategy: FitStrategy = SCORED

    def rows(self, task: Task, snapshot: Snapshot, rows: Rows) -> Floats:
        strategy = self.strategy
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

    def row(self, task: Task, snapshot: Snapshot, slot: int) -> float:
        strategy = self.strategy
        if strategy.type == RATIO:
            return float(self.rows(task, snapshot, np.array([slot]))[0])
        points, weights = 0.0, 0
        for resource, weight in strategy.resources:
            asked = task.shape.requests.get(resource, 0)
            if not asked and resource not in RESOURCES:
                continue
            column = snapshot.column(resource)
            total = float(snapshot.allocatable.item(slot, column))
            if total <= 0:
                continue
            if column in (CPU, MEMORY):
                used = snapshot.nonzero.item(slot, column) + float(task.shape.nonzero[column])
            else:
                used = snapshot.used.item(slot, column) + float(asked)
            if strategy.type == LEAST:
                rated = 0 if used > total else math.floor((total - used) * BEST / total)
            else:
                rated = math.floor(min(used, total) * BEST / total)
            points += rated * weight
            weights += weight
        return float(math.floor(points / max(weights, 1)))


@dataclass(frozen=True)
class BalancedAllocation(Alone):
    """100 when the resources' fractions are equal, 50 when one of two is full and the other empty: 1 - deviation. All
    nodes are alike to a pod that requests none of them."""

    resources: tuple[tuple[str, int], ...] = CPU_AND_MEMORY

    def __call__(self, task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
        return self.rows(task, snapshot, rows) if self._concerns(task) else None

    def _concerns(self, task: Task) -> bool:
        return any(task.shape.requests.get(resource) for resource, _ in self.resources)

    def rows(self, task: Task, snapshot: Snapshot, rows: Rows) -> Floats:
        if not self._concerns(task):
            return np.zeros(len(rows))
        requests = task.shape.requests
        fractions, present = [], []
        for resource, _ in self.resources:
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

    def row(self, task: Task, snapshot: Snapshot, slot: int) -> float:
        if not self._concerns(task):
            return 0.0
        requests = task.shape.requests
        fractions = []
        for resource, _ in self.resources:
            asked = requests.get(resource, 0)
            if not asked and resource not in RESOURCES:
                continue
            column = snapshot.column(resource)
            total = float(snapshot.allocatable.item(slot, column))
            if total > 0:
                fractions.append(min((snapshot.used.item(slot, column) + float(asked)) / total, 1.0))
        count = max(len(fractions), 1)
        mean = sum(fractions) / count
        return (1 - math.sqrt(sum((one - mean) * (one - mean) for one in fractions) / count)) * BEST


allocation = Allocation()
balanced_allocation = BalancedAllocation()
