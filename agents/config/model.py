"""Every field of ``KubeletConfiguration`` v1beta1 (Kubernetes 1.36), with the default that holds when it is not set.

Durations are seconds, lists are tuples; quantities and percentages of reservations and eviction stay the text that was
given (validated), since who uses them wants them in different units. Reference: k8s.io/kubelet
``config/v1beta1/types.go``.

Defaults that are not upstream's, because this agent does otherwise when nobody says anything: ``rotate_certificates``
and ``server_tls_bootstrap`` are on (the agent's certificates come from the cluster), ``fail_swap_on`` and
``fail_cgroup_v1`` are off; ``cluster_dns``, ``cluster_domain`` and ``container_runtime_endpoint`` are what the flags
say; ``enable_profiling_handler`` is off, ``content_type`` is JSON.
"""
# ruff: noqa: RUF009  `setting` answers a dataclasses.field

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.config.kinds import (
    BOOL,
    FLOAT,
    INT,
    LONG,
    QUANTITY,
    SECONDS,
    SECONDS_OR_NANOSECONDS,
    TEXT,
    list_of,
    map_of,
    setting,
)
from orca.api.quantity import Quantity

DEFAULT_EVICTION_HARD = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}


@dataclass(frozen=True, slots=True)
class X509Authentication:
    client_ca_file: str = setting("clientCAFile", TEXT, "")


@dataclass(frozen=True, slots=True)
class WebhookAuthentication:
    enabled: bool = setting("enabled", BOOL, True, explicit=True)
    cache_ttl: float = setting("cacheTTL", SECONDS, 120.0)


@dataclass(frozen=True, slots=True)
class AnonymousAuthentication:
    enabled: bool = setting("enabled", BOOL, False, explicit=True)


@dataclass(frozen=True, slots=True)
class Authentication:
    x509: X509Authentication = setting("x509", X509Authentication, X509Authentication())
    webhook: WebhookAuthentication = setting("webhook", WebhookAuthentication, WebhookAuthentication())
    anonymous: AnonymousAuthentication = setting("anonymous", AnonymousAuthentication, AnonymousAuthentication())


@dataclass(frozen=True, slots=True)
class WebhookAuthorization:
    cache_authorized_ttl: float = setting("cacheAuthorizedTTL", SECONDS, 300.0)
    cache_unauthorized_ttl: float = setting("cacheUnauthorizedTTL", SECONDS, 30.0)


@dataclass(frozen=True, slots=True)
class Authorization:
    mode: str = setting("mode", TEXT, "Webhook")
    webhook: WebhookAuthorization = setting("webhook", WebhookAuthorization, WebhookAuthorization())


@dataclass(frozen=True, slots=True)
class MemorySwap:
    swap_behavior: str = setting("swapBehavior", TEXT, "")


@dataclass(frozen=True, slots=True)
class CrashLoopBackOff:
    max_container_restart_period: float = setting("maxContainerRestartPeriod", SECONDS, 300.0, explicit=True)


@dataclass(frozen=True, slots=True)
class ShutdownGracePeriod:
    """For pods of this priority and more, up to the next entry's."""

    priority: int = setting("priority", INT, 0)
    shutdown_grace_period_seconds: int = setting("shutdownGracePeriodSeconds", LONG, 0)


@dataclass(frozen=True, slots=True)
class ReservedMemory:
    numa_node: int = setting("numaNode", INT, 0)
    limits: Mapping[str, Quantity] = setting("limits", map_of(QUANTITY), {})


@dataclass(frozen=True, slots=True)
class Taint:
    key: str = setting("key", TEXT, "")
    value: str = setting("value", TEXT, "")
    effect: str = setting("effect", TEXT, "")
    time_added: str | None = setting("timeAdded", TEXT, None)


@dataclass(frozen=True, slots=True)
class UserNamespaces:
    ids_per_pod: int = setting("idsPerPod", LONG, 65536)


@dataclass(frozen=True, slots=True)
class Tracing:
    endpoint: str = setting("endpoint", TEXT, "")
    sampling_rate_per_million: int = setting("samplingRatePerMillion", INT, 0)


@dataclass(frozen=True, slots=True)
class TextLogOptions:
    split_stream: bool = setting("splitStream", BOOL, False)
    info_buffer_size: Quantity | None = setting("infoBufferSize", QUANTITY, None)


@dataclass(frozen=True, slots=True)
class LogFormatOptions:
    text: TextLogOptions = setting("text", TextLogOptions, TextLogOptions())
    json: TextLogOptions = setting("json", TextLogOptions, TextLogOptions())


@dataclass(frozen=True, slots=True)
class ModuleVerbosity:
    file_pattern: str = setting("filePattern", TEXT, "")
    verbosity: int = setting("verbosity", LONG, 0)


@dataclass(frozen=True, slots=True)
class Logging:
    format: str = setting("format", TEXT, "text")
    flush_frequency: float = setting("flushFrequency", SECONDS_OR_NANOSECONDS, 5.0)
    verbosity: int = setting("verbosity", LONG, 0)
    vmodule: tuple[ModuleVerbosity, ...] = setting("vmodule", list_of(ModuleVerbosity), ())
    options: LogFormatOptions = setting("options", LogFormatOptions, LogFormatOptions())


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole file."""

    # --- pods that do not come from the API
    static_pod_path: str = setting("staticPodPath", TEXT, "")
    static_pod_url: str = setting("staticPodURL", TEXT, "")
    static_pod_url_header: Mapping[str, tuple[str, ...]] = setting("staticPodURLHeader", map_of(list_of(TEXT)), {})
    file_check_frequency: float = setting("fileCheckFrequency", SECONDS, 20.0)
    http_check_frequency: float = setting("httpCheckFrequency", SECONDS, 20.0)
    sync_frequency: float = setting("syncFrequency", SECONDS, 60.0)
    run_once: bool = setting("runOnce", BOOL, False)
    pod_cidr: str = setting("podCIDR", TEXT, "")

    # --- the agent's server
    enable_server: bool = setting("enableServer", BOOL, True, explicit=True)
    address: str = setting("address", TEXT, "0.0.0.0")
    port: int = setting("port", INT, 10250)
    read_only_port: int = setting("readOnlyPort", INT, 0)
    healthz_port: int = setting("healthzPort", INT, 10248, explicit=True)
    healthz_bind_address: str = setting("healthzBindAddress", TEXT, "127.0.0.1")
    tls_cert_file: str = setting("tlsCertFile", TEXT, "")
    tls_private_key_file: str = setting("tlsPrivateKeyFile", TEXT, "")
    tls_cipher_suites: tuple[str, ...] = setting("tlsCipherSuites", list_of(TEXT), ())
    tls_curve_preferences: tuple[int, ...] = setting("tlsCurvePreferences", list_of(INT), ())
    tls_min_version: str = setting("tlsMinVersion", TEXT, "")
    rotate_certificates: bool = setting("rotateCertificates", BOOL, True, explicit=True)
    server_tls_bootstrap: bool = setting("serverTLSBootstrap", BOOL, True, explicit=True)
    authentication: Authentication = setting("authentication", Authentication, Authentication())
    authorization: Authorization = setting("authorization", Authorization, Authorization())
    enable_debugging_handlers: bool = setting("enableDebuggingHandlers", BOOL, True, explicit=True)
    enable_contention_profiling: bool = setting("enableContentionProfiling", BOOL, False)
    enable_profiling_handler: bool = setting("enableProfilingHandler", BOOL, False, explicit=True)
    enable_debug_flags_handler: bool = setting("enableDebugFlagsHandler", BOOL, True, explicit=True)
    enable_system_log_handler: bool = setting("enableSystemLogHandler", BOOL, True, explicit=True)
    enable_system_log_query: bool = setting("enableSystemLogQuery", BOOL, False, explicit=True)
    show_hidden_metrics_for_version: str = setting("showHiddenMetricsForVersion", TEXT, "")
    streaming_connection_idle_timeout: float = setting("streamingConnectionIdleTimeout", SECONDS, 14400.0)

    # --- the Node object
    register_node: bool = setting("registerNode", BOOL, True, explicit=True)
    register_with_taints: tuple[Taint, ...] = setting("registerWithTaints", list_of(Taint), ())
    provider_id: str = setting("providerID", TEXT, "")
    max_pods: int = setting("maxPods", INT, 110)
    pods_per_core: int = setting("podsPerCore", INT, 0)
    node_status_update_frequency: float = setting("nodeStatusUpdateFrequency", SECONDS, 10.0)
    node_status_report_frequency: float = setting("nodeStatusReportFrequency", SECONDS, 300.0)
    node_status_max_images: int = setting("nodeStatusMaxImages", INT, 50, explicit=True)
    node_lease_duration_seconds: int = setting("nodeLeaseDurationSeconds", INT, 40)
    shutdown_grace_period: float = setting("shutdownGracePeriod", SECONDS, 0.0)
    shutdown_grace_period_critical_pods: float = setting("shutdownGracePeriodCriticalPods", SECONDS, 0.0)
    shutdown_grace_period_by_pod_priority: tuple[ShutdownGracePeriod, ...] = setting(
        "shutdownGracePeriodByPodPriority", list_of(ShutdownGracePeriod), ()
    )

    # --- towards the API server and the engine
    content_type: str = setting("contentType", TEXT, "application/json")
    kube_api_qps: int = setting("kubeAPIQPS", INT, 50, explicit=True)
    kube_api_burst: int = setting("kubeAPIBurst", INT, 100)
    event_record_qps: int = setting("eventRecordQPS", INT, 50, explicit=True)
    event_burst: int = setting("eventBurst", INT, 100)
    container_runtime_endpoint: str = setting("containerRuntimeEndpoint", TEXT, "")
    image_service_endpoint: str = setting("imageServiceEndpoint", TEXT, "")
    runtime_request_timeout: float = setting("runtimeRequestTimeout", SECONDS, 120.0)

    # --- the agent as a process
    oom_score_adj: int = setting("oomScoreAdj", INT, -999, explicit=True)
    max_open_files: int = setting("maxOpenFiles", LONG, 1000000)
    logging: Logging = setting("logging", Logging, Logging())
    tracing: Tracing | None = setting("tracing", Tracing, None)
    feature_gates: Mapping[str, bool] = setting("featureGates", map_of(BOOL), {})

    # --- names and networks
    cluster_domain: str = setting("clusterDomain", TEXT, "")
    cluster_dns: tuple[str, ...] = setting("clusterDNS", list_of(TEXT), ())
    resolv_conf: str = setting("resolvConf", TEXT, "/etc/resolv.conf", explicit=True)
    hairpin_mode: str = setting("hairpinMode", TEXT, "promiscuous-bridge")
    make_iptables_util_chains: bool = setting("makeIPTablesUtilChains", BOOL, True, explicit=True)
    iptables_masquerade_bit: int = setting("iptablesMasqueradeBit", INT, 14, explicit=True)
    iptables_drop_bit: int = setting("iptablesDropBit", INT, 15, explicit=True)

    # --- images
    serialize_image_pulls: bool = setting("serializeImagePulls", BOOL, True, explicit=True)
    max_parallel_image_pulls: int | None = setting("maxParallelImagePulls", INT, None, explicit=True)
    registry_pull_qps: int = setting("registryPullQPS", INT, 5, explicit=True)
    registry_burst: int = setting("registryBurst", INT, 10)
    image_minimum_gc_age: float = setting("imageMinimumGCAge", SECONDS, 120.0)
    image_maximum_gc_age: float = setting("imageMaximumGCAge", SECONDS, 0.0)
    image_gc_high_threshold_percent: int = setting("imageGCHighThresholdPercent", INT, 85, explicit=True)
    image_gc_low_threshold_percent: int = setting("imageGCLowThresholdPercent", INT, 80, explicit=True)
    image_pull_credentials_verification_policy: str = setting(
        "imagePullCredentialsVerificationPolicy", TEXT, "NeverVerifyPreloadedImages"
    )
    preloaded_images_verification_allowlist: tuple[str, ...] = setting(
        "preloadedImagesVerificationAllowlist", list_of(TEXT), ()
    )

    # --- cgroups and reservations
    kubelet_cgroups: str = setting("kubeletCgroups", TEXT, "")
    system_cgroups: str = setting("systemCgroups", TEXT, "")
    cgroup_root: str = setting("cgroupRoot", TEXT, "")
    cgroups_per_qos: bool = setting("cgroupsPerQOS", BOOL, True, explicit=True)
    cgroup_driver: str = setting("cgroupDriver", TEXT, "cgroupfs")
    fail_cgroup_v1: bool = setting("failCgroupV1", BOOL, False, explicit=True)
    single_process_oom_kill: bool | None = setting("singleProcessOOMKill", BOOL, None, explicit=True)
    cpu_manager_policy: str = setting("cpuManagerPolicy", TEXT, "none")
    cpu_manager_policy_options: Mapping[str, str] = setting("cpuManagerPolicyOptions", map_of(TEXT), {})
    cpu_manager_reconcile_period: float = setting("cpuManagerReconcilePeriod", SECONDS, 10.0)
    dra_manager_reconcile_period: float = setting("draManagerReconcilePeriod", SECONDS, 60.0)
    memory_manager_policy: str = setting("memoryManagerPolicy", TEXT, "None")
    topology_manager_policy: str = setting("topologyManagerPolicy", TEXT, "none")
    topology_manager_scope: str = setting("topologyManagerScope", TEXT, "container")
    topology_manager_policy_options: Mapping[str, str] = setting("topologyManagerPolicyOptions", map_of(TEXT), {})
    qos_reserved: Mapping[str, str] = setting("qosReserved", map_of(TEXT), {})
    pod_pids_limit: int = setting("podPidsLimit", LONG, -1, explicit=True)
    cpu_cfs_quota: bool = setting("cpuCFSQuota", BOOL, True, explicit=True)
    cpu_cfs_quota_period: float = setting("cpuCFSQuotaPeriod", SECONDS, 0.1, explicit=True)
    system_reserved: Mapping[str, str] = setting("systemReserved", map_of(TEXT), {})
    kube_reserved: Mapping[str, str] = setting("kubeReserved", map_of(TEXT), {})
    reserved_system_cpus: str = setting("reservedSystemCPUs", TEXT, "")
    reserved_memory: tuple[ReservedMemory, ...] = setting("reservedMemory", list_of(ReservedMemory), ())
    system_reserved_cgroup: str = setting("systemReservedCgroup", TEXT, "")
    kube_reserved_cgroup: str = setting("kubeReservedCgroup", TEXT, "")
    enforce_node_allocatable: tuple[str, ...] = setting(
        "enforceNodeAllocatable", list_of(TEXT), ("pods",), explicit=True
    )
    memory_throttling_factor: float = setting("memoryThrottlingFactor", FLOAT, 0.9, explicit=True)
    memory_reservation_policy: str = setting("memoryReservationPolicy", TEXT, "None")
    fail_swap_on: bool = setting("failSwapOn", BOOL, False, explicit=True)
    memory_swap: MemorySwap = setting("memorySwap", MemorySwap, MemorySwap())

    # --- eviction
    eviction_hard: Mapping[str, str] = setting("evictionHard", map_of(TEXT), DEFAULT_EVICTION_HARD)
    eviction_soft: Mapping[str, str] = setting("evictionSoft", map_of(TEXT), {})
    eviction_soft_grace_period: Mapping[str, str] = setting("evictionSoftGracePeriod", map_of(TEXT), {})
    eviction_minimum_reclaim: Mapping[str, str] = setting("evictionMinimumReclaim", map_of(TEXT), {})
    eviction_pressure_transition_period: float = setting("evictionPressureTransitionPeriod", SECONDS, 300.0)
    eviction_max_pod_grace_period: int = setting("evictionMaxPodGracePeriod", INT, 0)
    merge_default_eviction_settings: bool = setting("mergeDefaultEvictionSettings", BOOL, False, explicit=True)
    kernel_memcg_notification: bool = setting("kernelMemcgNotification", BOOL, False)
    local_storage_capacity_isolation: bool = setting("localStorageCapacityIsolation", BOOL, True, explicit=True)
    volume_stats_agg_period: float = setting("volumeStatsAggPeriod", SECONDS, 60.0)

    # --- what containers get
    container_log_max_size: Quantity = setting("containerLogMaxSize", QUANTITY, Quantity.parse("10Mi"))
    container_log_max_files: int = setting("containerLogMaxFiles", INT, 5, explicit=True)
    container_log_max_workers: int = setting("containerLogMaxWorkers", INT, 1, explicit=True)
    container_log_monitor_interval: float = setting("containerLogMonitorInterval", SECONDS, 10.0, explicit=True)
    pod_logs_dir: str = setting("podLogsDir", TEXT, "/var/log/pods")
    config_map_and_secret_change_detection_strategy: str = setting(
        "configMapAndSecretChangeDetectionStrategy", TEXT, "Watch"
    )
    allowed_unsafe_sysctls: tuple[str, ...] = setting("allowedUnsafeSysctls", list_of(TEXT), ())
    seccomp_default: bool = setting("seccompDefault", BOOL, False, explicit=True)
    volume_plugin_dir: str = setting("volumePluginDir", TEXT, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/")
    enable_controller_attach_detach: bool = setting("enableControllerAttachDetach", BOOL, True, explicit=True)
    protect_kernel_defaults: bool = setting("protectKernelDefaults", BOOL, False)
    crash_loop_back_off: CrashLoopBackOff = setting("crashLoopBackOff", CrashLoopBackOff, CrashLoopBackOff())
    user_namespaces: UserNamespaces = setting("userNamespaces", UserNamespaces, UserNamespaces())
