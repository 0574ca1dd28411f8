"""What every way of writing services into the kernel has in common: `Backend`, and the host's side of it, `HostView`.

Backends: ``agents.proxy.iptables``, ``agents.proxy.nftables``, ``agents.proxy.ipvs``. ``agents.proxy.modes`` chooses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agents.proxy.model import Family, ServicePort, family_of

PRIMARY = "primary"
MASQUERADE_MARK = 0x4000
"""The bit of a packet's mark that says its source address is to become this host's."""


class BackendError(Exception):
    """The kernel, or a tool that speaks to it, refused or is not there; the message carries its words."""


@dataclass(frozen=True, slots=True)
class HostView:
    """What rules depend on and no Service says. Networks are of either family, in text form.

    ``cluster_cidrs``: where pods are; of a family without one nothing is known to be outside the cluster.
    ``node_ips``: the addresses of this node, its primary one of each family first.
    ``node_port_addresses``: kube-proxy's ``--nodeport-addresses``: networks whose addresses on this host serve node
    ports, or just ``"primary"``; empty for all addresses of the host.
    """

    cluster_cidrs: tuple[str, ...] = ("10.244.0.0/16",)
    node_ips: tuple[str, ...] = ()
    node_port_addresses: tuple[str, ...] = ()
    masquerade_all: bool = False
    """Also packets from pods to cluster IPs get this host's address (``--masquerade-all``)."""
    localhost_node_ports: bool = True
    """Node ports on 127.0.0.1 (``--iptables-localhost-nodeports``)."""
    ipvs_scheduler: str = "rr"
    ipvs_strict_arp: bool = False
    ipvs_exclude_cidrs: tuple[str, ...] = ()

    def cluster_cidr(self, family: Family) -> str:
        """ "" when there is none."""
        return next((cidr for cidr in self.cluster_cidrs if family_of(cidr) == family), "")

    def node_port_networks(self, family: Family) -> tuple[str, ...] | None:
        """Networks, of which addresses of this host serve node ports; None for all of them, () for none."""
        if not self.node_port_addresses:
            return None
        found = set()
        for text in self.node_port_addresses:
            if text == PRIMARY:
                first = next((ip for ip in self.node_ips if family_of(ip) == family), "")
                found |= {str(ipaddress.ip_network(first))} if first else set()
            elif family_of(text) == family:
                network = ipaddress.ip_network(text, strict=False)
                if network.prefixlen == 0:
                    return None
                found.add(str(network))
        return tuple(sorted(found))

    def node_in(self, networks: tuple[str, ...]) -> bool:
        """Whether one of this node's own addresses is in one of these networks."""
        ranges = [ipaddress.ip_network(network) for network in networks]
        return any(ipaddress.ip_address(ip) in network for ip in self.node_ips for network in ranges)


class Backend(Protocol):
    """One host's service rules, of both families. Not for use by two tasks at once. Every method raises
    ``BackendError``; the next call then starts from what the kernel has."""

    name: str
    """As ``--proxy-mode`` names it."""
    heal_seconds: float
    """How often `heal` is to be called while nothing changes."""

    @property
    def services(self) -> int:
        """How many Services it serves."""

    async def update(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> int:
        """Make the services ("namespace/name") as given (no ports: gone); returns how many things were written into
        the kernel (chains, elements, virtual servers), 0 when all was so already.

        The first call names every service there is; what the kernel has of others, of a former run, goes. When it
        returns, new connections go by these rules and by no others.
        """

    async def heal(self) -> int:
        """Put back what somebody else has taken or changed; returns how many things. Cheap when nobody has."""

    def listen(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called, in the event loop, whenever `heal` has something to look at; a backend that is not told
        by the kernel does nothing."""

    async def set_host(self, host: HostView) -> None:
        """From now on the host is this; takes effect with the next `update`."""

    async def remove_everything(self) -> None:
        """Take away all that is ours, of any run, and nothing else."""

    def close(self) -> None:
        """Let go of sockets; rules stay."""
