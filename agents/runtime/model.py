"""What is asked of the engine and what it reports, in our own words; nothing here knows Docker's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

# Container labels, as dockershim set them: identity survives the agent, tools that read them keep working.
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
CONTAINER_TYPE = "io.kubernetes.docker.type"
SANDBOX_ID = "io.kubernetes.sandbox.id"
HASH = "annotation.io.kubernetes.container.hash"
ATTEMPT = "annotation.io.kubernetes.container.restartCount"
GRACE_PERIOD = "annotation.io.kubernetes.pod.terminationGracePeriod"
TERMINATION_PATH = "annotation.io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY = "annotation.io.kubernetes.container.terminationMessagePolicy"
SIZES = "annotation.io.kubernetes.container.resources"
"""``resources`` that the container was made with, as JSON."""

SANDBOX_NAME = "POD"
"""Value of :data:`CONTAINER_NAME` on pause containers."""

State = Literal["created", "running", "exited"]


@dataclass(frozen=True, slots=True)
class Mount:
    """A host path inside a container; ``propagation`` is the engine's word (``rprivate``, ``rslave``, ``rshared``)."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits in the kernel's units: shares, microseconds, bytes. 0 means not limited."""

    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    memory: int = 0
    pids: int = 0
    cpuset: str = ""
    """Cpus it may run on, ``0-3,8``; "" for all."""


@dataclass(frozen=True, slots=True)
class Security:
    """Who the process is and what it may do. ``user`` is ``uid[:gid]`` or "" for the image's own."""

    user: str = ""
    groups: tuple[str, ...] = ()
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    read_only_root: bool = False
    unmasked_proc: bool = False
    seccomp: str = ""
    """"" for the engine's default, ``unconfined``, or a profile's JSON text."""
    apparmor: str = ""
    selinux: tuple[str, ...] = ()
    """``user:…``, ``role:…``, ``type:…``, ``level:…``; the engine heeds them where SELinux is on."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """The pause container of one pod: holder of its network and IPC namespaces."""

    name: str
    image: str
    labels: Mapping[str, str]
    hostname: str
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    runtime: str = ""
    """Which of the engine's runtimes runs it, "" for its default."""
    security: Security = field(default_factory=Security)


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One app container that joins a sandbox."""

    name: str
    image: str
    labels: Mapping[str, str]
    sandbox_id: str
    command: tuple[str, ...] | None = None
    """Replaces the image's ENTRYPOINT (and with it its CMD); None keeps it."""
    args: tuple[str, ...] | None = None
    environment: tuple[str, ...] = ()
    """``NAME=value`` in order."""
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    process_namespace: str = ""
    """Id of the container whose process namespace is joined (the sandbox when a pod shares one), "" for an own one."""
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)
    oom_score_adj: int = 0
    stop_signal: str = ""
    cgroup_parent: str = ""
    runtime: str = ""
    """As of the sandbox."""
    log_max_size: str = "10m"
    log_max_files: int = 5


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """A container as last inspected. Times are aware UTC, None when the engine has none."""

    id: str
    name: str
    state: State
    labels: Mapping[str, str]
    image: str
    """The reference it was created from."""
    image_id: str
    pid: int
    exit_code: int
    oom_killed: bool
    error: str
    """Why the engine could not start it; such a container stays ``created``."""
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    hostname: str = ""
    stop_signal: str = ""
    """What asks it to end; "" is SIGTERM."""
    resources: Resources = field(default_factory=Resources)
    """As the engine was told last; 0 where it was not."""
    runtime: str = ""
    """Which of the engine's runtimes runs it."""
    layer: str = ""
    """Directory with all that the container wrote to its root file system; "" where the engine has none such."""
    log_path: str = ""
    """The engine's log file, whose rotated parts are beside it; "" when it writes none."""

    @property
    def pod_uid(self) -> str:
        return self.labels.get(POD_UID, "")

    @property
    def container(self) -> str:
        """Name in the pod's spec; :data:`SANDBOX_NAME` for the pause container."""
        return self.labels.get(CONTAINER_NAME, "")

    @property
    def attempt(self) -> int:
        """0 for the first container of that name in the pod, then counting restarts."""
        text = self.labels.get(ATTEMPT, "0")
        return int(text) if text.isdigit() else 0

    @property
    def is_sandbox(self) -> bool:
        return self.container == SANDBOX_NAME

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image on this host. ``user`` is what the image runs as; ``digests`` are ``repo@sha256:…``."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    user: str = ""

    @property
    def pull_id(self) -> str:
        """What ``status.containerStatuses[].imageID`` shows."""
        return f"docker-pullable://{self.digests[0]}" if self.digests else f"docker://{self.id}"


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something happened to one of our containers: ``action`` is create, start, die, oom, destroy."""

    action: str
    id: str
    labels: Mapping[str, str]

    @property
    def pod_uid(self) -> str:
        return self.labels.get(POD_UID, "")


@dataclass(frozen=True, slots=True)
class Survey:
    """What the engine tells of pods' containers, and what not."""

    containers: list[ContainerInfo]
    silent: dict[str, str]
    """Containers it does not describe, id -> pod's uid."""
    present: frozenset[str]
    """Ids of all there are."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """Outcome of a command that ended by itself; output is stdout and stderr in order, cut at the limit asked for."""

    code: int
    output: bytes


@dataclass(frozen=True, slots=True)
class HostAbilities:
    """What this host's engine can do, probed once. ``capabilities`` are those containers can be given."""

    capabilities: tuple[str, ...]
    full_privileges: bool
    engine_version: str
    api_version: str
    cgroup_version: str
    storage_root: str
    kernel: str = ""
    cgroup_driver: str = "cgroupfs"
    runtimes: tuple[str, ...] = ()
    """Names under which the engine was given runtimes (``runc``, ``nvidia``)."""
