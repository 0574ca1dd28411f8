"""What the command line says of the pod network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agents.network.routes import NetworkBackend


class NetworkPlugin(StrEnum):
    """Who wires pods (``--network-plugin``): this program, or CNI plugins."""

    OWN = "orca"
    CNI = "cni"


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """``backend`` is of the own network; the directories are of CNI."""

    plugin: NetworkPlugin = NetworkPlugin.OWN
    backend: NetworkBackend = NetworkBackend.AUTO
    cni_conf_dir: Path = Path("/etc/cni/net.d")
    cni_bin_dirs: tuple[Path, ...] = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
