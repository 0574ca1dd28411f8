"""The network that the command line asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from agents.network.options import NetworkOptions, NetworkPlugin
from agents.network.pods import PodNetwork
from agents.network.publishing import Publish
from orca.client.clock import Clock

if TYPE_CHECKING:
    from agents.network.cni import CniNetwork

AnyNetwork: TypeAlias = "PodNetwork | CniNetwork"
"""They have the same methods."""


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
    changed: Callable[[], None] = lambda: None,
) -> AnyNetwork:
    """See the two classes for the arguments. ``changed`` is called when ``trouble`` has changed."""
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
            changed=changed,
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


async def remove_networks(
    options: NetworkOptions, root: Path, node_name: str, *, cluster_cidr: str, service_cidr: str
) -> None:
    """Take away what either network has left on this host."""
    if (root / "network" / "cni").is_dir():
        from agents.network.cni import CniNetwork

        await CniNetwork(
            root, node_name, options=options, cluster_cidr=cluster_cidr, service_cidr=service_cidr
        ).cleanup()
    await PodNetwork(root, node_name, cluster_cidr=cluster_cidr, service_cidr=service_cidr).cleanup()
