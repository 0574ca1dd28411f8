"""Whom a pod would end on each node: worked out once for pods that are alike, and anew for a node that changed.

The best of many nodes is found by comparing columns of numbers, not victims one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orca.api.times import parse_time
from orca.scheduler.snapshot import Floats, Ints, Placed, Rows

COSTS = 5
FEW = 64


@dataclass(frozen=True, slots=True)
class Victims:
    """Who must go, the most important first. `cost`: budgets violated, the highest priority lost, all priority lost,
    pods lost, and then who of the most important has run longest (the later it started the better); smaller is
    better."""

    pods: tuple[Placed, ...]
    cost: tuple[float, ...]


def victims_of(pods: list[Placed], violations: int) -> Victims:
    """`violations`: how many of them a budget protects."""
    pods.sort(key=importance)
    priorities = [placed.priority for placed in pods]
    highest = max(priorities, default=-(2**31))
    total = sum(one + 2**31 for one in priorities)
    started = [placed.started for placed in pods if placed.priority == highest and placed.started]
    earliest = parse_time(min(started)).timestamp() if started else float("inf")
    return Victims(tuple(pods), (violations, highest, total, len(pods), -earliest))


def importance(placed: Placed) -> tuple[int, str, str]:
    """Sorts the most important first: by priority, then who runs longest; who has not started comes last."""
    return (-placed.priority, placed.started or "~", placed.key)


class Candidates:
    """What is known of each row, for pods of one shape, priority and profile."""

    def __init__(self, rows: int) -> None:
        self._seen: Ints = np.full(rows, -1, dtype=np.int64)
        self._possible = np.zeros(rows, dtype=bool)
        self._costs: Floats = np.zeros((COSTS, rows))
        self._victims: dict[int, Victims] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def best(self, rows: Rows, wanted: int, generation: Ints, tried: Callable[[int], Victims | None]) -> int:
        """Of the first `wanted` of `rows` where room can be made, the one where that costs least; -1 where it can be
        made nowhere. As long as only budgets would be violated, others are looked at. `tried(row)` answers who would go
        there, at most once as long as the row's `generation` stays."""
        found: list[Rows] = []
        count = at = 0
        harmless = False
        while at < len(rows) and (count < wanted or not harmless):
            some = rows[at : at + (wanted - count if count < wanted else FEW)]
            at += len(some)
            for row in some[self._seen[some] != generation[some]].tolist():
                self._take(row, tried(row))
                # Trying may take pods away and put them back: the row has a new generation then, and the same pods.
                self._seen[row] = generation[row]
            possible = some[self._possible[some]]
            if count >= wanted:
                # One more that harms nobody's budget, and no further.
                unharmed = np.flatnonzero(self._costs[0, possible] == 0)
                possible = possible[: unharmed[0] + 1] if len(unharmed) else possible
            count += len(possible)
            found.append(possible)
            harmless = harmless or bool((self._costs[0, possible] == 0).any())
        return self._least(np.concatenate(found)) if count else -1

    def victims(self, row: int) -> tuple[Placed, ...]:
        """Who would go from a row that `best` has named."""
        return self._victims[row].pods

    def _take(self, row: int, victims: Victims | None) -> None:
        self._possible[row] = victims is not None
        if victims is None:
            self._victims.pop(row, None)
        else:
            self._victims[row] = victims
            self._costs[:, row] = victims.cost

    def _least(self, rows: Rows) -> int:
        """The first of those that nothing is better than."""
        for column in self._costs:
            costs = column[rows]
            rows = rows[costs == costs.min()]
            if len(rows) == 1:
                break
        return int(rows[0])
