"""Links, addresses and routes of this host, through netlink. Everything here blocks and runs in one thread.

Names: ``orca0`` the pods' bridge, ``orca-svc`` a bridge without ports that swallows what is addressed to a service and
no rule has translated, ``op<hash>`` the host's end of a pod's cable, whose alias says "uid address name". Routes of
ours carry their own protocol number, so that nobody else's are touched.

A pod has a /32 address and reaches everything, its neighbours on the host too, through the gateway: every packet passes
the host's IP layer and its rules, whether or not the kernel shows bridged packets to iptables.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agents.network import netlink as nl
from agents.network.firewall import SERVICE_DEVICE
from agents.network.messages import ifaddrmsg, ifinfmsg, rtmsg
from agents.network.routes import NodeRoute

BRIDGE = "orca0"
POD_INTERFACE = "eth0"
ROUTE_PROTOCOL = 111
LINK_PREFIX = "op"
SYSCTLS = Path("/proc/sys/net")


class NetworkError(Exception):
    """The host's network cannot do what was asked; the text is fit for an event or a node condition."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """The interface that carries the node's address."""

    index: int
    mtu: int


@dataclass(frozen=True, slots=True)
class PodLink:
    """A pod's cable as found in the kernel."""

    link: str
    uid: str
    ip: str
    name: str


def link_name(uid: str) -> str:
    return LINK_PREFIX + hashlib.sha256(uid.encode()).hexdigest()[:12]


def hardware_address(ip: str) -> str:
    """A locally administered address that follows from the IP: one that is reused needs no new ARP entry."""
    return "0a:58:" + ":".join(f"{part:02x}" for part in ipaddress.IPv4Address(ip).packed)


class Wiring:
    """This host's links. One thread may use it, the one that calls it first."""

    def __init__(self) -> None:
        self._socket = nl.RouteSocket()
        self._bridge = 0

    def close(self) -> None:
        self._socket.close()

    # --- the host ----------------------------------------------------------------------------------------------------

    def uplink(self, node_ip: str) -> Uplink:
        """Raises ``NetworkError`` when the host does not have the address."""
        for answer in self._socket.dump(nl.RTM_GETADDR, ifaddrmsg(), nl.ADDRESS_HEADER):
            if answer.address(nl.IFA_LOCAL) == node_ip:
                message = ifinfmsg()
                message["index"] = answer.index
                link = self._socket.get(nl.RTM_GETLINK, message, nl.LINK_HEADER)
                return Uplink(answer.index, link.number(nl.IFLA_MTU) or 1500)
        raise NetworkError(f"no interface of this host has the node's address {node_ip}; see --node-ip")

    def ensure_bridge(self, *, gateway: str, prefix: int, mtu: int) -> None:
        """The pods' bridge, up, with the gateway address and no other. Harmless when it is there."""
        self._bridge = self._ensure_bridge_device(BRIDGE, hardware_address(gateway))
        # The MTU stays the uplink's, not that of the ports: an empty bridge has to have it as well.
        self._socket.apply(
            nl.link(f"set up {BRIDGE}", index=self._bridge, up=True, attributes={"IFLA_MTU": mtu}),
            nl.address(f"address {gateway}/{prefix} on {BRIDGE}", index=self._bridge, ip=gateway, prefix=prefix),
        )
        self._only_address(self._bridge, gateway)

    def ensure_service_device(self, *, service_cidr: str, source: str, addresses: Iterable[str] = ()) -> None:
        """The device behind the service range, and addresses of it that this host answers itself.

        ``source`` is what the host's own packets to a service carry until they are translated.
        """
        index = self._ensure_bridge_device(SERVICE_DEVICE, "0a:58:00:00:00:01")
        network = ipaddress.IPv4Network(service_cidr)
        self._socket.apply(
            nl.link(f"set up {SERVICE_DEVICE}", index=index, up=True, noarp=True),
            *(nl.address(f"address {ip} on {SERVICE_DEVICE}", index=index, ip=ip, prefix=32) for ip in addresses),
            nl.route(
                f"route {service_cidr} to {SERVICE_DEVICE}",
                destination=str(network.network_address),
                prefix=network.prefixlen,
                index=index,
                source=source,
                protocol=ROUTE_PROTOCOL,
                replace=True,
            ),
        )

    def set_sysctls(self) -> None:
        """Forwarding on. Raises ``NetworkError`` where the host does not allow it."""
        _sysctl("ipv4/ip_forward", "1")
        # Pods of one host reach each other through the gateway by design: no redirects to "shorter" ways.
        _sysctl("ipv4/conf/all/send_redirects", "0", required=False)
        _sysctl(f"ipv4/conf/{BRIDGE}/send_redirects", "0", required=False)
        # Answers of pods to translated packets of the host's own loopback (host and node ports on 127.0.0.1).
        _sysctl(f"ipv4/conf/{BRIDGE}/route_localnet", "1", required=False)
        # A strict check of the source would drop what comes in by one segment and is answered by another.
        if _read_sysctl("ipv4/conf/all/rp_filter") == "1":
            _sysctl("ipv4/conf/all/rp_filter", "2", required=False)

    # --- pods --------------------------------------------------------------------------------------------------------

    def plug(self, *, uid: str, name: str, pid: int, ip: str, gateway: str, mtu: int) -> None:
        """Wire the namespace of process ``pid``; a cable that fits already is left alone.

        Raises ``NetworkError`` when the process is gone.
        """
        link = link_name(uid)
        if nl.index_of(link):
            if self._pod_has(pid, ip):
                return
            self.unplug(uid)
        peer = {
            "attrs": [
                ("IFLA_IFNAME", POD_INTERFACE),
                ("IFLA_ADDRESS", hardware_address(ip)),
                ("IFLA_MTU", mtu),
                ("IFLA_NET_NS_PID", pid),
            ]
        }
        hairpin = {
            "attrs": [
                ("IFLA_INFO_SLAVE_KIND", "bridge"),
                ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]}),
            ]
        }
        veth = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]})]}
        host_end = {
            "IFLA_IFNAME": link,
            "IFLA_MTU": mtu,
            "IFLA_MASTER": self._bridge,
            "IFLA_LINKINFO": veth,
        }
        # The kernel takes an alias and a port's mode only for a link that exists.
        more = {"IFLA_IFNAME": link, "IFLA_IFALIAS": f"{uid} {ip} {name}"[:255], "IFLA_LINKINFO": hairpin}
        try:
            self._socket.apply(
                nl.link(f"make {link}", flags=nl.CREATE | nl.EXCLUSIVE, up=True, attributes=host_end),
                nl.link(f"hairpin on {link}", attributes=more),
            )
            with self._pod_socket(pid) as (pod, index):
                pod.apply(
                    nl.link("loopback up", index=1, up=True),
                    nl.address(f"address {ip}", index=index, ip=ip, prefix=32),
                    nl.link(f"{POD_INTERFACE} up", index=index, up=True),
                    nl.route("route to the gateway", destination=gateway, prefix=32, index=index),
                    nl.route("default route", gateway=gateway, index=index),
                )
        except OSError as error:
            self.unplug(uid)
            if error.errno in (errno.ESRCH, errno.ENOENT):
                raise NetworkError(f"the sandbox process {pid} is gone") from error
            raise NetworkError(f"cannot wire the sandbox: {error.strerror or error}") from error

    def unplug(self, uid: str) -> None:
        self.remove_link(link_name(uid))

    def remove_link(self, name: str) -> None:
        self._socket.apply(
            nl.link(f"remove {name}", kind=nl.RTM_DELLINK, attributes={"IFLA_IFNAME": name}, ignore=(errno.ENODEV,))
        )

    def pod_links(self) -> list[PodLink]:
        """Every pod cable of this host."""
        found = []
        for answer in self._socket.dump(nl.RTM_GETLINK, ifinfmsg(), nl.LINK_HEADER):
            link = answer.text(nl.IFLA_IFNAME)
            uid, _, rest = answer.text(nl.IFLA_IFALIAS).partition(" ")
            ip, _, name = rest.partition(" ")
            if uid and link == link_name(uid):
                found.append(PodLink(link, uid, ip, name))
        return found

    # --- routes to other hosts ---------------------------------------------------------------------------------------

    def set_routes(self, wanted: Iterable[NodeRoute]) -> dict[str, str]:
        """Make the routes of ours to other hosts exactly these; returns node -> why it cannot be reached directly."""
        problems: dict[str, str] = {}
        keep: dict[str, str] = {}
        present = self._node_routes()
        for route in wanted:
            try:
                index = self._direct(route.via)
            except NetworkError as error:
                problems[route.node] = f"no way to the pods of node {route.node}: {error}"
                continue
            keep[route.cidr] = route.via
            if present.get(route.cidr) != route.via:
                network = ipaddress.IPv4Network(route.cidr)
                self._socket.apply(
                    nl.route(
                        f"route {route.cidr} via {route.via}",
                        destination=str(network.network_address),
                        prefix=network.prefixlen,
                        gateway=route.via,
                        index=index,
                        protocol=ROUTE_PROTOCOL,
                        replace=True,
                    )
                )
        for cidr in present.keys() - keep.keys():
            self._remove_route(cidr)
        return problems

    def remove_everything(self) -> None:
        """Take away every link and route of ours."""
        for link in self.pod_links():
            self.remove_link(link.link)
        for cidr in self._node_routes():
            self._remove_route(cidr)
        self.remove_link(BRIDGE)
        self.remove_link(SERVICE_DEVICE)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _ensure_bridge_device(self, name: str, hardware: str) -> int:
        if not nl.index_of(name):
            data = {"attrs": [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]}
            attributes = {
                "IFLA_IFNAME": name,
                "IFLA_ADDRESS": hardware,
                "IFLA_LINKINFO": {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", data)]},
            }
            self._socket.apply(
                nl.link(
                    f"make bridge {name}",
                    flags=nl.CREATE | nl.EXCLUSIVE,
                    attributes=attributes,
                    ignore=(errno.EEXIST,),
                )
            )
        return nl.index_of(name)

    def _only_address(self, index: int, keep: str) -> None:
        for answer in self._socket.dump(nl.RTM_GETADDR, ifaddrmsg(), nl.ADDRESS_HEADER):
            ip = answer.address(nl.IFA_LOCAL)
            if answer.index == index and ip and ip != keep:
                self._socket.apply(
                    nl.address(f"remove {ip}", index=index, ip=ip, prefix=answer.header[1], kind=nl.RTM_DELADDR)
                )

    def _pod_has(self, pid: int, ip: str) -> bool:
        try:
            with self._pod_socket(pid) as (pod, index):
                answers = pod.dump(nl.RTM_GETADDR, ifaddrmsg(), nl.ADDRESS_HEADER)
                return any(a.index == index and a.address(nl.IFA_LOCAL) == ip for a in answers)
        except OSError:
            return False

    def _pod_socket(self, pid: int) -> _PodSocket:
        return _PodSocket(pid)

    def _direct(self, address: str) -> int:
        """Index of the interface whose segment ``address`` is on."""
        message = rtmsg()
        message["family"], message["dst_len"] = 2, 32
        message["attrs"] = [("RTA_DST", address)]
        try:
            answer = self._socket.get(nl.RTM_GETROUTE, message, nl.ROUTE_HEADER)
        except nl.NetlinkError as error:
            raise NetworkError(f"{address}: {error.strerror}") from error
        gateway = answer.address(nl.RTA_GATEWAY)
        if gateway:
            raise NetworkError(
                f"{address} is behind the router {gateway}, not on a segment of this host, "
                "and the router does not know pod addresses: put the hosts on one segment"
            )
        if answer.header[7] == 2:
            raise NetworkError(f"{address} is an address of this host itself")
        return answer.number(nl.RTA_OIF)

    def _node_routes(self) -> dict[str, str]:
        """Pod range -> gateway of the routes that carry our protocol number."""
        message = rtmsg()
        message["family"] = 2
        found: dict[str, str] = {}
        for answer in self._socket.dump(nl.RTM_GETROUTE, message, nl.ROUTE_HEADER):
            _family, length, _source, _tos, table, protocol = struct.unpack_from("=6B", answer.header)
            gateway = answer.address(nl.RTA_GATEWAY)
            if table == 254 and protocol == ROUTE_PROTOCOL and gateway:
                found[f"{answer.address(nl.RTA_DST)}/{length}"] = gateway
        return found

    def _remove_route(self, cidr: str) -> None:
        network = ipaddress.IPv4Network(cidr)
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


class _PodSocket:
    """A netlink socket inside the namespace of a process, and the index of its ``eth0`` there."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> tuple[nl.RouteSocket, int]:
        with nl.inside(f"/proc/{self._pid}/ns/net"):
            self._socket = nl.RouteSocket()
            index = nl.index_of(POD_INTERFACE)
        return self._socket, index

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _read_sysctl(name: str) -> str:
    try:
        return (SYSCTLS / name).read_text().strip()
    except OSError:
        return ""


def _sysctl(name: str, value: str, *, required: bool = True) -> None:
    if _read_sysctl(name) == value:
        return
    try:
        (SYSCTLS / name).write_text(value)
    except OSError as error:
        if required:
            raise NetworkError(f"cannot set net.{name.replace('/', '.')} to {value}: {error.strerror}") from error
