"""In which order pods go. Pure, with upstream's comparisons: whether a pod uses more than it asked for, then its
priority, then how much more; a pod of which nothing is known goes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from agents.eviction.thresholds import IMAGE_SIGNALS, INODE_SIGNALS, MEMORY_SIGNALS, Signal
from agents.pods.admission import requests_of
from agents.stats.model import Filesystem, PodStats
from orca.api.objects import Obj, meta, uid

CRITICAL_PRIORITY = 2_000_000_000
"""Priority of ``system-cluster-critical``."""
CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_MIRROR = "kubernetes.io/config.mirror"

Stats: TypeAlias = Mapping[str, PodStats]
"""By pod uid."""


def is_critical(pod: Obj) -> bool:
    """Never evicted: static pods, which nobody would make again, their mirrors, and pods of a system priority."""
    annotations = meta(pod).get("annotations") or {}
    if annotations.get(CONFIG_SOURCE, "api") != "api" or CONFIG_MIRROR in annotations:
        return True
    return priority_of(pod) >= CRITICAL_PRIORITY


def priority_of(pod: Obj) -> int:
    return int((pod.get("spec") or {}).get("priority") or 0)


def ranked(signal: Signal, pods: Sequence[Obj], stats: Stats, *, dedicated_image_fs: bool) -> list[Obj]:
    """``pods`` in the order in which they should go."""
    if signal is Signal.PID:
        return sorted(pods, key=lambda pod: (priority_of(pod), -_processes(stats.get(uid(pod)))))
    return sorted(pods, key=lambda pod: _key(signal, pod, stats.get(uid(pod)), dedicated_image_fs))


def _key(signal: Signal, pod: Obj, stats: PodStats | None, dedicated: bool) -> tuple[bool, int, int]:
    if stats is None:
        return (False, -(1 << 62), 0)
    requests = requests_of(pod)
    if signal in MEMORY_SIGNALS:
        use = stats.memory.working_set if stats.memory is not None else 0
        asked = over = requests.get("memory", 0)
    else:
        use = disk_use(pod, stats, signal, dedicated_image_fs=dedicated)
        over = requests.get("ephemeral-storage", 0)
        # Nobody can ask for inodes; what a pod has of them is compared with nothing, then with its request in bytes.
        asked = 0 if signal in INODE_SIGNALS else over
    return (not use > asked, priority_of(pod), over - use)


def disk_use(pod: Obj, stats: PodStats, signal: Signal, *, dedicated_image_fs: bool) -> int:
    """What of a pod counts against a file system: with one for images, layers count there, the rest on the node's."""
    roots = logs = volumes = True
    if dedicated_image_fs:
        roots = signal in IMAGE_SIGNALS
        logs = volumes = not roots
    parts: list[Filesystem | None] = []
    for container in stats.containers:
        parts += [container.rootfs] if roots else []
        parts += [container.logs] if logs else []
    if volumes:
        parts += [stats.volumes.get(name) for name in local_volumes(pod)]
    measure = "inodes_used" if signal in INODE_SIGNALS else "used"
    return sum(getattr(part, measure) or 0 for part in parts if part is not None)


def local_volumes(pod: Obj) -> list[str]:
    """Volumes whose files lie on the host's disk."""
    return [
        volume["name"]
        for volume in (pod.get("spec") or {}).get("volumes") or ()
        if "hostPath" in volume or ("emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory")
    ]


def _processes(stats: PodStats | None) -> int:
    return (stats.processes or 0) if stats is not None else 1 << 62
