"""Ways to other hosts' pods in the kernel: routes, and the tunnel (a vxlan device) with its neighbours.

Nothing is learned from packets: who is where follows from the nodes. Routes carry a protocol number of ours, so that
nobody else's are touched; everything on the tunnel's device is ours. What is new is put in place from below (where
frames go, who has an address, the route), what is old is taken away from above, so that no packet finds half a way.
Everything here blocks, in the network's thread.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from agents.network import netlink as nl
from agents.network.messages import ifinfmsg, ndmsg, rtmsg
from agents.network.ranges import family_of
from agents.network.routes import PORT, VNI, NodeRoute, RoutePlan, TunnelPeer

TUNNEL = "orca-vxlan"
ROUTE_PROTOCOL = 111

_IFLA_INFO_DATA = 2
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_PORT, _VXLAN_LOCAL6 = 1, 4, 15, 17


@dataclass(frozen=True, slots=True)
class TunnelEnd:
    """This host's end: the address on the network below, its own hardware and IP addresses within, and its MTU."""

    underlay: str
    hardware: str
    addresses: tuple[str, ...]
    mtu: int


class Peering:
    """Shares the socket of `Wiring`."""

    def __init__(self, route_socket: nl.RouteSocket) -> None:
        self._socket = route_socket
        self._tunnel_has: tuple[str, ...] = ()
        """Our addresses within, as set last."""

    def set_ways(self, plan: RoutePlan, end: TunnelEnd) -> dict[str, str]:
        """Make the ways of ours to other hosts exactly these; node -> why its pods cannot be reached."""
        problems = dict(plan.problems)
        present = self._routes()
        tunnel, fault = nl.index_of(TUNNEL), ""
        if plan.peers:
            try:
                tunnel = self._ensure_tunnel(end)
                self._add_neighbours(tunnel, plan.peers)
            except OSError as error:
                # A kernel without vxlan, say: hosts on one segment have nothing to do with it.
                fault = f"the tunnel cannot be set up: {error.strerror or error}"
        wanted: set[str] = set()
        for route in plan.routes:
            if route.tunnel and fault:
                wanted.add(route.cidr)
                problems[route.node] = f"no way to the pods of node {route.node}: {fault}"
                continue
            try:
                index = tunnel if route.tunnel else self._interface(route.via)
                wanted.add(route.cidr)
                if present.get(route.cidr) != (route.via, index):
                    if route.tunnel and route.cidr in present and family_of(route.cidr) == 6:
                        # The far end's address is in the range: IPv6 takes no gateway that is behind another interface.
                        self.remove_route(route.cidr)
                    self._add_route(route, index)
            except OSError as error:
                wanted.add(route.cidr)
                problems[route.node] = (
                    f"no way to the pods of node {route.node}: {route.via}: {error.strerror or error}"
                )
        for cidr in present.keys() - wanted:
            self.remove_route(cidr)
        if tunnel and not plan.peers:
            self._remove_tunnel()
        elif tunnel and not fault:
            self._remove_neighbours(tunnel, plan.peers)
        return problems

    def remove_everything(self) -> None:
        """Take away the tunnel and every route of ours."""
        for cidr in self._routes():
            self.remove_route(cidr)
        self._remove_tunnel()

    # --- routes ------------------------------------------------------------------------------------------------------

    def _add_route(self, route: NodeRoute, index: int) -> None:
        network = ipaddress.ip_network(route.cidr)
        self._socket.apply(
            nl.route(
                f"route {route.cidr} via {route.via}",
                destination=str(network.network_address),
                prefix=network.prefixlen,
                gateway=route.via,
                index=index,
                protocol=ROUTE_PROTOCOL,
                replace=True,
                onlink=route.tunnel,
            )
        )

    def remove_route(self, cidr: str) -> None:
        """Harmless when it is gone already."""
        network = ipaddress.ip_network(cidr)
        self._socket.apply(
            nl.route(
                f"remove route {cidr}",
                destination=str(network.network_address),
                prefix=network.prefixlen,
                kind=nl.RTM_DELROUTE,
                protocol=ROUTE_PROTOCOL,
                ignore=(errno.ESRCH,),
            )
        )

    def only_routes(self, index: int, keep: Collection[str]) -> None:
        """Take away routes of ours that lead straight to an interface, but these."""
        for family in (socket.AF_INET, socket.AF_INET6):
            for cidr, gateway, through in self._own_routes(family):
                if through == index and not gateway and cidr not in keep:
                    self.remove_route(cidr)

    def _interface(self, address: str) -> int:
        """Index of the interface by which the host itself reaches ``address``. Raises OSError."""
        message = rtmsg()
        v6 = family_of(address) == 6
        message["family"], message["dst_len"] = (socket.AF_INET6, 128) if v6 else (socket.AF_INET, 32)
        message["attrs"] = [("RTA_DST", address)]
        return self._socket.get(nl.RTM_GETROUTE, message, nl.ROUTE_HEADER).number(nl.RTA_OIF)

    def _routes(self) -> dict[str, tuple[str, int]]:
        """Pod range -> (gateway, interface) of the routes that carry our protocol number."""
        return {
            cidr: (gateway, index)
            for family in (socket.AF_INET, socket.AF_INET6)
            for cidr, gateway, index in self._own_routes(family)
            if gateway
        }

    def _own_routes(self, family: int) -> Iterator[tuple[str, str, int]]:
        """(range, gateway or "", interface) of all routes that carry our protocol number."""
        message = rtmsg()
        message["family"] = family
        for answer in self._socket.dump(nl.RTM_GETROUTE, message, nl.ROUTE_HEADER):
            _family, length, _source, _tos, table, protocol = struct.unpack_from("=6B", answer.header)
            if table == 254 and protocol == ROUTE_PROTOCOL:
                yield (
                    f"{answer.address(nl.RTA_DST)}/{length}",
                    answer.address(nl.RTA_GATEWAY),
                    answer.number(nl.RTA_OIF),
                )

    # --- the tunnel --------------------------------------------------------------------------------------------------

    def _ensure_tunnel(self, end: TunnelEnd) -> int:
        """Index of the device; one that was made for another address is made anew."""
        index = nl.index_of(TUNNEL)
        if index and not self._fits(index, end):
            self._remove_tunnel()
            index = 0
        if not index:
            self._make_tunnel(end)
            index = nl.index_of(TUNNEL)
        self._socket.apply(
            nl.link(f"set up {TUNNEL}", index=index, up=True, attributes={"IFLA_MTU": end.mtu}),
            *(
                nl.address(f"address {ip} on {TUNNEL}", index=index, ip=ip, prefix=128 if ":" in ip else 32)
                for ip in end.addresses
            ),
        )
        if self._tunnel_has != end.addresses:
            # Those of a former range of this node may be another node's gateway by now.
            nl.only_addresses(self._socket, index, end.addresses)
            self._tunnel_has = end.addresses
        return index

    def _make_tunnel(self, end: TunnelEnd) -> None:
        local = "IFLA_VXLAN_LOCAL6" if family_of(end.underlay) == 6 else "IFLA_VXLAN_LOCAL"
        data = [
            ("IFLA_VXLAN_ID", VNI),
            (local, end.underlay),
            ("IFLA_VXLAN_LEARNING", 0),
            ("IFLA_VXLAN_PORT", PORT),
        ]
        attributes = {
            "IFLA_IFNAME": TUNNEL,
            "IFLA_ADDRESS": end.hardware,
            "IFLA_MTU": end.mtu,
            "IFLA_LINKINFO": {"attrs": [("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", {"attrs": data})]},
        }
        self._socket.apply(
            nl.link(f"make {TUNNEL}", flags=nl.CREATE | nl.EXCLUSIVE, attributes=attributes, ignore=(errno.EEXIST,))
        )

    def _fits(self, index: int, end: TunnelEnd) -> bool:
        message = ifinfmsg()
        message["index"] = index
        answer = self._socket.get(nl.RTM_GETLINK, message, nl.LINK_HEADER)
        info = nl.attributes(answer.nested(nl.IFLA_LINKINFO).get(_IFLA_INFO_DATA, b""))
        local = _VXLAN_LOCAL6 if family_of(end.underlay) == 6 else _VXLAN_LOCAL
        packed = ipaddress.ip_address(end.underlay).packed
        return (
            answer.hardware(nl.IFLA_ADDRESS) == end.hardware
            and info.get(local) == packed
            and info.get(_VXLAN_ID) == struct.pack("=I", VNI)
            and info.get(_VXLAN_PORT) == struct.pack(">H", PORT)
        )

    def _remove_tunnel(self) -> None:
        self._socket.apply(
            nl.link(f"remove {TUNNEL}", kind=nl.RTM_DELLINK, attributes={"IFLA_IFNAME": TUNNEL}, ignore=(errno.ENODEV,))
        )

    def _add_neighbours(self, index: int, peers: Iterable[TunnelPeer]) -> None:
        there = self._neighbours(index)
        missing = [
            nl.neighbour(
                f"{hardware} is at {address}", index=index, address=address, hardware=hardware, forwarding=forwarding
            )
            for forwarding, address, hardware in _entries(peers)
            if (forwarding, address, hardware) not in there
        ]
        if missing:
            self._socket.apply(*missing)

    def _remove_neighbours(self, index: int, peers: Iterable[TunnelPeer]) -> None:
        for forwarding, address, hardware in self._neighbours(index) - _entries(peers):
            self._socket.apply(
                nl.neighbour(
                    f"{hardware} is no more at {address}",
                    index=index,
                    address=address,
                    hardware=hardware,
                    forwarding=forwarding,
                    kind=nl.RTM_DELNEIGH,
                    ignore=(errno.ENOENT, errno.ESRCH),
                )
            )

    def _neighbours(self, index: int) -> set[tuple[bool, str, str]]:
        """(entry of the forwarding table?, address, hardware) of all permanent entries on the device."""
        found = set()
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_BRIDGE):
            message = ndmsg()
            message["family"], message["ifindex"] = family, index
            for answer in self._socket.dump(nl.RTM_GETNEIGH, message, nl.NEIGHBOUR_HEADER):
                if answer.index != index or family != answer.header[0]:
                    continue
                address, hardware = answer.address(nl.NDA_DST), answer.hardware(nl.NDA_LLADDR)
                permanent = struct.unpack_from("=H", answer.header, 8)[0] & nl.NUD_PERMANENT
                if address and permanent:
                    found.add((family == socket.AF_BRIDGE, address, hardware))
        return found


def _entries(peers: Iterable[TunnelPeer]) -> set[tuple[bool, str, str]]:
    found = set()
    for peer in peers:
        found.add((True, peer.underlay, peer.hardware))
        found.update((False, gateway, peer.hardware) for gateway in peer.gateways)
    return found
