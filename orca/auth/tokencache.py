"""How often bearer tokens were known already, and how long it took to find out about the others.

Reference: k8s.io/apiserver ``pkg/authentication/token/cache/stats.go`` (names).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

_PREFIX = "authentication_token_cache"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class TokenCacheStats:
    """One per server, for all who remember tokens. A hit is a look into memory, of no time that could be told."""

    def __init__(self) -> None:
        self.hits = 0
        self.good = 0
        self.bad = 0
        self.fetching = 0
        self.waiting = 0
        self._misses = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0

    def fetched(self, seconds: float, good: bool) -> None:
        """It was found out about a token; ``good`` when that did not fail."""
        if good:
            self.good += 1
        else:
            self.bad += 1
        self.missed(seconds)

    def missed(self, seconds: float) -> None:
        """Somebody had to wait for that."""
        self._misses[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        requests = CounterMetricFamily(f"{_PREFIX}_request", "Tokens by whether they were known.", labels=("status",))
        times = HistogramMetricFamily(
            f"{_PREFIX}_request_duration_seconds", "Time until a token was known.", labels=("status",)
        )
        for status, buckets, seconds in (
            ("hit", [self.hits, *([0] * len(_BUCKETS))], 0.0),
            ("miss", self._misses, self._seconds),
        ):
            requests.add_metric((status,), sum(buckets))
            told, total = [], 0
            for bound, count in zip((*map(str, _BUCKETS), "+Inf"), buckets, strict=True):
                total += count
                told.append((bound, float(total)))
            times.add_metric((status,), told, sum_value=seconds)
        fetches = CounterMetricFamily(f"{_PREFIX}_fetch", "Tokens that were found out about.", labels=("status",))
        fetches.add_metric(("ok",), self.good)
        fetches.add_metric(("error",), self.bad)
        active = GaugeMetricFamily(
            f"{_PREFIX}_active_fetch_count", "Tokens that are being found out about.", labels=("status",)
        )
        active.add_metric(("in_flight",), self.fetching)
        active.add_metric(("blocked",), self.waiting)
        yield from (requests, times, fetches, active)
