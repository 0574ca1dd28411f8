"""What the controllers may be told from outside; `orca server` fills it from its flags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from orca.api.builtin import BUILTIN
from orca.api.objects import Obj
from orca.api.resources import Resource, ResourceTable


class RemoteKinds(Protocol):
    """Kinds that other servers serve (API aggregation)."""

    def failing(self) -> Sequence[str]:
        """``group/version: why`` of those whose kinds cannot be told now."""

    def deletable(self) -> Sequence[Resource]:
        """Rows of namespaced kinds that can be listed and deleted."""

    async def empty(self, resource: Resource, namespace: str) -> list[Obj]:
        """Delete all objects of a kind in a namespace; what is left. Raises ApiError."""


class Pages(Protocol):
    """Documents of the API by their path, whoever serves them: metrics of resources, custom and external ones."""

    async def get(self, path: str, query: Mapping[str, str]) -> Obj:
        """Raises ApiError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionConfig:
    """How fast nodes that stopped answering are cleared of pods (names and values of kube-controller-manager).

    `rate` is in nodes per second for a cluster where most nodes are well. When at least the share
    `unhealthy_zone_threshold` of the nodes is gone, a cluster of more than `large_cluster` nodes goes on at
    `secondary_rate`, a smaller one stops: then the fault is more likely on this side.
    """

    rate: float = 0.1
    secondary_rate: float = 0.01
    unhealthy_zone_threshold: float = 0.55
    large_cluster: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllersConfig:
    """Durations are seconds.

    `table` are the resources the garbage collector and the namespace controller care for; rows added later by
    CustomResourceDefinitions are followed. `remote` are those of other servers, of which namespaces are emptied too.
    Without `pages` nothing is autoscaled.
    `cluster_cidr` has a range of each family, separated by a comma, of which nodes get parts of the mask sizes.
    Without `ca_cert_path` there is no root CA ConfigMap, without `ca_key_path`
    no certificate is signed.
    """

    table: ResourceTable = BUILTIN
    remote: RemoteKinds | None = None
    pages: Pages | None = None
    cluster_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    node_cidr_mask_size: int = 24
    node_cidr_mask_size_ipv6: int = 64
    allocate_node_cidrs: bool = True

    ca_cert_path: Path | None = None
    ca_key_path: Path | None = None
    certificate_duration: float = 365 * 86400.0

    node_monitor_grace: float = 40.0
    node_startup_grace: float = 60.0
    eviction: EvictionConfig = field(default_factory=EvictionConfig)

    terminated_pod_threshold: int = 12500
    workers: int = 5
    endpoints_batch: float = 0.02
    """How long changes of one service are collected before its endpoints are written."""
    disabled: frozenset[str] = frozenset()
    """Names of controllers that do not run."""
