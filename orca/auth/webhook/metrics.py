"""Counts and times of authorizers, of webhooks among them and of their configuration, under upstream's names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from orca.auth.authorization import Union

_TYPE = "Webhook"


class AuthorizationMetrics:
    """One per server: webhooks are told apart by name, also those that a new configuration replaces."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.evaluations = Counter(
            "apiserver_authorization_webhook_evaluations",
            "Round-trips to authorization webhooks.",
            ("name", "result"),
            registry=registry,
        )
        self.duration = Histogram(
            "apiserver_authorization_webhook_duration_seconds",
            "Request latency in seconds.",
            ("name", "result"),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=registry,
        )
        self.open = Counter(
            "apiserver_authorization_webhook_evaluations_fail_open",
            "NoOpinion results due to webhook timeout or error.",
            ("name", "result"),
            registry=registry,
        )
        self._failures = Counter(
            "apiserver_authorization_match_condition_evaluation_errors",
            "Errors when an authorization webhook encounters a match condition error.",
            ("type", "name"),
            registry=registry,
        )
        self._exclusions = Counter(
            "apiserver_authorization_match_condition_exclusions",
            "Exclusions when an authorization webhook is skipped because match conditions exclude it.",
            ("type", "name"),
            registry=registry,
        )
        self._seconds = Histogram(
            "apiserver_authorization_match_condition_evaluation_seconds",
            "Match condition evaluation time in seconds.",
            ("type", "name"),
            buckets=(0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25),
            registry=registry,
        )

    def asked(self, name: str, result: str, seconds: float) -> None:
        """One request; ``result`` is success, error, timeout or canceled."""
        self.evaluations.labels(name, result).inc()
        self.duration.labels(name, result).observe(seconds)

    def matched(self, name: str, seconds: float, *, excluded: bool = False, failed: bool = False) -> None:
        """All conditions were looked at."""
        self._seconds.labels(_TYPE, name).observe(seconds)
        if excluded:
            self._exclusions.labels(_TYPE, name).inc()
        if failed:
            self._failures.labels(_TYPE, name).inc()


class Decisions:
    """A collector: decisions by the authorizer that took them."""

    def __init__(self, union: Union) -> None:
        self._union = union

    def collect(self) -> Iterator[Metric]:
        """All that are asked now."""
        decisions = CounterMetricFamily(
            "apiserver_authorization_decisions",
            "Terminal decisions made by an authorizer split by authorizer type, name, and decision.",
            labels=("type", "name", "decision"),
        )
        for member in self._union.members:
            for decision, count in (("allowed", member.allowed), ("denied", member.denied)):
                if member.kind and count:
                    decisions.add_metric((member.kind, member.name, decision), count)
        yield decisions


class Reloads:
    """New contents of a configuration's file. ``server`` identifies this server among others, by a digest."""

    def __init__(self, registry: CollectorRegistry, server: str, what: str = "authorization") -> None:
        self._server = _digest(server.encode())
        stem = f"apiserver_{what}_config_controller"
        self._reloads = Counter(
            f"{stem}_automatic_reloads",
            f"Automatic reloads of {what} configuration split by status and apiserver identity.",
            ("status", "apiserver_id_hash"),
            registry=registry,
        )
        self._at = Gauge(
            f"{stem}_automatic_reload_last_timestamp_seconds",
            f"Timestamp of the last automatic reload of {what} configuration.",
            ("status", "apiserver_id_hash"),
            registry=registry,
        )
        self._info = Gauge(
            f"{stem}_last_config_info",
            f"The {what} configuration in use.",
            ("apiserver_id_hash", "hash"),
            registry=registry,
        )

    def in_use(self, content: bytes) -> None:
        """The file has this content."""
        self._info.clear()
        self._info.labels(self._server, _digest(content)).set(1)

    def succeeded(self, content: bytes) -> None:
        """A new content is in use."""
        self._count("success")
        self.in_use(content)

    def failed(self) -> None:
        """A new content cannot be used."""
        self._count("failure")

    def _count(self, status: str) -> None:
        self._reloads.labels(status, self._server).inc()
        self._at.labels(status, self._server).set_to_current_time()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}" if data else ""
