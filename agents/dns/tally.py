"""What is counted of DNS, as cheap as counting can be; `agents.dns.metrics` makes CoreDNS's metrics of it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

DURATION_BUCKETS = tuple(0.00025 * 2**power for power in range(16))
SIZE_BUCKETS = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3)


class Histogram:
    """Counts by bucket, the last for what is beyond all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


@dataclass(slots=True)
class Tally:
    """Keys are label values in the order of CoreDNS's labels."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """(proto, family, type of record as `wire.told_apart` has it)"""
    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(plugin, rcode)"""
    dnssec: int = 0
    """Questions with the DO bit."""
    seconds: Histogram = field(default_factory=lambda: Histogram(DURATION_BUCKETS))
    request_sizes: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(_sizes))
    """By proto."""
    response_sizes: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(_sizes))
    cache_hits: Counter[str] = field(default_factory=Counter)
    """"success" or "denial"."""
    cache_misses: int = 0
    upstream_seconds: defaultdict[tuple[str, str], Histogram] = field(
        default_factory=lambda: defaultdict(lambda: Histogram(DURATION_BUCKETS))
    )
    """(nameserver, rcode)"""
    upstream_down: Counter[str] = field(default_factory=Counter)
    """Health checks that failed, by nameserver."""
    all_down: int = 0
    """Questions for which every nameserver was down."""
    too_many: int = 0
    """Questions refused because too many were under way."""


def _sizes() -> Histogram:
    return Histogram(SIZE_BUCKETS)
