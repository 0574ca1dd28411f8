"""What every score is given and answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.snapshot import Floats, Rows, Snapshot

BEST = 100.0


Rate = Callable[[Task, Snapshot, Rows], Floats | None]
"""(pod, cluster, rows) -> 0 to 100 for each of the rows; None: all are alike."""


class Alone(ABC):
    """A rate that depends on nothing but a node and its pods. Of one node it is worked out without numpy, whose calls
    cost more than what they do there; both ways come to the very same number."""

    @abstractmethod
    def rows(self, task: Task, snapshot: Snapshot, rows: Rows) -> Floats:
        """0 to 100 for each row."""

    @abstractmethod
    def row(self, task: Task, snapshot: Snapshot, slot: int) -> float:
        """Of one row."""

    def __call__(self, task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
        return self.rows(task, snapshot, rows)


@dataclass(frozen=True, slots=True)
class Score:
    """A rate by the name of kube-scheduler's plugin, and how much it counts."""

    name: str
    weight: int
    rate: Rate
    speaks: Callable[[Task, Snapshot], bool] | None = None
    """Whether the rate may tell nodes apart for a pod at all; None: it always may."""


def scaled(values: Floats, *, reverse: bool = False) -> Floats | None:
    """Values from 0 on, in proportion to the largest; with `reverse` the largest gets 0."""
    most = values.max(initial=0)
    if most <= 0:
        return None
    shares = values * (BEST / most)
    return BEST - shares if reverse else shares


def stretched(values: Floats) -> Floats | None:
    """Values of either sign, stretched so that the least gets 0 and the most 100."""
    least, most = values.min(initial=np.inf), values.max(initial=-np.inf)
    if most <= least:
        return None
    return (values - least) * (BEST / (most - least))
