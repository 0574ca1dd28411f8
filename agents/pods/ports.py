"""What the pods room needs from its neighbours, as protocols; tests bring small fakes, ``agents.cli`` the real ones."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agents.runtime.model import ContainerInfo
from orca.api.objects import Obj


class Network(Protocol):
    """``agents.network.PodNetwork``."""

    async def attach(
        self,
        pod_uid: str,
        netns_pid: int,
        *,
        host_ports: Sequence[Obj] = (),
        hostname: str = "",
        namespace: str = "",
        sandbox_id: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Give the pod addresses and wire the namespace of ``netns_pid``; calling it again for the same pod (agent
        restart, new sandbox) answers the same addresses. ``host_ports``: the pod's ``containers[].ports`` that have a
        ``hostPort``; ``annotations``: the pod's, for its bandwidth. Raises an exception whose text is fit for an
        event."""

    async def detach(self, pod_uid: str) -> None:
        """Release everything of the pod; harmless when there is nothing."""

    async def reconcile(self, live: Collection[str]) -> None:
        """Release what belongs to none of these pods (uids)."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A volume that is ready: its path on this host, and whether containers may only read it whatever they ask."""

    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a volume, or a volume in a special way, for one ``volumeMounts`` entry of a container."""

    index: int
    """Of the entry; with the container's name it tells stages of a pod apart."""
    volume: str
    sub_path: str = ""
    read_only_in_depth: bool = False


class Volumes(Protocol):
    """``agents.volumes.VolumeManager``."""

    @property
    def read_only_in_depth(self) -> bool:
        """Whether ``recursiveReadOnly`` can be had on this host."""

    async def prepare(self, pod: Obj) -> Mapping[str, Mounted]:
        """Make the pod's volumes ready, by their names. Idempotent. Raises an exception whose text is fit for a
        FailedMount event, also for volume types that are not supported."""

    async def stage(self, pod: Obj, container: str, stages: Sequence[Stage]) -> Mapping[int, str]:
        """Make what the entries ask for beyond a whole volume, of volumes that are ready: index -> host path, until
        :meth:`unstage`. Idempotent. Raises ``ConfigError``."""

    async def unstage(self, pod: Obj, container: str) -> None:
        """The container was started, or could not be; harmless when nothing was staged for it."""

    async def read(self, pod: Obj, volume: str, path: str) -> bytes | None:
        """A file of a volume that is ready, None when it cannot be read; never one outside the volume."""

    async def teardown(self, pod_uid: str) -> None:
        """Unmount and delete; harmless when there is nothing."""

    async def orphans(self, live: Collection[str]) -> None:
        """Unmount and delete what belongs to none of these pods (uids)."""


class Traffic(Protocol):
    """``agents.proxy.Release``."""

    async def released(self, ips: Sequence[str], seconds: float) -> bool:
        """Return once no host's Services send new connections to ``ips``, at the latest after ``seconds``; True when
        there were any and all hosts that count have said so."""


class Recorder(Protocol):
    """``orca.client.EventRecorder``."""

    def event(self, obj: Obj, kind: str, reason: str, message: str, *, field_path: str = "") -> None: ...


class ServiceSource(Protocol):
    """The part of an ``orca.client.Informer`` on Services that service environment variables need."""

    def list(self) -> Iterable[Obj]: ...

    async def synced(self) -> None:
        """Returns once the first list is there: a container started before would miss its variables for good."""


@dataclass(frozen=True, slots=True)
class PodsConfig:
    """Settings of the agent that concern pods. Paths are of the host; ``cluster_dns`` are nameserver addresses."""

    node_name: str
    host_ips: tuple[str, ...]
    root: Path = Path("/var/lib/orca-agent")
    pause_image: str = "orca/pause:1"
    cgroup_parent: str = ""
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolv_conf: Path | None = Path("/etc/resolv.conf")
    """None: pods get nothing of the host's."""
    seccomp_default: bool = False
    """Whether containers without a profile have the engine's."""
    unsafe_sysctls: tuple[str, ...] = ()
    """Names and ``prefix*`` patterns that pods may set besides the safe ones."""
    parallel_starts: int = field(default_factory=lambda: min(len(os.sched_getaffinity(0)) + 1, 8))
    """Engine calls that start containers in flight at once: one waits while each core is busy with another. More than
    that make every pod slower; measured on 2 cores, a pod takes 205 ms of CPU with 3 and 216 with 4, 232 with 6."""
    cpu_period: int = 100_000
    """Of cpu quotas, in microseconds; 0 for no quotas."""
    log_max_size: str = "10m"
    log_max_files: int = 5
    resync_seconds: float = 60.0
    """Between two comparisons of what is known with the engine, for what that forgot to tell."""
    longest_restart_delay: float = 300.0
    """Seconds that a crashing container waits at most before it is started again (``crashLoopBackOff``)."""


@dataclass(frozen=True, slots=True)
class ContainerRefs:
    """Engine ids of one container of a pod: the newest (running or not) and the one before it."""

    current: str
    previous: str = ""
    running: bool = False


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of this host for the agent's HTTPS server. ``containers`` has an entry only for what was created."""

    pod: Obj
    containers: Mapping[str, ContainerRefs] = field(default_factory=dict)
    pause_pid: int = 0
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    """A pod of this host for those who measure it: what runs, and where its volumes are (by name)."""

    pod: Obj
    sandbox: ContainerInfo | None = None
    containers: tuple[ContainerInfo, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
