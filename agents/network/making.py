"""The network that the command line asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.network.options import NetworkOptions, NetworkPlugin
from agents.network.pods import PodNetwork
from agents.network.publishing import Publish
from orca.client.clock import Clock

if TYPE_CHECKING:
    from agents.network.cni import CniNetwork


def make_network(
    options: NetworkOptions,
    root: Path,
    node_name: str,
    *,
    cluster_cidr: str,
    service_cidr: str,
    local_addresses: Sequence[str] = (),
    clock: Clock | None = None,
    publish: Publish | None = None,
) -> PodNetwork | CniNetwork:
    """See the two classes for the arguments."""
    if options.plugin is NetworkPlugin.CNI:
        # Loaded only where it is used.
        from agents.network.cni import CniNetwork

        return CniNetwork(
            root,
            node_name,
            options=options,
            cluster_cidr=cluster_cidr,
            service_cidr=service_cidr,
            local_addresses=local_addresses,
        )
    return PodNetwork(
        root,
        node_name,
        cluster_cidr=cluster_cidr,
        service_cidr=service_cidr,
        local_addresses=local_addresses,
        clock=clock,
        backend=options.backend,
        publish=publish,
    )
