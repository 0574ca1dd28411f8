"""Who was let in: authentication, authorization and admission."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

from orca.admission import Chain
from orca.server.identity import Gate


class Passage:
    """A collector of prometheus-client."""

    def __init__(self, gate: Gate, admission: Chain) -> None:
        self._gate = gate
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        counts = self._gate.counts
        attempts = CounterMetricFamily(
            "authentication_attempts", "Requests by whether it is known who asks.", labels=("result",)
        )
        attempts.add_metric(("success",), counts.known)
        attempts.add_metric(("failure",), counts.unknown)
        users = CounterMetricFamily(
            "authenticated_user_requests", "Requests by user; names are not told apart.", labels=("username",)
        )
        users.add_metric(("other",), counts.known - counts.anonymous)
        users.add_metric(("system:anonymous",), counts.anonymous)
        decisions = CounterMetricFamily("authorization_attempts", "Decisions by result.", labels=("result",))
        decisions.add_metric(("allowed",), counts.allowed)
        decisions.add_metric(("no-opinion",), counts.refused)
        decisions.add_metric(("denied",), counts.denied)
        decisions.add_metric(("error",), counts.undecided)
        steps = SummaryMetricFamily(
            "apiserver_admission_step_admission_duration_seconds_summary",
            "Time admission takes.",
            labels=("type", "operation", "rejected"),
        )
        for (step, operation, rejected), (count, seconds) in self._admission.times.items():
            steps.add_metric((step, operation, str(rejected).lower()), int(count), seconds)
        yield from (attempts, users, decisions, steps)
