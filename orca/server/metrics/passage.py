"""Who was let in: authentication, authorization and admission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

from orca.admission import Chain
from orca.admission.chain import STEP_BOUNDS
from orca.server.identity import RECOGNITION_BOUNDS, Gate
from orca.server.impersonation import BOUNDS, Outcomes


class Passage:
    """A collector of prometheus-client."""

    def __init__(self, gate: Gate, admission: Chain) -> None:
        self._gate = gate
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        counts = self._gate.counts
        attempts = _named("authentication_attempts", "Requests by whether it is known who asks.")
        attempts.add_sample(attempts.name, {"result": "success"}, counts.known)
        attempts.add_sample(attempts.name, {"result": "failure"}, counts.unknown)
        users = _named("authenticated_user_requests", "Requests by user; names are not told apart.")
        users.add_sample(users.name, {"username": "other"}, counts.known - counts.anonymous)
        users.add_sample(users.name, {"username": "system:anonymous"}, counts.anonymous)
        decisions = CounterMetricFamily("authorization_attempts", "Decisions by result.", labels=("result",))
        decisions.add_metric(("allowed",), counts.allowed)
        decisions.add_metric(("no-opinion",), counts.refused)
        decisions.add_metric(("denied",), counts.denied)
        decisions.add_metric(("error",), counts.undecided)
        labels = ("type", "operation", "rejected")
        stem = "apiserver_admission_step_admission_duration_seconds"
        steps = HistogramMetricFamily(stem, "Time admission takes.", labels=labels)
        summary = SummaryMetricFamily(f"{stem}_summary", "Time admission takes, all together.", labels=labels)
        for step, by_operation in self._admission.times.items():
            for (operation, rejected), times in by_operation.items():
                values = (step, operation, str(rejected).lower())
                steps.add_metric(values, _buckets(STEP_BOUNDS, times.counts), times.seconds)
                summary.add_metric(values, sum(times.counts), times.seconds)
        yield from (attempts, users, decisions, steps, summary, _plugins(self._admission), _known(self._gate))
        yield from _outcomes("attempts", "Tries to act as another", self._gate.attempts)
        yield from _outcomes("authorization_attempts", "Questions whether somebody may", self._gate.questions)


def _plugins(admission: Chain) -> Metric:
    stem = "apiserver_admission_controller_admission_duration_seconds"
    labels = ("name", "type", "operation", "rejected")
    found = HistogramMetricFamily(stem, "Time admission takes, by plugin.", labels=labels)
    for (plugin, step), by_operation in admission.plugin_times.items():
        for (operation, rejected), times in by_operation.items():
            values = (plugin, step, operation, str(rejected).lower())
            found.add_metric(values, _buckets(STEP_BOUNDS, times.counts), times.seconds)
    return found


def _known(gate: Gate) -> Metric:
    stem = "authentication_duration_seconds"
    found = HistogramMetricFamily(stem, "Time it takes to know who asks.", labels=("result",))
    for result, times in gate.recognised.items():
        found.add_metric((result,), _buckets(RECOGNITION_BOUNDS, times.counts), times.seconds)
    return found


def _outcomes(name: str, text: str, outcomes: Outcomes) -> Iterator[Metric]:
    stem, labels = f"apiserver_impersonation_{name}", ("mode", "decision")
    total = CounterMetricFamily(stem, f"{text}, by mode and decision.", labels=labels)
    times = HistogramMetricFamily(f"{stem}_duration_seconds", f"{text}: how long that took.", labels=labels)
    for key, counts in outcomes.counts.items():
        total.add_metric(key, sum(counts))
        times.add_metric(key, _buckets(BOUNDS, counts), outcomes.seconds[key])
    yield from (total, times)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    shown = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    return list(zip(shown, map(float, accumulate(counts)), strict=True))


def _named(name: str, text: str) -> Metric:
    """Counts whose upstream name has no ``_total``, which the library would add."""
    return Metric(name, text, "unknown")
