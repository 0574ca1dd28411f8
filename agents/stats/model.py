"""What was measured, in plain numbers. Sizes are bytes, cpu is in nanoseconds, times are aware UTC.

The shape follows ``k8s.io/kubelet/pkg/apis/stats/v1alpha1``: None stands for a field that is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agents.resources.usage import Pressure


@dataclass(frozen=True, slots=True)
class Cpu:
    """``nano_cores`` is the use since the sample before, or since the start when there is none."""

    at: datetime
    total: int
    nano_cores: int | None = None
    pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """``available`` is what the limit leaves above the working set, None without a limit."""

    at: datetime
    usage: int
    working_set: int
    rss: int
    available: int | None = None
    page_faults: int = 0
    major_page_faults: int = 0
    pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """Swap in use; ``available`` is what may still be used, None when that is not limited."""

    at: datetime
    usage: int
    available: int | None = None


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system, and what one user of it has there (``used``, ``inodes_used``)."""

    at: datetime
    available: int
    capacity: int
    inodes_free: int
    inodes: int
    used: int | None = None
    inodes_used: int | None = None
    device: int = 0
    """``st_dev``: two of the same device share their space."""


@dataclass(frozen=True, slots=True)
class Interface:
    """Counters of one network interface since it was made."""

    name: str
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """Of a pod or the host; ``default`` names the interface that traffic leaves by, "" when there is none."""

    at: datetime
    interfaces: tuple[Interface, ...]
    default: str = ""


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """A running container. ``rootfs`` and ``logs`` are None where disk use was not asked for."""

    name: str
    id: str
    started_at: datetime | None
    cpu: Cpu | None = None
    memory: MemoryUse | None = None
    swap: Swap | None = None
    rootfs: Filesystem | None = None
    logs: Filesystem | None = None
    processes: int | None = None
    io_pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class PodStats:
    """A pod that has something running here."""

    namespace: str
    name: str
    uid: str
    started_at: datetime | None
    containers: tuple[ContainerStats, ...] = ()
    cpu: Cpu | None = None
    memory: MemoryUse | None = None
    swap: Swap | None = None
    network: Network | None = None
    volumes: Mapping[str, Filesystem] = field(default_factory=dict)
    """By name in the pod's spec."""
    claims: Mapping[str, str] = field(default_factory=dict)
    """Those of ``volumes`` that a claim stands for -> its name."""
    ephemeral: Filesystem | None = None
    """Container layers (on the node's file system), logs, emptyDirs on disk and ``/etc/hosts`` together."""
    processes: int | None = None
    io_pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class NodeStats:
    """The host itself. ``pods`` and ``agent`` are upstream's system containers ``pods`` and ``kubelet``."""

    name: str
    started_at: datetime
    cpu: Cpu | None = None
    memory: MemoryUse | None = None
    swap: Swap | None = None
    network: Network | None = None
    filesystem: Filesystem | None = None
    image_filesystem: Filesystem | None = None
    pids_at: datetime | None = None
    pids_max: int = 0
    pids_running: int = 0
    pods: ContainerStats | None = None
    agent: ContainerStats | None = None
    io_pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything, at one moment."""

    node: NodeStats
    pods: tuple[PodStats, ...] = ()
