"""Counts and times of webhook calls, under upstream's names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10, 25)


class WebhookMetrics:
    """``type`` is ``admit`` for mutating hooks and ``validating`` for validating ones."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = Histogram(
            "apiserver_admission_webhook_admission_duration_seconds",
            "Latency of admission webhooks, by name and operation.",
            ("name", "type", "operation", "rejected"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self.requests = Counter(
            "apiserver_admission_webhook_request",
            "Calls of admission webhooks, by name, operation, code and whether the request was rejected.",
            ("name", "type", "operation", "code", "rejected"),
            registry=registry,
        )
        # No "_total" at the end upstream, which a Counter of this library cannot do: gauges that only rise.
        self.rejections = Gauge(
            "apiserver_admission_webhook_rejection_count",
            "Rejections by admission webhooks, by kind of error and code.",
            ("name", "type", "operation", "error_type", "rejection_code"),
            registry=registry,
        )
        self.open = Gauge(
            "apiserver_admission_webhook_fail_open_count",
            "Calls that failed and were ignored.",
            ("name", "type"),
            registry=registry,
        )
        self.excluded = Counter(
            "apiserver_admission_match_condition_exclusions",
            "Requests that match conditions excluded.",
            ("name", "kind", "type", "operation"),
            registry=registry,
        )

    def called(self, name: str, kind: str, operation: str, seconds: float, code: int, *, rejected: bool) -> None:
        """One call has ended; ``code`` is 200 for an answer that allows."""
        told = "true" if rejected else "false"
        self.duration.labels(name, kind, operation, told).observe(seconds)
        self.requests.labels(name, kind, operation, str(min(code, 600)), told).inc()
