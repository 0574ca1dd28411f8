"""Where in the cgroup tree a pod and its containers are, by the names a kubelet gives them. Pure.

::

    cgroupfs   <root>/kubepods[/burstable|/besteffort]/pod<uid>/<container id>
    systemd    <root>-kubepods[-burstable|-besteffort]-pod<uid, dashes as underscores>.slice/docker-<container id>.scope

Reference: k8s.io/kubernetes ``pkg/kubelet/cm`` (CgroupName, pod_container_manager), runc's ``cgroups/systemd``
(ExpandSlice) and Docker Engine's daemon, which puts a container's cgroup into its ``CgroupParent``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agents.resources.quality import qos_class
from orca.api.objects import Obj, uid

MOUNT = Path("/sys/fs/cgroup")
KUBEPODS = "kubepods"
SPARE = "spare"
"""Below it are pause containers made before there is a pod for them."""

Name = tuple[str, ...]
"""A cgroup by its parts below the root, as ("kubepods", "burstable", "pod1234")."""


class Driver(Enum):
    """Who makes cgroups: the engine's ``CgroupDriver``."""

    CGROUPFS = "cgroupfs"
    SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True)
class Layout:
    """How cgroups are named on this host. ``root`` is ``--cgroup-parent``; without ``by_quality`` (cgroupsPerQOS:
    false) there are no cgroups of pods, and containers are directly in the root."""

    driver: Driver = Driver.CGROUPFS
    version: int = 1
    root: str = ""
    by_quality: bool = True
    mount: Path = MOUNT

    # Names

    @property
    def root_name(self) -> Name:
        """The parts of ``root``; for systemd a slice's name is taken apart (``a-b.slice`` is ("a", "b"))."""
        text = self.root.strip("/")
        if self.driver is Driver.SYSTEMD and text.endswith(".slice"):
            last = text.rpartition("/")[2].removesuffix(".slice")
            return tuple(part.replace("_", "-") for part in last.split("-") if part)
        return tuple(part for part in text.split("/") if part)

    @property
    def pods_name(self) -> Name:
        """The cgroup of all pods of this host."""
        return (*self.root_name, KUBEPODS)

    def quality_name(self, quality: str) -> Name:
        """The cgroup of all pods of a QoS class; Guaranteed ones are directly in that of all pods."""
        return self.pods_name if quality == "Guaranteed" else (*self.pods_name, quality.lower())

    def pod_name(self, pod: Obj) -> Name:
        return (*self.quality_name(qos_class(pod)), f"pod{uid(pod)}")

    # Paths below a hierarchy's root

    def path(self, name: Name) -> str:
        """``/kubepods/burstable/pod1`` or ``/kubepods.slice/kubepods-burstable.slice/…``; "/" for no name."""
        if self.driver is Driver.CGROUPFS:
            return "/" + "/".join(name)
        return "/" + "/".join(slice_unit(name[: depth + 1]) for depth in range(len(name)))

    def parent(self, name: Name) -> str:
        """What the engine is given as ``CgroupParent`` of a container in this cgroup; "" for its own choice."""
        if not name:
            return ""
        return self.path(name) if self.driver is Driver.CGROUPFS else slice_unit(name)

    def spare_parent(self) -> str:
        """``CgroupParent`` of pause containers that are made before there is a pod for them; they stay there."""
        return self.parent((*self.pods_name, SPARE)) if self.by_quality else self.root

    def pod_cgroup(self, pod: Obj) -> str:
        """Path of a pod's cgroup; that of the root without ``by_quality``."""
        return self.path(self.pod_name(pod) if self.by_quality else self.root_name)

    def container_cgroup(self, pod: Obj, container_id: str) -> str:
        """Path of a container's cgroup."""
        leaf = container_id if self.driver is Driver.CGROUPFS else f"docker-{container_id}.scope"
        return f"{self.pod_cgroup(pod).rstrip('/')}/{leaf}"

    # Directories

    def directory(self, path: str, controller: str = "memory") -> Path:
        """Where the files of a controller are for a cgroup."""
        base = self.mount if self.version == 2 else self.mount / controller
        return base / path.strip("/")


def cgroup_version(mount: Path = MOUNT) -> int:
    """Of this host's tree. One that mounts both has its controllers in version 1."""
    return 2 if (mount / "cgroup.controllers").exists() else 1


def slice_unit(name: Name) -> str:
    """The systemd unit of a cgroup: dashes within a part would read as levels."""
    return "-".join(part.replace("-", "_") for part in name) + ".slice"
