"""``apiserver_flowcontrol_*``, from the numbers the levels and flows keep anyway."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from orca.server.fairness import Fairness, Level

_LEVEL = ("priority_level",)
_FLOW = ("priority_level", "flow_schema")
_GAUGES = (
    ("nominal_limit_seats", "Seats a level has before lending and borrowing.", lambda level: level.nominal),
    ("lower_limit_seats", "Seats a level keeps whatever it lends.", lambda level: level.least),
    ("upper_limit_seats", "Seats a level has at most with what it borrows.", lambda level: level.most),
    ("current_limit_seats", "Seats a level has now.", lambda level: level.limit),
    ("demand_seats_high_watermark", "Most seats wanted in this period.", lambda level: level.demand.high),
    ("demand_seats_smoothed", "Smoothed demand of seats.", lambda level: level.demand.smoothed),
)


class FlowControl:
    """A collector of prometheus-client."""

    def __init__(self, fairness: Fairness) -> None:
        self._fairness = fairness

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        fairness = self._fairness
        for name, told, value in _GAUGES:
            gauge = GaugeMetricFamily(f"apiserver_flowcontrol_{name}", told, labels=_LEVEL)
            for level in fairness.levels.values():
                gauge.add_metric((level.name,), value(level))
            yield gauge
        dispatched = CounterMetricFamily(
            "apiserver_flowcontrol_dispatched_requests", "Requests that were let in.", labels=_FLOW
        )
        rejected = CounterMetricFamily(
            "apiserver_flowcontrol_rejected_requests", "Requests that were turned away.", labels=(*_FLOW, "reason")
        )
        queued = GaugeMetricFamily(
            "apiserver_flowcontrol_current_inqueue_requests", "Requests in queues now.", labels=_FLOW
        )
        waited = HistogramMetricFamily(
            "apiserver_flowcontrol_request_wait_duration_seconds", "Time in queues.", labels=(*_FLOW, "execute")
        )
        for stats in fairness.stats.values():
            labels = (stats.level, stats.schema)
            dispatched.add_metric(labels, stats.dispatched)
            queued.add_metric(labels, stats.queued)
            for reason, count in stats.rejected.items():
                rejected.add_metric((*labels, reason), count)
            at_once = stats.dispatched - stats.waited.count  # those waited for 0 seconds
            buckets = [(bound, count + at_once) for bound, count in stats.waited.cumulative()]
            waited.add_metric((*labels, "true"), buckets, stats.waited.total)
            if stats.refused_after.count:
                waited.add_metric((*labels, "false"), stats.refused_after.cumulative(), stats.refused_after.total)
        yield from (dispatched, rejected, queued, waited)
        executing = GaugeMetricFamily(
            "apiserver_flowcontrol_current_executing_requests", "Requests being served now.", labels=_LEVEL
        )
        seats = GaugeMetricFamily("apiserver_flowcontrol_current_executing_seats", "Seats taken now.", labels=_LEVEL)
        for level in fairness.levels.values():
            executing.add_metric((level.name,), level.running)
            seats.add_metric((level.name,), level.executing)
        yield from (executing, seats)
        yield _turns(fairness)


def _turns(fairness: Fairness) -> Metric:
    turns = CounterMetricFamily(
        "orca_event_loop_turns_waited", "Requests that waited for a later turn of the event loop.", labels=()
    )
    turns.add_metric((), fairness.turns.waited)
    return turns


__all__ = ["FlowControl", "Level"]
