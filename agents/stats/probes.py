"""``/metrics/probes``. Pure; names and texts of ``pkg/kubelet/prober``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from agents.probes.tally import BUCKETS, Counts, Probed

_DURATION = ("probe_type", "container", "pod", "namespace")


def probe_families(tally: Iterable[tuple[Probed, Counts]]) -> Iterator[Metric]:
    """Two series a probe, as upstream names them."""
    durations = HistogramMetricFamily(
        "prober_probe_duration_seconds", "Duration in seconds for a probe response.", labels=_DURATION
    )
    results = CounterMetricFamily(
        "prober_probe",
        "Cumulative number of a liveness, readiness or startup probe for a container by result.",
        labels=("probe_type", "result", "container", "pod", "namespace", "pod_uid"),
    )
    for probed, counts in tally:
        kind = probed.kind.capitalize()
        for result in ("successful", "failed", "unknown"):
            number = getattr(counts, result)
            if number:
                labels = (kind, result, probed.container, probed.pod, probed.namespace, probed.uid)
                results.add_metric(labels, number)
        if any(counts.buckets):
            total, buckets = 0, []
            for bound, number in zip((*map(str, BUCKETS), "+Inf"), counts.buckets, strict=True):
                total += number
                buckets.append((bound, total))
            durations.add_metric((kind, probed.container, probed.pod, probed.namespace), buckets, counts.seconds)
    yield from (durations, results)
