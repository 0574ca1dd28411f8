"""What `orca-agent` was told by its flags and its KubeletConfiguration, and what it calls itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agents.config import Configuration
from agents.network import NetworkOptions
from agents.proxy import HostView

KUBERNETES_VERSION = "v1.36.0"


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """The flags of `orca-agent`. Either `kubeconfig`, or `server` and (the first time) `token`."""

    node_name: str
    server: str = ""
    token: str = ""
    kubeconfig: Path | None = None
    node_ip: str = ""
    root: Path = Path("/var/lib/orca-agent")
    docker_socket: str = "/run/docker.sock"
    cgroup_parent: str = ""
    pause_image: str = "orca/pause:1"
    proxy_mode: str = "auto"
    services: HostView = field(default_factory=HostView)
    cluster_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    network: NetworkOptions = field(default_factory=NetworkOptions)
    labels: Mapping[str, str] = field(default_factory=dict)
    configuration: Configuration = field(default_factory=Configuration)
    """What the KubeletConfiguration and the flags that override it say."""


def version() -> str:
    """What the node reports as kubeletVersion."""
    return f"{KUBERNETES_VERSION}+orca.{importlib.metadata.version('orca')}"
