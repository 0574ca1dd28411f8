"""What became of requests for images: for `/metrics`. Pure counting, under the names of a kubelet."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

PULL_BUCKETS = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
"""Upper bounds in seconds, as upstream's."""
_MIB, _GIB = 1 << 20, 1 << 30
_SIZES = (
    (100 * _GIB, "GT100GB"),
    (60 * _GIB, "60GB-100GB"),
    (40 * _GIB, "40GB-60GB"),
    (30 * _GIB, "30GB-40GB"),
    (20 * _GIB, "20GB-30GB"),
    (10 * _GIB, "10GB-20GB"),
    (5 * _GIB, "5GB-10GB"),
    (1 * _GIB, "1GB-5GB"),
    (500 * _MIB, "500MB-1GB"),
    (100 * _MIB, "100MB-500MB"),
    (10 * _MIB, "10MB-100MB"),
    (0, "0-10MB"),
)


@dataclass(slots=True)
class Durations:
    """``buckets`` has one more than `PULL_BUCKETS`: longer than all."""

    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(PULL_BUCKETS) + 1))


@dataclass(slots=True)
class ImageTally:
    """Since the agent started."""

    pulls: dict[str, Durations] = field(default_factory=dict)
    """By `size_class`."""
    ensured: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(pull policy, present locally, pull required) -> how often an image was asked for."""
    collected: Counter[str] = field(default_factory=Counter)
    """``age`` or ``space`` -> images thrown away."""

    def pulled(self, seconds: float, size: int) -> None:
        """A pull that succeeded, waiting included."""
        durations = self.pulls.setdefault(size_class(size), Durations())
        durations.seconds += seconds
        durations.buckets[bisect_left(PULL_BUCKETS, seconds)] += 1

    def asked(self, policy: str, present: bool | None, pull: bool | None) -> None:
        """An image was to be there; None for what was not found out."""
        self.ensured[policy.lower(), _word(present), _word(pull)] += 1


def size_class(size: int) -> str:
    """Upstream's name for how large an image is."""
    return next((label for least, label in _SIZES if size > least), "N/A")


def _word(known: bool | None) -> str:
    return "unknown" if known is None else str(known).lower()
