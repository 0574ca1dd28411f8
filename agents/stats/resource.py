"""``/metrics/resource``: what a metrics server scrapes. Pure; names and texts of ``pkg/kubelet/metrics/collectors``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from agents.stats.model import Cpu, MemoryUse, NodeStats, PodStats, Summary, Swap

_POD = ("pod", "namespace")
_CONTAINER = ("container", *_POD)


def resource_families(summary: Summary | None) -> Iterator[Metric]:
    """Everything but the error when there is no summary."""
    if summary is not None:
        yield from _of_containers(summary)
        yield from _of_node(summary.node)
        yield from _of_pods(summary)
    for name in ("resource_scrape_error", "scrape_error"):
        text = "1 if there was an error while getting container metrics, 0 otherwise"
        yield GaugeMetricFamily(name, text, value=0 if summary is not None else 1)


def _of_containers(summary: Summary) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        "container_cpu_usage_seconds",
        "Cumulative cpu time consumed by the container in core-seconds",
        labels=_CONTAINER,
    )
    memory = GaugeMetricFamily(
        "container_memory_working_set_bytes", "Current working set of the container in bytes", labels=_CONTAINER
    )
    started = GaugeMetricFamily(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds",
        labels=_CONTAINER,
    )
    limit = GaugeMetricFamily(
        "container_swap_limit_bytes",
        "Current amount of the container swap limit in bytes. Reported only on non-windows systems",
        labels=_CONTAINER,
    )
    swap = GaugeMetricFamily(
        "container_swap_usage_bytes",
        "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        labels=_CONTAINER,
    )
    for pod in summary.pods:
        for container in pod.containers:
            labels = (container.name, pod.name, pod.namespace)
            _add(cpu, memory, swap, labels, container.cpu, container.memory, container.swap)
            if container.started_at is not None:
                started.add_metric(labels, container.started_at.timestamp())
            if container.swap is not None and container.swap.available is not None:
                amount = container.swap.available + container.swap.usage
                limit.add_metric(labels, amount, timestamp=_stamp(container.swap.at))
    yield from (cpu, memory, started, limit, swap)


def _of_node(node: NodeStats) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        "node_cpu_usage_seconds", "Cumulative cpu time consumed by the node in core-seconds", labels=()
    )
    memory = GaugeMetricFamily("node_memory_working_set_bytes", "Current working set of the node in bytes", labels=())
    swap = GaugeMetricFamily(
        "node_swap_usage_bytes",
        "Current swap usage of the node in bytes. Reported only on non-windows systems",
        labels=(),
    )
    _add(cpu, memory, swap, (), node.cpu, node.memory, node.swap)
    yield from (cpu, memory, swap)


def _of_pods(summary: Summary) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        "pod_cpu_usage_seconds", "Cumulative cpu time consumed by the pod in core-seconds", labels=_POD
    )
    memory = GaugeMetricFamily("pod_memory_working_set_bytes", "Current working set of the pod in bytes", labels=_POD)
    swap = GaugeMetricFamily(
        "pod_swap_usage_bytes",
        "Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        labels=_POD,
    )
    for pod in summary.pods:
        _of_pod(pod, cpu, memory, swap)
    yield from (cpu, memory, swap)


def _of_pod(pod: PodStats, cpu: CounterMetricFamily, memory: GaugeMetricFamily, swap: GaugeMetricFamily) -> None:
    _add(cpu, memory, swap, (pod.name, pod.namespace), pod.cpu, pod.memory, pod.swap)


def _add(
    cpu: CounterMetricFamily,
    memory: GaugeMetricFamily,
    swap: GaugeMetricFamily,
    labels: tuple[str, ...],
    cpu_use: Cpu | None,
    memory_use: MemoryUse | None,
    swap_use: Swap | None,
) -> None:
    if cpu_use is not None:
        cpu.add_metric(labels, cpu_use.total / 1e9, timestamp=_stamp(cpu_use.at))
    if memory_use is not None:
        memory.add_metric(labels, memory_use.working_set, timestamp=_stamp(memory_use.at))
    if swap_use is not None:
        swap.add_metric(labels, swap_use.usage, timestamp=_stamp(swap_use.at))


def _stamp(at: datetime) -> float:
    return at.timestamp()
