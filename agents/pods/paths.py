"""Where a pod's own files are on this host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agents.pods.ports import PodsConfig


@dataclass(frozen=True, slots=True)
class PodFiles:
    """Paths below the pod's directory on this host, ``<root>/pods/<uid>``."""

    directory: Path

    @property
    def hosts(self) -> Path:
        return self.directory / "etc-hosts"

    @property
    def resolver(self) -> Path:
        return self.directory / "resolv.conf"

    def termination(self, container: str, attempt: int) -> Path:
        """Where a container writes its last words."""
        return self.directory / "containers" / container / str(attempt)


def pod_files(config: PodsConfig, pod_uid: str) -> PodFiles:
    return PodFiles(config.root / "pods" / pod_uid)
