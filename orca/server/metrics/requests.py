"""Requests and watches: counted on the hot path in plain numbers, shown as upstream's metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from aiohttp import web
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric

from orca.api.resources import ALL_VERBS, Resource
from orca.server.metrics.cells import Gauge, Histogram
from orca.server.paths import Target

DURATIONS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
SIZES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
EVENT_SIZES = tuple(1024 * 2**i for i in range(8))
_VERBS = {"create": "POST", "update": "PUT", "other": "other"}
_KNOWN = frozenset({*ALL_VERBS, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STREAMED = frozenset({"exec", "attach", "portforward", "proxy", "log"})
_LONG = frozenset({"WATCH", "CONNECT"})
_SIZED = frozenset({"GET", "LIST"})
_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "component")


class Kind:
    """All requests of one verb on one kind of target."""

    __slots__ = ("aborted", "codes", "deprecated", "labels", "running", "seconds", "sizes")

    def __init__(self, labels: tuple[str, ...], *, deprecated: bool = False) -> None:
        self.labels = labels
        self.deprecated = deprecated
        self.codes: dict[int, int] = {}
        self.seconds = Histogram(DURATIONS)
        self.sizes = Histogram(SIZES)
        self.running = Gauge()
        self.aborted = 0

    def count(self, code: int, seconds: float, size: int | None) -> None:
        """One more was answered."""
        self.codes[code] = self.codes.get(code, 0) + 1
        self.seconds.observe(seconds)
        if size is not None:
            self.sizes.observe(size)


class WatchCounts:
    """Events sent to the watchers of one kind."""

    __slots__ = ("bytes", "counts", "events")

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.counts = [0] * (len(EVENT_SIZES) + 1)

    def sent(self, lines: list[bytes], times: int = 1) -> None:
        """A batch has gone out to so many watchers."""
        self.events += len(lines) * times
        for line in lines:
            size = len(line)
            self.bytes += size * times
            self.counts[bisect_left(EVENT_SIZES, size)] += times


class Requests:
    """A collector of prometheus-client; ``observe`` is its only part on the hot path."""

    def __init__(self) -> None:
        self.reading, self.mutating = Gauge(), Gauge()
        self._by_target: dict[tuple[str, str, str, str, str, str], Kind] = {}
        self._watches: dict[tuple[str, str, str], WatchCounts] = {}

    def kind(self, verb: str, target: Target) -> Kind:
        """Where requests of a verb on a target are counted."""
        # What is not served has no labels of its own, or a scanner could fill the memory with them.
        if verb not in _KNOWN:
            verb = "other"
        served = target.resource is not None and (
            not target.subresource or target.resource.has(target.subresource) or target.subresource in _STREAMED
        )
        if not served:
            key = (verb, "", "", "", "", "")
        else:
            scope = "resource" if target.name or verb == "create" else "namespace" if target.namespace else "cluster"
            key = (verb, target.group, target.version, target.plural, target.subresource, scope)
        found = self._by_target.get(key)
        if found is None:
            shown = _VERBS.get(verb, verb.upper())
            if served and target.subresource in _STREAMED:
                shown = "CONNECT"
            old = served and target.resource is not None and bool(target.resource.warning)
            found = self._by_target[key] = Kind((shown, *key[1:], "apiserver"), deprecated=old)
        return found

    def observe(self, verb: str, target: Target, code: int, seconds: float, answer: web.StreamResponse | int) -> None:
        """Count one answered request; ``answer`` may be the size of its body."""
        kind = self.kind(verb, target)
        sized = kind.labels[0] in _SIZED
        kind.count(code, seconds, (answer if isinstance(answer, int) else _size(answer)) if sized else None)

    def watch_counts(self, resource: Resource) -> WatchCounts:
        """Where events of a kind are counted."""
        key = (resource.group, resource.version, resource.plural)
        found = self._watches.get(key)
        if found is None:
            found = self._watches[key] = WatchCounts()
        return found

    def _deprecated(self) -> Metric:
        found = GaugeMetricFamily(
            "apiserver_requested_deprecated_apis",
            "Deprecated kinds that somebody asked for.",
            labels=("group", "version", "resource", "subresource", "removed_release"),
        )
        for what in sorted({kind.labels[1:5] for kind in self._by_target.values() if kind.deprecated}):
            found.add_metric((*what, ""), 1)
        return found

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        total = CounterMetricFamily(
            "apiserver_request", "Requests by verb, resource and code.", labels=(*_LABELS, "dry_run", "code")
        )
        aborts = CounterMetricFamily(
            "apiserver_request_aborts", "Requests whose client went away before the answer.", labels=_LABELS[:-1]
        )
        seconds = HistogramMetricFamily(
            "apiserver_request_duration_seconds", "Time to answer.", labels=(*_LABELS, "dry_run")
        )
        sli = HistogramMetricFamily(
            "apiserver_request_sli_duration_seconds", "Time to answer, without watches and streams.", labels=_LABELS
        )
        sizes = HistogramMetricFamily("apiserver_response_sizes", "Bytes of answers to reads.", labels=_LABELS)
        running = GaugeMetricFamily("apiserver_longrunning_requests", "Watches and streams now.", labels=_LABELS)
        for kind in self._by_target.values():
            labels = kind.labels
            for code, count in kind.codes.items():
                total.add_metric((*labels, "", str(code)), count)
            if kind.aborted:
                aborts.add_metric(labels[:-1], kind.aborted)
            if kind.codes:
                seconds.add_metric((*labels, ""), kind.seconds.cumulative(), kind.seconds.total)
                if labels[0] not in _LONG:
                    sli.add_metric(labels, kind.seconds.cumulative(), kind.seconds.total)
                if labels[0] in _SIZED:
                    sizes.add_metric(labels, kind.sizes.cumulative(), kind.sizes.total)
            if labels[0] in _LONG:
                running.add_metric(labels, kind.running.value)
        yield from (total, aborts, seconds, sli, sizes, running, self._deprecated())
        inflight = GaugeMetricFamily(
            "apiserver_current_inflight_requests", "Requests being answered now.", labels=("request_kind",)
        )
        inflight.add_metric(("mutating",), self.mutating.value)
        inflight.add_metric(("readOnly",), self.reading.value)
        yield inflight
        events = CounterMetricFamily(
            "apiserver_watch_events", "Events sent to watchers.", labels=("group", "version", "resource")
        )
        event_sizes = HistogramMetricFamily(
            "apiserver_watch_events_sizes", "Bytes of events sent to watchers.", labels=("group", "version", "resource")
        )
        for key, counts in self._watches.items():
            events.add_metric(key, counts.events)
            shown, so_far = [], 0
            for bound, count in zip([*map(str, EVENT_SIZES), "+Inf"], counts.counts, strict=True):
                so_far += count
                shown.append((bound, float(so_far)))
            event_sizes.add_metric(key, shown, float(counts.bytes))
        yield from (events, event_sizes)


def _size(answer: web.StreamResponse) -> int | None:
    # A property that parses headers would cost more than all the rest here.
    body = answer.body if isinstance(answer, web.Response) else None
    if isinstance(body, bytes):
        return len(body)
    return answer.content_length or answer.body_length
