"""``apiserver_flowcontrol_*``, from the numbers the levels and flows keep anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from orca.server.fairness import Fairness, Level
from orca.server.fairness.classify import Stats
from orca.server.fairness.demand import Shares
from orca.server.fairness.levels import ESTIMATE

_LEVEL = ("priority_level",)
_FLOW = ("priority_level", "flow_schema")
_PREFIX = "apiserver_flowcontrol_"
_WIDTHS = (1, 2, 4, 10)
_LENGTHS = (0, 10, 25, 50, 100, 250, 500, 1000)
_GAUGES: tuple[tuple[str, str, Callable[[Level], float]], ...] = (
    ("nominal_limit_seats", "Seats a level has before lending and borrowing.", lambda level: level.nominal),
    ("lower_limit_seats", "Seats a level keeps whatever it lends.", lambda level: level.least),
    ("upper_limit_seats", "Seats a level has at most with what it borrows.", lambda level: level.most),
    ("current_limit_seats", "Seats a level has now.", lambda level: level.limit),
    ("demand_seats_high_watermark", "Most seats wanted in the last period.", lambda level: level.demand.high),
    ("demand_seats_average", "Seats wanted on average in the last period.", lambda level: level.demand.average),
    ("demand_seats_stdev", "Their standard deviation over time.", lambda level: level.demand.deviation),
    ("demand_seats_smoothed", "Smoothed demand of seats.", lambda level: level.demand.smoothed),
    ("target_seats", "Seats a level was to get.", lambda level: level.demand.target),
    ("current_r", "Virtual time when it was last looked at.", lambda level: level.progress),
    ("dispatch_r", "Virtual time when a request was last let in from a queue.", lambda level: level.dispatched_at),
    ("latest_s", "Virtual start of that request.", lambda level: level.last_served),
)
_FLOW_GAUGES: tuple[tuple[str, str, Callable[[Stats], float]], ...] = (
    ("current_inqueue_requests", "Requests in queues now.", lambda stats: stats.queued),
    ("current_inqueue_seats", "Seats that requests in queues want.", lambda stats: stats.queued_seats),
    ("current_executing_requests", "Requests being served now.", lambda stats: stats.running),
    ("current_executing_seats", "Seats taken now.", lambda stats: stats.running + stats.beside),
)


class FlowControl:
    """A collector of prometheus-client."""

    def __init__(self, fairness: Fairness) -> None:
        self._fairness = fairness

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        fairness = self._fairness
        levels = list(fairness.levels.values())
        for name, told, value in _GAUGES:
            gauge = GaugeMetricFamily(f"{_PREFIX}{name}", told, labels=_LEVEL)
            for level in levels:
                gauge.add_metric((level.name,), value(level))
            yield gauge
        fraction = GaugeMetricFamily(f"{_PREFIX}seat_fair_frac", "Which part of their targets levels got.", labels=())
        fraction.add_metric((), fairness.fair_fraction)
        yield fraction
        yield from _next_bounds(levels)
        yield from _over_time(levels)
        yield from _flows(list(fairness.stats.values()))
        yield _turns(fairness)


def _flows(flows: Sequence[Stats]) -> Iterator[Metric]:
    for name, told, value in _FLOW_GAUGES:
        gauge = GaugeMetricFamily(f"{_PREFIX}{name}", told, labels=_FLOW)
        for stats in flows:
            gauge.add_metric((stats.level, stats.schema), value(stats))
        yield gauge
    dispatched = CounterMetricFamily(f"{_PREFIX}dispatched_requests", "Requests that were let in.", labels=_FLOW)
    rejected = CounterMetricFamily(
        f"{_PREFIX}rejected_requests", "Requests that were turned away.", labels=(*_FLOW, "reason")
    )
    passed_over = CounterMetricFamily(
        f"{_PREFIX}request_dispatch_no_accommodation", "Turns at which there was no room.", labels=_FLOW
    )
    waited = HistogramMetricFamily(
        f"{_PREFIX}request_wait_duration_seconds", "Time in queues.", labels=(*_FLOW, "execute")
    )
    took = HistogramMetricFamily(
        f"{_PREFIX}request_execution_seconds",
        "Time that requests took, and watches until they had begun.",
        labels=(*_FLOW, "type"),
    )
    widths = HistogramMetricFamily(f"{_PREFIX}work_estimated_seats", "Seats that requests came for.", labels=_FLOW)
    lengths = HistogramMetricFamily(
        f"{_PREFIX}request_queue_length_after_enqueue", "Length of queues with who had just come.", labels=_FLOW
    )
    for stats in flows:
        labels = (stats.level, stats.schema)
        dispatched.add_metric(labels, stats.dispatched)
        passed_over.add_metric(labels, stats.passed_over)
        for reason, count in stats.rejected.items():
            rejected.add_metric((*labels, reason), count)
        at_once = stats.dispatched - stats.waited.count  # those waited for 0 seconds
        buckets = [(bound, count + at_once) for bound, count in stats.waited.cumulative()]
        waited.add_metric((*labels, "true"), buckets, stats.waited.total)
        if stats.refused_after.count:
            waited.add_metric((*labels, "false"), stats.refused_after.cumulative(), stats.refused_after.total)
        for kind, times in (("regular", stats.served), ("watch", stats.begun)):
            if times.count:
                took.add_metric((*labels, kind), times.cumulative(), times.total)
        narrow = max(stats.came - stats.wide.total(), 0)
        widths.add_metric(labels, *_binned({**stats.wide, 1: narrow}, _WIDTHS))
        if stats.lengths:
            lengths.add_metric(labels, *_binned(stats.lengths, _LENGTHS))
    yield from (dispatched, rejected, passed_over, waited, took, widths, lengths)


def _binned(counts: Mapping[int, int], bounds: Sequence[int]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets and the sum of numbers that occurred so often."""
    found = [(str(bound), float(sum(n for value, n in counts.items() if value <= bound))) for bound in bounds]
    found.append(("+Inf", float(sum(counts.values()))))
    return found, float(sum(value * n for value, n in counts.items()))


def _over_time(levels: Sequence[Level]) -> Iterator[Metric]:
    """Ratios weighted by time, up to now."""
    now = perf_counter()
    for level in levels:
        level.account(now)

    def family(name: str, told: str, *labels: str) -> HistogramMetricFamily:
        return HistogramMetricFamily(f"{_PREFIX}{name}", told, labels=labels)

    def add(to: HistogramMetricFamily, shares: Shares, *labels: str) -> None:
        to.add_metric(labels, shares.cumulative(), shares.total)

    demanded = family("demand_seats", "Seats wanted, of a level's nominal ones, each nanosecond.", *_LEVEL)
    seated = family("priority_level_seat_utilization", "Seats taken, of a level's, each nanosecond.", "phase", *_LEVEL)
    requests = family(
        "priority_level_request_utilization",
        "Requests that run, of a level's seats, or wait, of the places in its queues, each nanosecond.",
        "phase",
        *_LEVEL,
    )
    for level in levels:
        add(demanded, level.demand.demanded, level.name)
        add(seated, level.demand.seated, "executing", level.name)
        add(requests, level.demand.requested, "executing", level.name)
        add(requests, level.demand.waited, "waiting", level.name)
    yield from (demanded, seated, requests)


def _next_bounds(levels: Sequence[Level]) -> Iterator[Metric]:
    """Of levels at which somebody waits."""
    for name, told, discount in (
        ("next_s_bounds", "Least and most virtual start of who is next in a queue.", 0.0),
        ("next_discounted_s_bounds", "The same, less what is estimated for those who run.", ESTIMATE),
    ):
        bounds = GaugeMetricFamily(f"{_PREFIX}{name}", told, labels=(*_LEVEL, "bound"))
        for level in levels:
            starts = [queue.next_r - discount * queue.executing for queue in level.queues if queue.waiting]
            if starts:
                bounds.add_metric((level.name, "min"), min(starts))
                bounds.add_metric((level.name, "max"), max(starts))
        yield bounds


def _turns(fairness: Fairness) -> Metric:
    turns = CounterMetricFamily(
        "orca_event_loop_turns_waited", "Requests that waited for a later turn of the event loop.", labels=()
    )
    turns.add_metric((), fairness.turns.waited)
    return turns
