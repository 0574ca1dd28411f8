"""How often and how fast rules were written: for ``/metrics/proxy``. Pure counting, under kube-proxy's names.

Reference: k8s.io/kubernetes ``pkg/proxy/metrics``.
"""

from __future__ import annotations

import datetime
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orca.api.objects import Obj
from orca.api.objects import annotations as annotations_of

SYNC_BUCKETS = tuple(0.001 * 2**power for power in range(15))
PROGRAMMING_BUCKETS = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 330, 30))
"""Upper bounds in seconds, as upstream's."""
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(slots=True)
class Durations:
    """``buckets`` has one more than ``bounds``: longer than all."""

    bounds: Sequence[float]
    buckets: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, seconds: float) -> None:
        if not self.buckets:
            self.buckets = [0] * (len(self.bounds) + 1)
        self.buckets[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True)
class SyncTally:
    """Of one proxy, since it began."""

    syncs: Durations = field(default_factory=lambda: Durations(SYNC_BUCKETS))
    programming: Durations = field(default_factory=lambda: Durations(PROGRAMMING_BUCKETS))
    """From the change of a pod or Service, as EndpointSlices tell of it, to the rules."""
    service_changes: int = 0
    endpoint_changes: int = 0
    failures: int = 0
    last_queued: float = 0.0
    last_synced: float = 0.0
    """Unix times."""
    _triggers: set[str] = field(default_factory=set)

    def slice_changed(self, endpoint_slice: Obj, *, known: bool) -> None:
        """``known``: the proxy has written rules before, so that it can be late."""
        self.endpoint_changes += 1
        if known and (when := annotations_of(endpoint_slice).get(TRIGGER)):
            self._triggers.add(when)

    def synced(self, seconds: float, now: float) -> None:
        """All changes so far are in the kernel, at the unix time ``now``."""
        self.syncs.count(seconds)
        self.last_synced = now
        for when in _times(self._triggers):
            self.programming.count(max(0.0, now - when))
        self._triggers.clear()


def _times(texts: Iterable[str]) -> Iterable[float]:
    for text in texts:
        try:
            yield datetime.datetime.fromisoformat(text).timestamp()
        except ValueError:
            continue
