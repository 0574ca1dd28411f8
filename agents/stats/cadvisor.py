"""``/metrics/cadvisor``: the series that cAdvisor has inside a kubelet, under its names and labels. Pure.

Left out are those that cost a walk through every process of a container (open files, sockets, ulimits).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from agents.resources.usage import Details, Usage
from agents.stats.groups import Group, Labels, Machine, device_number
from agents.stats.model import Filesystem, Interface

Value: TypeAlias = float | int | None

_NAMES = tuple(field.name for field in fields(Labels))
_Gauge: TypeAlias = tuple[str, str, Callable[[Usage, Details], Value]]
_COUNTERS: tuple[_Gauge, ...] = (
    ("container_cpu_user_seconds", "Cumulative user cpu time consumed in seconds.", lambda u, d: d.user / 1e9),
    ("container_cpu_system_seconds", "Cumulative system cpu time consumed in seconds.", lambda u, d: d.system / 1e9),
    (
        "container_cpu_cfs_periods",
        "Number of elapsed enforcement period intervals.",
        lambda u, d: d.periods if d.quota is not None else None,
    ),
    (
        "container_cpu_cfs_throttled_periods",
        "Number of throttled period intervals.",
        lambda u, d: d.throttled_periods if d.quota is not None else None,
    ),
    (
        "container_cpu_cfs_throttled_seconds",
        "Total time duration the container has been throttled.",
        lambda u, d: d.throttled / 1e9 if d.quota is not None else None,
    ),
    (
        "container_oom_events",
        "Count of out of memory events observed for the container",
        lambda u, d: d.oom_kills,
    ),
)
_GAUGES: tuple[_Gauge, ...] = (
    (
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        lambda u, d: u.memory,
    ),
    ("container_memory_working_set_bytes", "Current working set in bytes.", lambda u, d: u.working_set),
    ("container_memory_rss", "Size of RSS in bytes.", lambda u, d: u.rss),
    ("container_memory_cache", "Number of bytes of page cache memory.", lambda u, d: d.cache),
    ("container_memory_mapped_file", "Size of memory mapped files in bytes.", lambda u, d: d.mapped_file),
    ("container_memory_swap", "Container swap usage in bytes.", lambda u, d: u.swap),
    ("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", lambda u, d: d.peak),
    ("container_memory_failcnt", "Number of memory usage hits limits", lambda u, d: d.failures),
    ("container_threads", "Number of threads running inside the container", lambda u, d: u.pids),
    (
        "container_threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        lambda u, d: u.pids_limit or 0,
    ),
    ("container_spec_cpu_period", "CPU period of the container.", lambda u, d: d.period or None),
    ("container_spec_cpu_quota", "CPU quota of the container.", lambda u, d: d.quota),
    ("container_spec_cpu_shares", "CPU share of the container.", lambda u, d: d.shares or None),
    ("container_spec_memory_limit_bytes", "Memory limit for the container.", lambda u, d: u.limit or 0),
    (
        "container_spec_memory_swap_limit_bytes",
        "Memory swap limit for the container.",
        lambda u, d: u.swap_limit or 0,
    ),
)
_INTERFACES: tuple[tuple[str, str, Callable[[Interface], int]], ...] = (
    ("receive_bytes", "Cumulative count of bytes received", lambda one: one.rx_bytes),
    ("receive_errors", "Cumulative count of errors encountered while receiving", lambda one: one.rx_errors),
    ("receive_packets_dropped", "Cumulative count of packets dropped while receiving", lambda one: one.rx_dropped),
    ("receive_packets", "Cumulative count of packets received", lambda one: one.rx_packets),
    ("transmit_bytes", "Cumulative count of bytes transmitted", lambda one: one.tx_bytes),
    ("transmit_errors", "Cumulative count of errors encountered while transmitting", lambda one: one.tx_errors),
    (
        "transmit_packets_dropped",
        "Cumulative count of packets dropped while transmitting",
        lambda one: one.tx_dropped,
    ),
    ("transmit_packets", "Cumulative count of packets transmitted", lambda one: one.tx_packets),
)
_DISK: tuple[tuple[str, str, int], ...] = (
    ("container_fs_reads_bytes", "Cumulative count of bytes read", 0),
    ("container_fs_writes_bytes", "Cumulative count of bytes written", 1),
    ("container_fs_reads", "Cumulative count of reads completed", 2),
    ("container_fs_writes", "Cumulative count of writes completed", 3),
)
_ROOTFS: tuple[tuple[str, str, Callable[[Filesystem], Value]], ...] = (
    (
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
        lambda one: one.used,
    ),
    (
        "container_fs_limit_bytes",
        "Number of bytes that can be consumed by the container on this filesystem.",
        lambda one: one.capacity,
    ),
    ("container_fs_inodes_free", "Number of available Inodes", lambda one: one.inodes_free),
    ("container_fs_inodes_total", "Number of Inodes", lambda one: one.inodes),
)
_STALLS = (
    ("waiting", "some", "tasks in the container have waited"),
    ("stalled", "full", "no tasks in the container could make progress"),
)


def cadvisor_families(
    groups: Sequence[Group], machine: Machine, *, version: Mapping[str, str], device_names: Mapping[str, str]
) -> Iterator[Metric]:
    """``version`` has the labels of ``cadvisor_version_info``; ``device_names`` leads from "major:minor" to a path."""
    about = GaugeMetricFamily(
        "cadvisor_version_info",
        "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version "
        "& cadvisor revision.",
        labels=tuple(version),
    )
    about.add_metric(tuple(version.values()), 1)
    yield about
    yield from _of_cgroups(groups)
    yield from _of_stalls(groups)
    yield from _of_disks(groups, device_names)
    yield from _of_networks(groups)
    yield GaugeMetricFamily(
        "container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", value=0
    )
    names = ("boot_id", "machine_id", "system_uuid")
    labels = (machine.boot_id, machine.machine_id, machine.system_uuid)
    for name, text, value in (
        ("machine_cpu_cores", "Number of logical CPU cores.", machine.cores),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", machine.memory),
        ("machine_swap_bytes", "Amount of swap memory available on the machine.", machine.swap),
    ):
        family = GaugeMetricFamily(name, text, labels=names)
        family.add_metric(labels, value)
        yield family


def _of_cgroups(groups: Sequence[Group]) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        "container_cpu_usage_seconds", "Cumulative cpu time consumed in seconds.", labels=(*_NAMES, "cpu")
    )
    faults = CounterMetricFamily(
        "container_memory_failures",
        "Cumulative count of memory allocation failures.",
        labels=(*_NAMES, "failure_type", "scope"),
    )
    seen = GaugeMetricFamily("container_last_seen", "Last time a container was seen by the exporter", labels=_NAMES)
    started = GaugeMetricFamily(
        "container_start_time_seconds", "Start time of the container since unix epoch in seconds.", labels=_NAMES
    )
    plain: list[tuple[CounterMetricFamily | GaugeMetricFamily, Callable[[Usage, Details], Value]]] = []
    plain += [(CounterMetricFamily(name, text, labels=_NAMES), value) for name, text, value in _COUNTERS]
    plain += [(GaugeMetricFamily(name, text, labels=_NAMES), value) for name, text, value in _GAUGES]
    for group in groups:
        if group.usage is None or group.details is None:
            continue
        labels, stamp = group.labels.values(), group.at.timestamp()
        cpu.add_metric((*labels, "total"), group.usage.cpu / 1e9, timestamp=stamp)
        for kind, count in (("pgfault", group.usage.page_faults), ("pgmajfault", group.usage.major_page_faults)):
            faults.add_metric((*labels, kind, "hierarchy"), count, timestamp=stamp)
        seen.add_metric(labels, int(stamp), timestamp=stamp)
        if group.started_at is not None:
            started.add_metric(labels, group.started_at.timestamp(), timestamp=stamp)
        for family, value in plain:
            amount = value(group.usage, group.details)
            if amount is not None:
                family.add_metric(labels, amount, timestamp=stamp)
    yield from (cpu, faults, seen, started)
    yield from (family for family, _ in plain)


def _of_stalls(groups: Sequence[Group]) -> Iterator[Metric]:
    for what, called in (("cpu", "CPU"), ("memory", "memory"), ("io", "IO")):
        for verb, kind, text in _STALLS:
            family = CounterMetricFamily(
                f"container_pressure_{what}_{verb}_seconds",
                f"Total time duration {text} due to {called} congestion.",
                labels=_NAMES,
            )
            for group in groups:
                for name, pressure in group.pressure:
                    if name == what:
                        total = getattr(pressure, kind).total / 1e6
                        family.add_metric(group.labels.values(), total, timestamp=group.at.timestamp())
            yield family


def _of_disks(groups: Sequence[Group], device_names: Mapping[str, str]) -> Iterator[Metric]:
    labels = (*_NAMES, "device")
    for name, text, position in _DISK:
        counter = CounterMetricFamily(name, text, labels=labels)
        for group in groups:
            for device, numbers in group.details.disk if group.details is not None else ():
                where = (*group.labels.values(), device_names.get(device, device))
                counter.add_metric(where, numbers[position], timestamp=group.at.timestamp())
        yield counter
    for name, text, value in _ROOTFS:
        gauge = GaugeMetricFamily(name, text, labels=labels)
        for group in groups:
            amount = value(group.rootfs) if group.rootfs is not None else None
            if group.rootfs is not None and amount is not None:
                number = device_number(group.rootfs.device)
                where = (*group.labels.values(), device_names.get(number, number))
                gauge.add_metric(where, amount, timestamp=group.at.timestamp())
        yield gauge


def _of_networks(groups: Sequence[Group]) -> Iterator[Metric]:
    for name, text, value in _INTERFACES:
        family = CounterMetricFamily(f"container_network_{name}", text, labels=(*_NAMES, "interface"))
        for group in groups:
            for one in group.interfaces:
                where = (*group.labels.values(), one.name)
                family.add_metric(where, value(one), timestamp=group.at.timestamp())
        yield family
