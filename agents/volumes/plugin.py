"""What one type of volume is to the manager."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agents.pods.ports import Mounted
from orca.api.objects import Obj, uid


@dataclass(frozen=True, slots=True)
class Places:
    """Where volumes lie: ``pods/<uid>/volumes/kubernetes.io~<type>/<name>``, as the kubelet has it, and data of the API
    in the same layout on a tmpfs."""

    disk: Path
    memory: Path

    def on_disk(self, pod: Obj, plugin: str, name: str) -> Path:
        return self.disk / uid(pod) / "volumes" / f"kubernetes.io~{plugin}" / name

    def in_memory(self, pod: Obj, plugin: str, name: str) -> Path:
        return self.memory / uid(pod) / "volumes" / f"kubernetes.io~{plugin}" / name

    def stages(self, pod_uid: str) -> Path:
        """Where parts of the pod's volumes are mounted while a container is started, a directory for each."""
        return self.memory / pod_uid / "stages"

    def note(self, pod: Obj, plugin: str, name: str) -> Path:
        """A file by which a type remembers of a volume what its directory does not tell."""
        return self.disk / uid(pod) / "plugins" / f"kubernetes.io~{plugin}" / name / "ready"


class Plugin(Protocol):
    """One type of volume.

    What a plugin mounts, or puts into the directories ``Places`` gives it, needs no undoing: the manager unmounts
    everything below a pod's directory and deletes it.
    """

    @property
    def follows_api(self) -> bool:
        """Whether what is in the volume may change with objects of the API: it is then made again when they do."""
        ...

    async def make(self, pod: Obj, name: str, source: Obj) -> Mounted:
        """Make the volume ``name`` of the pod ready; harmless to repeat, also after a crash in the middle.

        ``source`` is what the pod's spec has under the type's name. Raises VolumeError, OSError or ApiError.
        """
        ...


def fs_group(pod: Obj) -> int | None:
    """The group that is to own the pod's volumes."""
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)


def only_on_mismatch(pod: Obj) -> bool:
    """Whether a volume whose top already belongs to the group is left as it is (fsGroupChangePolicy)."""
    return (pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy") == "OnRootMismatch"
