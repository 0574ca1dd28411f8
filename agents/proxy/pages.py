"""What the agent's server says about services: GET ``/metrics/proxy``, under kube-proxy's names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from agents.network.ranges import host_has_ipv6
from agents.proxy.runner import Proxy
from agents.proxy.tally import Durations

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

METRICS_PATH = "/metrics/proxy"


class ProxyPages:
    """Rules of both families are written together, so that they have the same figures."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._families = ("IPv4", "IPv6") if host_has_ipv6() else ("IPv4",)

    async def metrics(self, request: web.BaseRequest) -> web.Response:
        """The text format of Prometheus."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        body = generate_latest(self)  # type: ignore[arg-type]
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def collect(self) -> Iterator[Metric]:
        """Every metric."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        tally = self._proxy.tally
        for name, text, durations in (
            ("sync_proxy_rules", "SyncProxyRules latency in seconds", tally.syncs),
            ("network_programming", "In Cluster Network Programming Latency in seconds", tally.programming),
        ):
            yield self._histogram(f"kubeproxy_{name}_duration_seconds", text, durations)
        for what, text, when in (
            ("last_timestamp", "The last time proxy rules were successfully synced", tally.last_synced),
            ("last_queued_timestamp", "The last time a sync of proxy rules was queued", tally.last_queued),
        ):
            gauge = GaugeMetricFamily(f"kubeproxy_sync_proxy_rules_{what}_seconds", text, labels=["ip_family"])
            for family in self._families:
                gauge.add_metric([family], when)
            yield gauge
        for what, text, count in (
            ("service_changes", "Cumulative proxy rules Service changes", tally.service_changes),
            ("endpoint_changes", "Cumulative proxy rules Endpoint changes", tally.endpoint_changes),
        ):
            counter = CounterMetricFamily(f"kubeproxy_sync_proxy_rules_{what}", text, labels=["ip_family"])
            for family in self._families:
                counter.add_metric([family], count)
            yield counter
        failed = {"nftables": "nftables_sync_failures", "iptables": "iptables_restore_failures"}.get(self._proxy.mode)
        if failed:
            text = f"Cumulative proxy {failed.replace('_', ' ')}"
            failures = CounterMetricFamily(f"kubeproxy_sync_proxy_rules_{failed}", text, labels=["ip_family"])
            for family in self._families:
                failures.add_metric([family], tally.failures)
            yield failures

    def _histogram(self, name: str, text: str, durations: Durations) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        counts = durations.buckets or [0] * (len(durations.bounds) + 1)
        found: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip([*map(str, durations.bounds), "+Inf"], counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        histogram = HistogramMetricFamily(name, text, labels=["ip_family"])
        for family in self._families:
            histogram.add_metric([family], found, durations.seconds)
        return histogram
