"""Which aggregated APIs are not available, under kube-aggregator's names."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orca.server.aggregation.conditions import Verdict


class _Untold(Collector):
    """A metric that the registry shows without having asked for its name."""

    def __init__(self, metric: Counter) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return self._metric.collect()


class AvailabilityMetrics:
    """``checked`` after every look at an APIService with a Service, ``gone`` when it is deleted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._now = Gauge(
            "aggregator_unavailable_apiservice",
            "1 while an APIService is marked as unavailable.",
            ("name",),
            registry=registry,
        )
        # Both have one name but for the counter's _total, which the registry takes for a mistake when it is told.
        self._ever = Counter(
            "aggregator_unavailable_apiservice",
            "How often an APIService was marked as unavailable, by reason.",
            ("name", "reason"),
            registry=None,
        )
        registry.register(_Untold(self._ever))
        self._last: dict[str, str] = {}

    def checked(self, name: str, verdict: Verdict) -> None:
        """A look at an APIService."""
        self._now.labels(name).set(0 if verdict.available else 1)
        reason = "" if verdict.available else verdict.reason
        if reason and reason != self._last.get(name):
            self._ever.labels(name, reason).inc()
        self._last[name] = reason

    def gone(self, name: str) -> None:
        """It is no more."""
        if self._last.pop(name, None) is not None:
            self._now.remove(name)
