"""Whether a decoded configuration makes sense, in itself. Pure; whether this host can do it is for who does it.

Reference: k8s.io/kubernetes ``pkg/kubelet/apis/config/validation``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from agents.config.model import Configuration
from agents.images.access import pattern_problem
from agents.sysctls import problem_with_patterns
from orca.api.durations import parse_duration
from orca.api.names import dns1123_subdomain, ip_address
from orca.api.quantity import Quantity

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
ENFORCEMENTS = (
    "pods",
    "system-reserved",
    "system-reserved-compressible",
    "kube-reserved",
    "kube-reserved-compressible",
    "none",
)
SIGNALS = (
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "allocatableMemory.available",
    "pid.available",
)
TLS_VERSIONS = ("", "VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13")
_CPU_LIST = re.compile(r"^\d+(-\d+)?(,\d+(-\d+)?)*$")
_PERCENTAGE = re.compile(r"^\d+(\.\d+)?%$")


def problems_of(one: Configuration) -> list[str]:
    """A sentence for each thing that is wrong, beginning with the field."""
    return [*_numbers(one), *_choices(one), *_shutdown(one), *_reservations(one), *_eviction(one), *_others(one)]


def _numbers(one: Configuration) -> Iterator[str]:
    ranges: dict[str, tuple[float, float, float]] = {
        "healthzPort": (one.healthz_port, 0, 65535),
        "imageGCHighThresholdPercent": (one.image_gc_high_threshold_percent, 0, 100),
        "imageGCLowThresholdPercent": (one.image_gc_low_threshold_percent, 0, 100),
        "iptablesDropBit": (one.iptables_drop_bit, 0, 31),
        "iptablesMasqueradeBit": (one.iptables_masquerade_bit, 0, 31),
        "oomScoreAdj": (one.oom_score_adj, -1000, 1000),
        "port": (one.port, 1, 65535),
        "readOnlyPort": (one.read_only_port, 0, 65535),
    }
    for field, (value, least, most) in ranges.items():
        if not least <= value <= most:
            yield f"{field}: {value} must be between {least} and {most}, inclusive"
    never_negative = {
        "eventBurst": one.event_burst,
        "eventRecordQPS": one.event_record_qps,
        "evictionMaxPodGracePeriod": one.eviction_max_pod_grace_period,
        "imageMaximumGCAge": one.image_maximum_gc_age,
        "imageMinimumGCAge": one.image_minimum_gc_age,
        "kubeAPIBurst": one.kube_api_burst,
        "kubeAPIQPS": one.kube_api_qps,
        "maxOpenFiles": one.max_open_files,
        "maxPods": one.max_pods,
        "podsPerCore": one.pods_per_core,
        "registryBurst": one.registry_burst,
        "registryPullQPS": one.registry_pull_qps,
    }
    for field, value in never_negative.items():
        if value < 0:
            yield f"{field}: {value} must not be a negative number"
    positive = {
        "draManagerReconcilePeriod": one.dra_manager_reconcile_period,
        "fileCheckFrequency": one.file_check_frequency,
        "httpCheckFrequency": one.http_check_frequency,
        "nodeLeaseDurationSeconds": one.node_lease_duration_seconds,
        "nodeStatusReportFrequency": one.node_status_report_frequency,
        "nodeStatusUpdateFrequency": one.node_status_update_frequency,
        "syncFrequency": one.sync_frequency,
    }
    for field, value in positive.items():
        if value <= 0:
            yield f"{field}: {value} must be greater than 0"
    if one.node_status_max_images < -1:
        yield f"nodeStatusMaxImages: {one.node_status_max_images} must be -1 or greater"
    if one.image_gc_low_threshold_percent >= one.image_gc_high_threshold_percent:
        yield (
            f"imageGCLowThresholdPercent: {one.image_gc_low_threshold_percent} must be less than "
            f"imageGCHighThresholdPercent {one.image_gc_high_threshold_percent}"
        )
    if 0 < one.image_maximum_gc_age <= one.image_minimum_gc_age:
        yield "imageMaximumGCAge: must be greater than imageMinimumGCAge"
    if not 0.001 <= one.cpu_cfs_quota_period <= 1:
        yield "cpuCFSQuotaPeriod: must be between 1ms and 1sec, inclusive"
    if not 0 < one.memory_throttling_factor <= 1:
        yield f"memoryThrottlingFactor: {one.memory_throttling_factor} must be greater than 0 and at most 1.0"
    if one.container_log_max_files <= 1:
        yield "containerLogMaxFiles: must be greater than 1"
    if one.container_log_max_size.integer <= 0:
        # Upstream takes a negative size for no rotation, and would fill the disk.
        yield f"containerLogMaxSize: {one.container_log_max_size} must be greater than 0"
    if one.container_log_max_workers < 1:
        yield "containerLogMaxWorkers: must be greater than or equal to 1"
    if one.container_log_monitor_interval < 3:
        yield "containerLogMonitorInterval: must be greater than or equal to 3s"
    if not 1 <= one.crash_loop_back_off.max_container_restart_period <= 300:
        yield "crashLoopBackOff.maxContainerRestartPeriod: must be between 1s and 300s"
    if one.max_parallel_image_pulls is not None:
        if one.max_parallel_image_pulls < 1:
            yield f"maxParallelImagePulls: {one.max_parallel_image_pulls} must be a positive number"
        elif one.serialize_image_pulls and one.max_parallel_image_pulls > 1:
            yield "maxParallelImagePulls: cannot be larger than 1 unless serializeImagePulls is false"
    length = one.user_namespaces.ids_per_pod
    if length <= 0 or length % 65536 or length >= 1 << 32:
        yield "userNamespaces.idsPerPod: must be a multiple of 65536 and less than 1<<32"


def _choices(one: Configuration) -> Iterator[str]:
    for field, value, choices in (
        ("authorization.mode", one.authorization.mode, ("Webhook", "AlwaysAllow")),
        ("cgroupDriver", one.cgroup_driver, ("cgroupfs", "systemd")),
        (
            "configMapAndSecretChangeDetectionStrategy",
            one.config_map_and_secret_change_detection_strategy,
            ("Get", "Cache", "Watch"),
        ),
        ("cpuManagerPolicy", one.cpu_manager_policy, ("none", "static")),
        ("hairpinMode", one.hairpin_mode, ("none", "hairpin-veth", "promiscuous-bridge")),
        (
            "imagePullCredentialsVerificationPolicy",
            one.image_pull_credentials_verification_policy,
            ("NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"),
        ),
        ("logging.format", one.logging.format, ("text", "json")),
        ("memoryManagerPolicy", one.memory_manager_policy, ("None", "Static")),
        ("memoryReservationPolicy", one.memory_reservation_policy, ("None", "TieredReservation")),
        ("memorySwap.swapBehavior", one.memory_swap.swap_behavior, ("", "LimitedSwap", "NoSwap")),
        ("tlsMinVersion", one.tls_min_version, TLS_VERSIONS),
        (
            "topologyManagerPolicy",
            one.topology_manager_policy,
            ("none", "best-effort", "restricted", "single-numa-node"),
        ),
        ("topologyManagerScope", one.topology_manager_scope, ("container", "pod")),
    ):
        if value not in choices:
            yield f"{field}: {_quoted([value])} must be one of {_quoted(choices)}"


def _shutdown(one: Configuration) -> Iterator[str]:
    for field, seconds in (
        ("shutdownGracePeriod", one.shutdown_grace_period),
        ("shutdownGracePeriodCriticalPods", one.shutdown_grace_period_critical_pods),
    ):
        if seconds < 0 or 0 < seconds < 1:
            yield f"{field}: must be either zero or at least 1s"
    if one.shutdown_grace_period_critical_pods > one.shutdown_grace_period:
        yield "shutdownGracePeriodCriticalPods: must not be longer than shutdownGracePeriod"
    if one.shutdown_grace_period_by_pod_priority and (
        one.shutdown_grace_period or one.shutdown_grace_period_critical_pods
    ):
        yield "shutdownGracePeriodByPodPriority: cannot be set together with shutdownGracePeriod"
    for entry in one.shutdown_grace_period_by_pod_priority:
        if entry.shutdown_grace_period_seconds < 0:
            yield f"shutdownGracePeriodByPodPriority: {entry.shutdown_grace_period_seconds} must not be negative"


def _reservations(one: Configuration) -> Iterator[str]:
    if one.system_cgroups and not one.cgroup_root:
        yield "systemCgroups: was specified and cgroupRoot was not"
    enforced = one.enforce_node_allocatable
    for kind, cgroup in (("system", one.system_reserved_cgroup), ("kube", one.kube_reserved_cgroup)):
        wanted = {f"{kind}-reserved", f"{kind}-reserved-compressible"} & set(enforced)
        if len(wanted) == 2:
            yield f"enforceNodeAllocatable: both {_quoted(sorted(wanted))} cannot be specified together"
        if wanted and not cgroup:
            yield f"{kind}ReservedCgroup: must be specified when {_quoted(sorted(wanted))} is in enforceNodeAllocatable"
    for option in enforced:
        if option not in ENFORCEMENTS:
            yield f"enforceNodeAllocatable: {_quoted([option])} must be one of {_quoted(ENFORCEMENTS)}"
        elif option != "none" and not one.cgroups_per_qos:
            yield f"cgroupsPerQOS: must be true when {_quoted([option])} is in enforceNodeAllocatable"
    if len(set(enforced)) != len(enforced):
        yield "enforceNodeAllocatable: names an enforcement twice"
    if "none" in enforced and len(enforced) > 1:
        yield 'enforceNodeAllocatable: nothing else may be specified beside "none"'
    if one.reserved_system_cpus:
        if one.system_reserved_cgroup or one.kube_reserved_cgroup:
            yield "reservedSystemCPUs: cannot be used with systemReservedCgroup or kubeReservedCgroup"
        if not _CPU_LIST.match(one.reserved_system_cpus):
            yield f"reservedSystemCPUs: cannot parse {_quoted([one.reserved_system_cpus])}"
    for field, amounts in (("systemReserved", one.system_reserved), ("kubeReserved", one.kube_reserved)):
        for resource, amount in amounts.items():
            if resource not in ("cpu", "memory", "ephemeral-storage", "pid") and not resource.startswith("hugepages-"):
                yield f"{field}: cannot reserve {_quoted([resource])} resource"
            elif (parsed := _amount(amount)) is None or parsed.value < 0:
                yield f"{field}[{resource}]: {_quoted([amount])} is not a quantity of at least 0"


def _eviction(one: Configuration) -> Iterator[str]:
    for field, thresholds in (
        ("evictionHard", one.eviction_hard),
        ("evictionSoft", one.eviction_soft),
        ("evictionMinimumReclaim", one.eviction_minimum_reclaim),
    ):
        for signal, amount in thresholds.items():
            if signal not in SIGNALS:
                yield f"{field}: unsupported eviction signal {signal}"
            elif _PERCENTAGE.match(amount):
                if float(amount[:-1]) > 100:
                    yield f"{field}[{signal}]: {amount} must not be above 100%"
            elif (parsed := _amount(amount)) is None or parsed.value < 0:
                yield f"{field}[{signal}]: {_quoted([amount])} is neither a percentage nor a quantity of at least 0"
    for signal, period in one.eviction_soft_grace_period.items():
        if signal not in SIGNALS:
            yield f"evictionSoftGracePeriod: unsupported eviction signal {signal}"
            continue
        try:
            if parse_duration(period) < 0:
                yield f"evictionSoftGracePeriod[{signal}]: must not be negative"
        except ValueError as error:
            yield f"evictionSoftGracePeriod[{signal}]: {error}"
    for signal in one.eviction_soft.keys() - one.eviction_soft_grace_period.keys():
        yield f"evictionSoft[{signal}]: needs a grace period in evictionSoftGracePeriod"


def _others(one: Configuration) -> Iterator[str]:
    for address in one.cluster_dns:
        if ip_address(address):
            yield f"clusterDNS: {_quoted([address])} is not an IP address"
    if one.cluster_domain and (problems := dns1123_subdomain(one.cluster_domain)):
        yield f"clusterDomain: {_quoted([one.cluster_domain])} is no domain like cluster.local: {problems[0]}"
    for taint in one.register_with_taints:
        if not taint.key or taint.effect not in EFFECTS:
            yield f"registerWithTaints: needs a key and one of the effects {_quoted(EFFECTS)}"
        if taint.time_added is not None:
            yield "registerWithTaints: timeAdded must not be set"
    if one.enable_system_log_query and not one.enable_system_log_handler:
        yield "enableSystemLogQuery: needs enableSystemLogHandler"
    if bool(one.tls_cert_file) != bool(one.tls_private_key_file):
        yield "tlsCertFile: must be given together with tlsPrivateKeyFile"
    if sysctls := problem_with_patterns(one.allowed_unsafe_sysctls):
        yield f"allowedUnsafeSysctls: {sysctls}"
    directory = one.pod_logs_dir
    if not directory.startswith("/") or str(PurePosixPath(directory)) != directory or not directory.isascii():
        yield f"podLogsDir: {_quoted([directory])} must be an absolute, normalized path in ASCII"
    if one.preloaded_images_verification_allowlist and (
        one.image_pull_credentials_verification_policy != "NeverVerifyAllowlistedImages"
    ):
        yield "preloadedImagesVerificationAllowlist: only with the policy NeverVerifyAllowlistedImages"
    for pattern in one.preloaded_images_verification_allowlist:
        if problem := pattern_problem(pattern):
            yield f"preloadedImagesVerificationAllowlist: {pattern!r} {problem}"


def _amount(text: str) -> Quantity | None:
    try:
        return Quantity.parse(text)
    except ValueError:
        return None


def _quoted(values: Iterable[Any] | Mapping[str, Any]) -> str:
    return ", ".join(f'"{value}"' for value in values)
