"""What ``/metrics`` tells, under upstream's metric names."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from orca.api.resources import ResourceTable
from orca.server.paths import Target
from orca.store import Store

_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_LONG = frozenset({"watch", "connect"})


class Metrics:
    """Counts requests. Children of labelled metrics are looked up once per combination."""

    def __init__(self, table: ResourceTable, store: Store) -> None:
        self._table = table
        self._store = store
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        labels = ("verb", "group", "version", "resource", "subresource", "scope", "code")
        self._total = Counter(
            "apiserver_request_total", "Requests by verb, resource and code.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "apiserver_request_duration_seconds",
            "Time to answer, without watches and streams.",
            labels[:-1],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.inflight = Gauge(
            "apiserver_current_inflight_requests",
            "Requests being answered now.",
            ("request_kind",),
            registry=self.registry,
        )
        self.long_running = Gauge(
            "apiserver_longrunning_requests", "Watches and streams now.", ("verb",), registry=self.registry
        )
        self._objects = Gauge(
            "apiserver_storage_objects", "Objects stored by resource.", ("resource",), registry=self.registry
        )
        self._counters: dict[tuple[str, str, str, str, str, str, int], Counter] = {}
        self._timers: dict[tuple[str, str, str, str, str, str], Histogram] = {}

    def observe(self, verb: str, target: Target, code: int, seconds: float) -> None:
        """Count one answered request."""
        scope = "resource" if target.name else ("namespace" if target.namespace else "cluster")
        # What is not served has no labels of its own, or a scanner could fill the memory with them.
        known = target.resource is not None
        kind = (
            verb.upper(),
            target.group if known else "",
            target.version if known else "",
            target.plural if known else "",
            target.subresource if known else "",
            scope if known else "",
        )
        key = (*kind, code)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._total.labels(*kind, str(code))
        counter.inc()
        if verb in _LONG:
            return
        timer = self._timers.get(kind)
        if timer is None:
            timer = self._timers[kind] = self._seconds.labels(*kind)
        timer.observe(seconds)

    def respond(self) -> web.Response:
        """The exposition."""
        seen = set()
        for row in self._table:
            if row.storage not in seen and not row.virtual:
                seen.add(row.storage)
                self._objects.labels(row.group_resource).set(self._store.count(row))
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
