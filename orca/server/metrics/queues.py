"""``workqueue_*``: what the controllers of this process have to do."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

from orca.client.workqueue import QUEUES


class Queues:
    """A collector of prometheus-client."""

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        labels = ("name",)
        adds = CounterMetricFamily("workqueue_adds", "Keys added.", labels=labels)
        retries = CounterMetricFamily("workqueue_retries", "Keys tried again after a failure.", labels=labels)
        depth = GaugeMetricFamily("workqueue_depth", "Keys that wait.", labels=labels)
        running = GaugeMetricFamily("workqueue_running_workers", "Keys worked on now.", labels=labels)
        took = SummaryMetricFamily("workqueue_work_duration_seconds", "Time a key takes.", labels=labels)
        for name, counts in sorted(QUEUES.items()):
            adds.add_metric((name,), counts.adds)
            retries.add_metric((name,), counts.retries)
            depth.add_metric((name,), max(counts.depth, 0))
            running.add_metric((name,), len(counts.busy_since))
            took.add_metric((name,), counts.worked, counts.worked_seconds)
        yield from (adds, retries, depth, running, took)
