"""What every score is given and answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.snapshot import Floats, Rows, Snapshot

BEST = 100.0


@dataclass(frozen=True, slots=True)
class Score:
    """`rate(task, snapshot, rows)` gives 0 to 100 for each of `rows` (indices); None: all are alike."""

    name: str
    weight: int
    rate: Callable[[Task, Snapshot, Rows], Floats | None]


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
