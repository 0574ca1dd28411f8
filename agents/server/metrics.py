"""The agent's own `/metrics`, under the names a kubelet has for them. Loaded when somebody asks; pure but for /proc.

Reference: k8s.io/kubernetes ``pkg/kubelet/metrics``.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from agents.origin import is_static
from agents.pods.ports import PodView
from agents.runtime.image_tally import PULL_BUCKETS, ImageTally
from agents.runtime.tally import BUCKETS, OperationTally
from agents.static.ends import Ends
from agents.static.starts import START_BUCKETS, Starts
from agents.stats.claims import ClaimUse
from orca.api.podphase import is_finished

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Facts:
    """What `/metrics` is made of."""

    node_name: str
    version: str
    started_at: float
    """Unix time at which the agent started."""
    pods: Sequence[PodView]
    mirrors: int
    operations: OperationTally
    starts: Starts
    images: ImageTally = field(default_factory=ImageTally)
    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(method, path, long running) -> requests to the agent's server."""
    shutdown: tuple[float, float] = (0.0, 0.0)
    """Unix times at which the last graceful shutdown of the node began and ended."""
    certificates: Mapping[str, float] = field(default_factory=dict)
    """`client` and `serving` -> seconds that their certificates are good for."""
    evictions: Mapping[str, int] = field(default_factory=dict)
    """Signal -> pods evicted for it."""
    claims: Sequence[ClaimUse] = ()
    ends: Ends = field(default_factory=Ends)


def families(facts: Facts) -> Iterator[Metric]:
    """Every metric."""
    yield from _of_node(facts)
    yield from _of_pods(facts.pods, facts.mirrors)
    yield from _of_engine(facts.operations)
    yield from _of_images(facts.images)
    yield from _of_starts(facts.starts, facts.operations)
    # A counter without the suffix that counters have elsewhere.
    evictions = Metric("kubelet_evictions", "Cumulative number of pod evictions by eviction signal", "unknown")
    for signal, count in facts.evictions.items():
        evictions.add_sample("kubelet_evictions", {"eviction_signal": signal}, count)
    yield evictions
    yield _of_ends(facts.ends)
    yield from _of_claims(facts.claims)
    yield from _of_server(facts)
    yield from _of_process(facts.started_at)


def _of_node(facts: Facts) -> Iterator[Metric]:
    name = GaugeMetricFamily("kubelet_node_name", "The node's name. The count is always 1.", labels=["node"])
    name.add_metric([facts.node_name], 1)
    yield name
    build = GaugeMetricFamily(
        "kubernetes_build_info", "A metric with a constant '1' value labeled by version.", labels=["git_version"]
    )
    build.add_metric([facts.version], 1)
    yield build
    began, ended = facts.shutdown
    for what, value in (("start", began), ("end", ended)):
        yield GaugeMetricFamily(
            f"kubelet_graceful_shutdown_{what}_time_seconds",
            f"Last graceful shutdown {what} time since unix epoch in seconds",
            value=value,
        )
    for kind, metric in (("client", "client_ttl_seconds"), ("serving", "server_ttl_seconds")):
        if kind in facts.certificates:
            yield GaugeMetricFamily(
                f"kubelet_certificate_manager_{metric}",
                f"Gauge of the TTL (time-to-live) of the Kubelet's {kind} certificate, in seconds.",
                value=facts.certificates[kind],
            )


def _of_pods(pods: Iterable[PodView], mirrors: int) -> Iterator[Metric]:
    views = list(pods)
    running = [view for view in views if view.pause_pid]
    yield GaugeMetricFamily(
        "kubelet_running_pods", "Number of pods that have a running pod sandbox", value=len(running)
    )
    states = Counter(
        "running" if refs.running else "exited" for view in views for refs in view.containers.values() if refs.current
    )
    containers = GaugeMetricFamily(
        "kubelet_running_containers", "Number of containers currently running", labels=["container_state"]
    )
    for state in sorted({"running", *states}):
        containers.add_metric([state], states[state])
    yield containers
    present = [view for view in views if not (view.pod.get("metadata") or {}).get("deletionTimestamp")]
    active = [view for view in views if not is_finished(view.pod)]
    for what, text, some in (
        ("desired", "The number of pods the kubelet is being instructed to run.", present),
        ("active", "The number of pods the kubelet considers active and which are being considered", active),
    ):
        family = GaugeMetricFamily(f"kubelet_{what}_pods", text, labels=["static"])
        count = Counter("true" if is_static(view.pod) else "" for view in some)
        for static in ("", "true"):
            family.add_metric([static], count[static])
        yield family
    yield GaugeMetricFamily(
        "kubelet_mirror_pods",
        "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
        value=mirrors,
    )


def _of_engine(tally: OperationTally) -> Iterator[Metric]:
    labels = ["operation_type"]
    total = CounterMetricFamily(
        "kubelet_runtime_operations", "Cumulative number of runtime operations by operation type.", labels=labels
    )
    errors = CounterMetricFamily(
        "kubelet_runtime_operations_errors",
        "Cumulative number of runtime operation errors by operation type.",
        labels=labels,
    )
    seconds = HistogramMetricFamily(
        "kubelet_runtime_operations_duration_seconds",
        "Duration in seconds of runtime operations. Broken down by operation type.",
        labels=labels,
    )
    for operation, counts in sorted(tally.counts.items()):
        total.add_metric([operation], counts.total)
        if counts.errors:
            errors.add_metric([operation], counts.errors)
        seconds.add_metric([operation], _cumulative(BUCKETS, counts.buckets), counts.seconds)
    yield from (total, errors, seconds)


def _of_images(tally: ImageTally) -> Iterator[Metric]:
    seconds = HistogramMetricFamily(
        "kubelet_image_pull_duration_seconds", "Duration in seconds to pull an image.", labels=["image_size_in_bytes"]
    )
    for size, durations in sorted(tally.pulls.items()):
        seconds.add_metric([size], _cumulative(PULL_BUCKETS, durations.buckets), durations.seconds)
    yield seconds
    asked = CounterMetricFamily(
        "kubelet_image_manager_ensure_image_requests",
        "Number of ensure-image requests processed by the kubelet.",
        labels=["pull_policy", "present_locally", "pull_required"],
    )
    for labels, count in sorted(tally.ensured.items()):
        asked.add_metric(labels, count)
    yield asked
    collected = CounterMetricFamily(
        "kubelet_image_garbage_collected",
        "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
        labels=["reason"],
    )
    for reason, count in sorted(tally.collected.items()):
        collected.add_metric([reason], count)
    yield collected


def _of_starts(starts: Starts, tally: OperationTally) -> Iterator[Metric]:
    for metric, text, took in (
        ("", "from kubelet seeing a pod for the first time to the pod starting to run", starts),
        (
            "sli_",
            "to start a pod, excluding time to pull images and run init containers, measured from pod creation "
            "timestamp to when all its containers are reported as started and observed via watch",
            starts.own,
        ),
        (
            "total_",
            "to start a pod since creation, including time to pull images and run init containers, measured from pod "
            "creation timestamp to when all its containers are reported as started and observed via watch",
            starts.total,
        ),
    ):
        yield HistogramMetricFamily(
            f"kubelet_pod_start_{metric}duration_seconds",
            f"Duration in seconds {text}",
            buckets=_cumulative(START_BUCKETS, took.buckets),
            sum_value=took.seconds,
        )
    if starts.first_network is not None:
        yield GaugeMetricFamily(
            "kubelet_first_network_pod_start_sli_duration_seconds",
            "Duration in seconds to start the first network pod, excluding time to pull images and run init "
            "containers, measured from pod creation timestamp to when all its containers are reported as started and "
            "observed via watch",
            value=starts.first_network,
        )
    for metric, text, operation in (
        ("kubelet_started_pods", "Cumulative number of pods started", "run_podsandbox"),
        ("kubelet_started_containers", "Cumulative number of containers started", "create_container"),
    ):
        counts = tally.counts.get(operation)
        total, errors = (counts.total, counts.errors) if counts else (0, 0)
        yield CounterMetricFamily(metric, text, value=total - errors)
        yield CounterMetricFamily(f"{metric}_errors", f"{text}, but failed", value=errors)


def _of_ends(ends: Ends) -> Metric:
    family = CounterMetricFamily(
        "kubelet_terminated_containers",
        "Cumulative number of containers that have terminated",
        labels=["container_type", "exit_code", "reason"],
    )
    for labels, count in sorted(ends.counts.items()):
        family.add_metric(labels, count)
    return family


def _of_claims(uses: Iterable[ClaimUse]) -> Iterator[Metric]:
    """As ``pkg/kubelet/metrics/collectors/volume_stats.go``: once for a claim, however many pods have mounted it."""
    claims = {(use.namespace, use.claim): use.filesystem for use in uses}
    for metric, text, field_name in (
        ("capacity_bytes", "Capacity in bytes of the volume", "capacity"),
        ("available_bytes", "Number of available bytes in the volume", "available"),
        ("used_bytes", "Number of used bytes in the volume", "used"),
        ("inodes", "Maximum number of inodes in the volume", "inodes"),
        ("inodes_free", "Number of free inodes in the volume", "inodes_free"),
        ("inodes_used", "Number of used inodes in the volume", "inodes_used"),
    ):
        labels = ["namespace", "persistentvolumeclaim"]
        family = GaugeMetricFamily(f"kubelet_volume_stats_{metric}", text, labels=labels)
        for claim, filesystem in sorted(claims.items()):
            family.add_metric(claim, getattr(filesystem, field_name) or 0)
        yield family


def _of_server(facts: Facts) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "kubelet_http_requests",
        "Number of the http requests received since the server started",
        labels=["method", "path", "server_type", "long_running"],
    )
    for (method, path, long_running), count in sorted(facts.requests.items()):
        requests.add_metric([method, path, "readwrite", long_running], count)
    yield requests


def _of_process(started_at: float) -> Iterator[Metric]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    size, resident = (int(text) * _PAGE for text in Path("/proc/self/statm").read_text().split()[:2])
    yield CounterMetricFamily(
        "process_cpu_seconds", "Total user and system CPU time spent in seconds.", value=usage.ru_utime + usage.ru_stime
    )
    for name, text, value in (
        ("open_fds", "Number of open file descriptors.", len(os.listdir("/proc/self/fd"))),
        ("max_fds", "Maximum number of open file descriptors.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ("resident_memory_bytes", "Resident memory size in bytes.", resident),
        ("virtual_memory_bytes", "Virtual memory size in bytes.", size),
        ("start_time_seconds", "Start time of the process since unix epoch in seconds.", started_at),
    ):
        yield GaugeMetricFamily(f"process_{name}", text, value=value)


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    found, so_far = [], 0
    for bound, count in zip([*(repr(bound).removesuffix(".0") for bound in bounds), "+Inf"], counts, strict=True):
        so_far += count
        found.append((bound, float(so_far)))
    return found
