"""How many seats and requests there were at a level over time: for lending and borrowing, and for metrics. Pure.

Nothing is computed when a request comes or goes: only the time that passed in each state is added up.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

_SMOOTHING = 0.977
"""Of upstream: at one period of ten seconds, half of an old demand is forgotten after five minutes."""
_NANOSECONDS = 1e9
DEMANDED = (0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.7, 2, 2.8, 4, 6)
SEATED = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
REQUESTED = (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1)


class Shares:
    """A histogram of ratios weighted by time, as upstream's: one observation each nanosecond."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0.0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, ratio: float, seconds: float) -> None:
        """It was so for so long."""
        self._counts[bisect_left(self._bounds, ratio)] += seconds
        self.total += ratio * seconds * _NANOSECONDS

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, how many up to it), as the exposition wants them."""
        found: list[tuple[str, float]] = []
        so_far = 0.0
        for bound, seconds in zip([*(f"{one:g}" for one in self._bounds), "+Inf"], self._counts, strict=True):
            so_far += seconds
            found.append((bound, float(int(so_far * _NANOSECONDS))))
        return found


class Demand:
    """Of one level. ``high``, ``average``, ``deviation``, ``smoothed`` and ``target`` are of the last period."""

    __slots__ = (
        "_area",
        "_area2",
        "_at",
        "_peak",
        "_since",
        "_spent",
        "average",
        "demanded",
        "deviation",
        "high",
        "requested",
        "seated",
        "smoothed",
        "target",
        "waited",
    )

    def __init__(self) -> None:
        self._spent: defaultdict[tuple[int, int, int, int], float] = defaultdict(float)
        self._area = self._area2 = 0.0
        self._peak = 0
        self._at = self._since = 0.0
        self.high = 0
        self.average = self.deviation = self.smoothed = self.target = 0.0
        self.demanded, self.seated = Shares(DEMANDED), Shares(SEATED)
        self.requested, self.waited = Shares(REQUESTED), Shares(REQUESTED)

    def begin(self, now: float) -> None:
        """What was before does not count."""
        self._at = self._since = now

    def note(self, seats: int, requests: int, waiting_seats: int, waiting: int, now: float) -> None:
        """Until now it were so many: seats taken, requests that run, seats waited for, requests that wait."""
        passed = now - self._at
        if passed > 0:  # a request's time is that of its beginning, and another one may have ended since
            self._spent[seats, requests, waiting_seats, waiting] += passed
            self._at = now

    def fold(self, nominal: int, limit: int, capacity: int) -> None:
        """Before these change, or somebody wants to know: a level's seats before and after lending and borrowing, and
        how many requests its queues hold."""
        for (seats, requests, waiting_seats, waiting), seconds in self._spent.items():
            wanted = seats + waiting_seats
            self._area += wanted * seconds
            self._area2 += wanted * wanted * seconds
            self._peak = max(self._peak, wanted)
            self.demanded.add(wanted / max(nominal, 1), seconds)
            self.seated.add(seats / max(limit, 1), seconds)
            self.requested.add(requests / max(limit, 1), seconds)
            self.waited.add(waiting / max(capacity, 1), seconds)
        self._spent.clear()

    def close(self, wanted: int) -> None:
        """Ends a period that is folded, with so many seats wanted now; another one begins."""
        length = self._at - self._since
        self.average = self._area / length if length > 0 else 0.0
        variance = self._area2 / length - self.average * self.average if length > 0 else 0.0
        self.deviation = math.sqrt(max(variance, 0.0))
        envelope = self.average + self.deviation
        self.smoothed = max(envelope, _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * envelope)
        self.high = max(self._peak, wanted)
        self._area = self._area2 = 0.0
        self._since, self._peak = self._at, wanted
