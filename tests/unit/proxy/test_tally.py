"""What ``/metrics/proxy`` tells."""

from __future__ import annotations

from types import SimpleNamespace

from prometheus_client.exposition import generate_latest

from agents.proxy.pages import ProxyPages
from agents.proxy.tally import TRIGGER, SyncTally


def test_metrics_have_kube_proxys_names() -> None:
    tally = SyncTally()
    triggered = {"metadata": {"annotations": {TRIGGER: "2026-01-01T00:00:00Z"}}}
    tally.slice_changed(triggered, known=False)
    tally.slice_changed(triggered, known=True)
    tally.service_changes = 2
    tally.synced(0.003, 1767225601.5)
    tally.slice_changed({"metadata": {"annotations": {TRIGGER: "yesterday"}}}, known=True)
    tally.synced(0.1, 1767225700.0)
    pages = ProxyPages(SimpleNamespace(tally=tally, mode="nftables"))  # type: ignore[arg-type]
    text = generate_latest(pages).decode()  # type: ignore[arg-type]
    for line in (
        'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2.0',
        'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 1.0',
        'kubeproxy_network_programming_duration_seconds_sum{ip_family="IPv4"} 1.5',
        'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.7672257e+09',
        'kubeproxy_sync_proxy_rules_service_changes_total{ip_family="IPv4"} 2.0',
        'kubeproxy_sync_proxy_rules_endpoint_changes_total{ip_family="IPv4"} 3.0',
        'kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 0.0',
    ):
        assert line in text.splitlines(), text
