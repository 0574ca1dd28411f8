"""What is stored, and how etcd and the watch cache are doing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from orca.api.errors import ApiError
from orca.api.resources import ResourceTable
from orca.store import Store


class Storage:
    """A collector of prometheus-client; ``measure`` asks etcd what cannot be known without asking."""

    def __init__(self, table: ResourceTable, store: Store) -> None:
        self._table = table
        self._store = store
        self._bytes = 0

    async def measure(self) -> None:
        """Call it before a collection."""
        with contextlib.suppress(ApiError):  # the exposition goes without
            self._bytes = await self._store.size()

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        objects = GaugeMetricFamily("apiserver_storage_objects", "Objects stored by resource.", labels=("resource",))
        newer = GaugeMetricFamily(
            "apiserver_resource_objects", "Objects stored by group and resource.", labels=("group", "resource")
        )
        received = CounterMetricFamily(
            "apiserver_watch_cache_events_received", "Changes the cache has seen.", labels=("group", "resource")
        )
        capacity = GaugeMetricFamily(
            "apiserver_watch_cache_capacity", "Changes the cache remembers.", labels=("group", "resource")
        )
        version = GaugeMetricFamily(
            "apiserver_watch_cache_resource_version", "How far the cache is.", labels=("group", "resource")
        )
        seen: set[str] = set()
        for row in self._table:
            if row.storage in seen or row.virtual:
                continue
            seen.add(row.storage)
            labels = (row.group, row.plural)
            count = self._store.count(row)
            objects.add_metric((row.group_resource,), count)
            newer.add_metric(labels, count)
            changes, remembered = self._store.traffic(row)
            received.add_metric(labels, changes)
            capacity.add_metric(labels, remembered)
            version.add_metric(labels, self._store.revision)
        yield from (objects, newer, received, capacity, version)
        size = GaugeMetricFamily(
            "apiserver_storage_size_bytes", "Bytes of etcd's database.", labels=("storage_cluster_id",)
        )
        size.add_metric(("etcd-0",), self._bytes)
        yield size
        seconds = HistogramMetricFamily(
            "etcd_request_duration_seconds", "Time etcd takes to answer.", labels=("operation", "type")
        )
        total = CounterMetricFamily("etcd_requests", "Requests to etcd.", labels=("operation", "type"))
        errors = CounterMetricFamily("etcd_request_errors", "Failed requests to etcd.", labels=("operation", "type"))
        for (operation, kind), timed in self._store.etcd_times().items():
            labels = (operation, kind)
            count = int(sum(timed.counts))
            total.add_metric(labels, count + timed.failed)
            errors.add_metric(labels, timed.failed)
            seconds.add_metric(labels, timed.cumulative(), timed.total)
        yield from (seconds, total, errors)
