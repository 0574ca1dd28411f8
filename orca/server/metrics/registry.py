"""The registry behind ``/metrics``, and what is read from other rooms when it is asked."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from orca.admission import Chain
from orca.api.resources import Resource, ResourceTable
from orca.server.audit import Audit
from orca.server.fairness import Fairness
from orca.server.health import Health, version_info
from orca.server.identity import Gate
from orca.server.metrics.fairness import FlowControl
from orca.server.metrics.passage import Passage
from orca.server.metrics.queues import Queues
from orca.server.metrics.requests import Requests, WatchCounts
from orca.server.metrics.storage import Storage
from orca.server.paths import Target
from orca.store import Store


class Metrics:
    """One per server. Others may add collectors to ``registry``."""

    def __init__(self, table: ResourceTable, store: Store) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Requests()
        self.reading, self.mutating = self._requests.reading, self._requests.mutating
        self.observe, self.kind = self._requests.observe, self._requests.kind
        self._storage = Storage(table, store)
        for collector in (self._requests, self._storage, _Build(), Queues()):
            self.registry.register(collector)

    def add(self, collector: Collector) -> None:
        """Show what another room counts."""
        self.registry.register(collector)

    def add_gate(self, gate: Gate, admission: Chain) -> None:
        """Show who was let in, and how long admission took."""
        self.registry.register(Passage(gate, admission))

    def add_fairness(self, fairness: Fairness) -> None:
        """Show what requests wait for."""
        self.registry.register(FlowControl(fairness))

    def add_audit(self, audit: Audit) -> None:
        """Show what is logged."""
        self.registry.register(_Audited(audit))

    def aborted(self, verb: str, target: Target) -> None:
        """A client went away before its answer."""
        self._requests.kind(verb, target).aborted += 1

    def running(self, verb: str, target: Target) -> None:
        """A watch or a stream has begun."""
        self._requests.kind(verb, target).running.inc()

    def ended(self, verb: str, target: Target) -> None:
        """A watch or a stream is over."""
        self._requests.kind(verb, target).running.dec()

    @property
    def unanswered(self) -> int:
        """Requests that are being answered now, without watches and streams."""
        return self.reading.value + self.mutating.value

    def watch_counts(self, resource: Resource) -> WatchCounts:
        """Where the events of a kind are counted."""
        return self._requests.watch_counts(resource)

    async def respond(self) -> web.Response:
        """The exposition."""
        await self._storage.measure()
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def slis(health: Health) -> web.Response:
    """``/metrics/slis``: the health checks and how often they went well."""
    registry = CollectorRegistry()
    await health.run_all()
    registry.register(_Checks(health))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Checks:
    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        now = GaugeMetricFamily("kubernetes_healthcheck", "1 while a check is well.", labels=("name", "type"))
        ever = CounterMetricFamily("kubernetes_healthchecks", "Results of checks.", labels=("name", "type", "status"))
        for (probe, name), (well, successes, failures) in self._health.results.items():
            now.add_metric((name, probe), float(well))
            ever.add_metric((name, probe, "success"), successes)
            ever.add_metric((name, probe, "error"), failures)
        yield from (now, ever)


class _Build:
    def collect(self) -> Iterator[Metric]:
        info = version_info()
        labels = {
            "major": info["major"],
            "minor": info["minor"],
            "git_version": info["gitVersion"],
            "git_commit": info["gitCommit"],
            "git_tree_state": info["gitTreeState"],
            "build_date": info["buildDate"],
            "go_version": f"python{platform.python_version()}",
            "compiler": info["compiler"],
            "platform": info["platform"],
        }
        build = GaugeMetricFamily("kubernetes_build_info", "What runs here.", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build


class _Audited:
    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def collect(self) -> Iterator[Metric]:
        events = CounterMetricFamily("apiserver_audit_event", "Audit events written.")
        events.add_metric((), self._audit.log.written)
        lost = CounterMetricFamily("apiserver_audit_error", "Audit events lost.", labels=("plugin",))
        lost.add_metric(("log",), self._audit.log.lost)
        levels = CounterMetricFamily("apiserver_audit_level", "Requests by audit level.", labels=("level",))
        for level, count in self._audit.by_level.items():
            levels.add_metric((level.title() if level == "NONE" else level,), count)
        yield from (events, lost, levels)
