"""Which fields this agent does not honour yet: setting one to other than its default is refused by name.

Whoever makes one work takes it off. A name may be a path (``logging.vmodule``). The fields that upstream documents as
having no effect any more (streamingConnectionIdleTimeout, iptablesMasqueradeBit, iptablesDropBit) are not here: they
are accepted whatever they say.
"""

from __future__ import annotations

from typing import Any

from agents.config.kinds import encode
from agents.config.model import Configuration

NOT_HONOURED: frozenset[str] = frozenset(
    {
        "configMapAndSecretChangeDetectionStrategy",
        "containerLogMaxWorkers",
        "containerLogMonitorInterval",
        "contentType",
        "cpuManagerReconcilePeriod",
        "draManagerReconcilePeriod",
        "enableContentionProfiling",
        "enableControllerAttachDetach",
        "enableProfilingHandler",
        "enableSystemLogQuery",
        "featureGates",
        "hairpinMode",
        "imageServiceEndpoint",
        "kubeAPIBurst",
        "kubeAPIQPS",
        "kubeletCgroups",
        "logging.flushFrequency",
        "logging.options",
        "logging.vmodule",
        "makeIPTablesUtilChains",
        "memoryManagerPolicy",
        "memoryReservationPolicy",
        "memorySwap.swapBehavior",
        "memoryThrottlingFactor",
        "podCIDR",
        "qosReserved",
        "reservedMemory",
        "runOnce",
        "runtimeRequestTimeout",
        "serverTLSBootstrap",
        "showHiddenMetricsForVersion",
        "systemCgroups",
        "tlsCurvePreferences",
        "topologyManagerPolicy",
        "topologyManagerPolicyOptions",
        "topologyManagerScope",
        "tracing",
        "userNamespaces",
        "volumePluginDir",
    }
)

_ALSO: dict[str, tuple[Any, ...]] = {
    # Says what holds anyway.
    "memorySwap.swapBehavior": ("NoSwap",),
}


def refusals(configuration: Configuration) -> list[str]:
    """A sentence for each field that is set to something this agent would not do."""
    have, default = encode(configuration), encode(Configuration())
    found = []
    for name in sorted(NOT_HONOURED):
        value = _at(have, name)
        if value != _at(default, name) and value not in _ALSO.get(name, ()):
            found.append(f"{name}: orca-agent does not support {value!r} here (default: {_at(default, name)!r})")
    return found


def _at(settings: Any, path: str) -> Any:
    for part in path.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings
