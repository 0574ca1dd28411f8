"""How long pods took until they ran. Pure counting."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

_SECONDS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45)
_MINUTES = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
START_BUCKETS = (*_SECONDS, *(minutes * 60 for minutes in _MINUTES))
"""Upper bounds in seconds, as upstream's."""


@dataclass(slots=True)
class Seconds:
    """``buckets`` has one more than `START_BUCKETS`: longer than all."""

    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(START_BUCKETS) + 1))

    def count(self, seconds: float) -> None:
        """One pod that runs now for the first time."""
        self.seconds += seconds
        self.buckets[bisect_left(START_BUCKETS, seconds)] += 1


@dataclass(slots=True)
class Starts(Seconds):
    """Itself from being handed on here to running; ``total`` from creation to being seen to run, ``own`` that without
    pulls and init containers."""

    total: Seconds = field(default_factory=Seconds)
    own: Seconds = field(default_factory=Seconds)
    first_network: float | None = None
    """``own`` of the first pod that is not on the host's network."""
