"""How often each probe came to which result, and how long the answers took: for `/metrics/probes`. Pure counting."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from agents.probes.outcome import Outcome
from agents.probes.tracker import Kind

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, as upstream's."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What is counted apart."""

    kind: Kind
    container: str
    pod: str
    namespace: str
    uid: str


@dataclass(slots=True)
class Counts:
    """``seconds`` and ``buckets`` (the last: longer than all) are of answers other than failures, as upstream."""

    successful: int = 0
    failed: int = 0
    unknown: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))


class Tally:
    """Of one agent since its start; pods that are gone are forgotten."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[Probed, Counts]] = {}

    def __repr__(self) -> str:
        return f"<Tally of {len(self._counts)} pods>"

    def count(self, probed: Probed, outcome: Outcome, seconds: float) -> None:
        """One try."""
        counts = self._counts.setdefault(probed.uid, {}).setdefault(probed, Counts())
        if outcome.unknown:
            counts.unknown += 1
        elif outcome.ok:
            counts.successful += 1
        else:
            counts.failed += 1
            return
        counts.seconds += seconds
        counts.buckets[bisect_left(BUCKETS, seconds)] += 1

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        self._counts.pop(pod_uid, None)

    def __iter__(self) -> Iterator[tuple[Probed, Counts]]:
        for by_probe in self._counts.values():
            yield from by_probe.items()
