"""Links, addresses and routes of this host, through netlink. Everything here blocks and runs in one thread.

Names: ``orca0`` the pods' bridge, ``orca-svc`` a bridge without ports that swallows what is addressed to a service and
no rule has translated, ``op<hash>`` the host's end of a pod's cable, whose alias says "uid address name". Routes of
ours carry their own protocol number, so that nobody else's are touched.

A pod has /32 and /128 addresses and reaches everything, its neighbours on the host too, through the gateways: every
packet passes the host's IP layer and its rules, whether or not the kernel shows bridged packets to iptables.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from agents.network import netlink as nl
from agents.network.bandwidth import Bandwidth
from agents.network.firewall import SERVICE_DEVICE
from agents.network.messages import ifaddrmsg, ifinfmsg
from agents.network.peering import ROUTE_PROTOCOL, TUNNEL, Peering
from agents.network.ranges import IPNetwork, family_of
from agents.network.shaping import Shaping, ifb_name
from agents.network.sockets import NetlinkError

BRIDGE = "orca0"
POD_INTERFACE = "eth0"
LINK_PREFIX = "op"
SYSCTLS = Path("/proc/sys/net")
_NOT_SEGMENTS = (BRIDGE, SERVICE_DEVICE, TUNNEL, "docker0", "cni0")


class NetworkError(Exception):
    """The host's network cannot do what was asked; the text is fit for an event or a node condition."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """The interface that carries the node's address, and the segments (ranges) that the host is on."""

    index: int
    mtu: int
    segments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodLink:
    """A pod's cable as found in the kernel."""

    link: str
    uid: str
    ips: tuple[str, ...]
    name: str
    mtu: int = 0


def link_name(uid: str) -> str:
    return LINK_PREFIX + hashlib.sha256(uid.encode()).hexdigest()[:12]


def hardware_address(ip: str) -> str:
    """A locally administered address that follows from the IP: one that is reused needs no new ARP entry."""
    return "0a:58:" + ipaddress.ip_address(ip).packed[-4:].hex(":")


class Wiring:
    """This host's links. One thread may use it, the one that calls it first."""

    def __init__(self) -> None:
        self._socket = nl.RouteSocket()
        self._bridge = self._bridge_mtu = 0
        self._widths: dict[str, int] | None = None
        """MTU of each pod's cable; None until they were looked at."""
        self._services_settled = False
        self.peering = Peering(self._socket)
        self._shaping = Shaping(self._socket)

    def close(self) -> None:
        self._socket.close()

    # --- the host ----------------------------------------------------------------------------------------------------

    def uplink(self, node_ip: str) -> Uplink:
        """Raises ``NetworkError`` when the host does not have the address."""
        links: dict[int, nl.Answer] = {}
        found: Uplink | None = None
        segments = set()
        for answer in self._socket.dump(nl.RTM_GETADDR, ifaddrmsg(), nl.ADDRESS_HEADER):
            ip = answer.address(nl.IFA_LOCAL) or answer.address(nl.IFA_ADDRESS)
            if not ip or ip.startswith("fe80:"):
                continue
            # Few have addresses: asking for those is cheaper than hearing of every pod's cable.
            link = links.get(answer.index) or self._link(answer.index)
            if link is None:
                continue
            links[answer.index] = link
            if ip == node_ip:
                found = Uplink(answer.index, link.number(nl.IFLA_MTU) or 1500)
            if _is_segment(link):
                segments.add(str(ipaddress.ip_network(f"{ip}/{answer.header[1]}", strict=False)))
        if found is None:
            raise NetworkError(f"no interface of this host has the node's address {node_ip}; see --node-ip")
        return Uplink(found.index, found.mtu, tuple(sorted(segments)))

    def ensure_bridge(self, *, gateways: Iterable[tuple[str, int]], mtu: int) -> None:
        """The pods' bridge, up, with the gateway addresses (and lengths of prefixes) and no others, except IPv6's own
        for the link. Harmless when it is there."""
        kept = list(gateways)
        self._bridge = self._ensure_bridge_device(BRIDGE, hardware_address(kept[0][0]))
        if any(family_of(ip) == 6 for ip, _ in kept):
            _sysctl(f"ipv6/conf/{BRIDGE}/accept_dad", "0", required=False)
        # The MTU is ours to set: an empty bridge has to have it as well. The host's IP layer tells senders of it, so it
        # is that of the narrowest cable, which would drop what is larger without a word.
        if self._widths is None:
            self._widths = {link.link: link.mtu for link in self.pod_links() if link.mtu}
        lowest = min(self._widths.values(), default=mtu)
        self._socket.apply(
            nl.link(f"set up {BRIDGE}", index=self._bridge, up=True, attributes={"IFLA_MTU": lowest}),
            *(
                nl.address(f"address {ip}/{prefix} on {BRIDGE}", index=self._bridge, ip=ip, prefix=prefix)
                for ip, prefix in kept
            ),
        )
        self._bridge_mtu = lowest
        nl.only_addresses(self._socket, self._bridge, {ip for ip, _ in kept})

    def ensure_service_device(
        self, *, service_cidrs: Iterable[str], sources: Iterable[str], addresses: Iterable[str] = ()
    ) -> None:
        """The device behind the service ranges, and addresses of them that this host answers itself.

        ``sources`` is what the host's own packets to a service carry until they are translated, one a family.
        """
        index = self._ensure_bridge_device(SERVICE_DEVICE, "0a:58:00:00:00:01")
        source = {family_of(ip): ip for ip in sources}
        networks: list[IPNetwork] = [ipaddress.ip_network(cidr) for cidr in service_cidrs]
        families = {network.version for network in networks}
        kept = [ip for ip in addresses if family_of(ip) in families]
        self._socket.apply(
            nl.link(f"set up {SERVICE_DEVICE}", index=index, up=True, noarp=True),
            *(
                nl.address(f"address {ip} on {SERVICE_DEVICE}", index=index, ip=ip, prefix=128 if ":" in ip else 32)
                for ip in kept
            ),
            *(
                nl.route(
                    f"route {network} to {SERVICE_DEVICE}",
                    destination=str(network.network_address),
                    prefix=network.prefixlen,
                    index=index,
                    source=source.get(network.version, ""),
                    protocol=ROUTE_PROTOCOL,
                    replace=True,
                )
                for network in networks
            ),
        )
        if not self._services_settled:
            # An agent that was started with other ranges or another address for DNS has left its own.
            nl.only_addresses(self._socket, index, kept)
            self.peering.only_routes(index, {str(network) for network in networks})
            self._services_settled = True

    def set_sysctls(self, families: Iterable[int] = (4,)) -> None:
        """Forwarding on. Raises ``NetworkError`` where the host does not allow it."""
        _sysctl("ipv4/ip_forward", "1")
        if 6 in families:
            _forward_ipv6()
        # Pods of one host reach each other through the gateway by design: no redirects to "shorter" ways.
        _sysctl("ipv4/conf/all/send_redirects", "0", required=False)
        _sysctl(f"ipv4/conf/{BRIDGE}/send_redirects", "0", required=False)
        # Answers of pods to translated packets of the host's own loopback (host and node ports on 127.0.0.1).
        _sysctl(f"ipv4/conf/{BRIDGE}/route_localnet", "1", required=False)
        # A strict check of the source would drop what comes in by one segment and is answered by another.
        if _read_sysctl("ipv4/conf/all/rp_filter") == "1":
            _sysctl("ipv4/conf/all/rp_filter", "2", required=False)

    # --- pods --------------------------------------------------------------------------------------------------------

    def plug(self, *, uid: str, name: str, pid: int, ips: tuple[str, ...], gateways: Iterable[str], mtu: int) -> None:
        """Wire the namespace of process ``pid``; a cable that fits already is left alone, with the MTU that it has.

        Raises ``NetworkError`` when the process is gone.
        """
        link = link_name(uid)
        if nl.index_of(link):
            if self._pod_has(pid, ips):
                return
            self.unplug(uid)
        peer = {
            "attrs": [
                ("IFLA_IFNAME", POD_INTERFACE),
                ("IFLA_ADDRESS", hardware_address(ips[0])),
                ("IFLA_MTU", mtu),
                ("IFLA_NET_NS_PID", pid),
            ]
        }
        # Not isolated from each other: with bridge-nf-call-iptables the kernel passes translated packets on the bridge.
        port = {"attrs": [("IFLA_BRPORT_MODE", 1)]}
        hairpin = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", port)]}
        veth = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]})]}
        host_end = {
            "IFLA_IFNAME": link,
            "IFLA_MTU": mtu,
            "IFLA_MASTER": self._bridge,
            "IFLA_LINKINFO": veth,
        }
        # The kernel takes an alias and a port's mode only for a link that exists.
        more = {"IFLA_IFNAME": link, "IFLA_IFALIAS": f"{uid} {','.join(ips)} {name}"[:255], "IFLA_LINKINFO": hairpin}
        reachable = {family_of(ip) for ip in ips}
        ways = [gateway for gateway in gateways if family_of(gateway) in reachable]
        narrower = []
        if self._bridge_mtu > mtu:
            narrower = [nl.link(f"mtu of {BRIDGE}", index=self._bridge, attributes={"IFLA_MTU": mtu})]
        try:
            self._socket.apply(
                *narrower,
                nl.link(f"make {link}", flags=nl.CREATE | nl.EXCLUSIVE, up=True, attributes=host_end),
                nl.link(f"hairpin on {link}", attributes=more),
            )
            self._bridge_mtu = min(self._bridge_mtu, mtu)
            if self._widths is not None:
                self._widths[link] = mtu
            with self._pod_socket(pid) as (pod, index):
                pod.apply(
                    nl.link("loopback up", index=1, up=True),
                    *(_pod_address(index, ip) for ip in ips),
                    nl.link(f"{POD_INTERFACE} up", index=index, up=True),
                    *(request for gateway in ways for request in _pod_routes(index, gateway)),
                )
        except OSError as error:
            self.unplug(uid)
            if error.errno in (errno.ESRCH, errno.ENOENT):
                raise NetworkError(f"the sandbox process {pid} is gone") from error
            raise NetworkError(f"cannot wire the sandbox: {error.strerror or error}") from error

    def loopback_up(self, pid: int) -> None:
        """In the namespace of a process that others wire. Raises ``NetworkError``."""
        try:
            with self._pod_socket(pid) as (pod, _):
                pod.apply(nl.link("loopback up", index=1, up=True))
        except OSError as error:
            raise NetworkError(f"the sandbox process {pid} is gone") from error

    def shape(self, uid: str, bandwidth: Bandwidth) -> None:
        """Hold the pod's traffic to these rates; what is so already is left alone. Raises ``NetworkError``."""
        try:
            self._shaping.set(link_name(uid), bandwidth)
        except OSError as error:
            raise NetworkError(f"cannot limit the pod's bandwidth: {error.strerror or error}") from error

    def unplug(self, uid: str) -> None:
        """Take the cable away, and what limits it; harmless when there is none."""
        self.remove_link(link_name(uid))
        self._shaping.remove(link_name(uid))
        if self._widths is not None:
            self._widths.pop(link_name(uid), None)

    def remove_link(self, name: str) -> None:
        """Harmless when it is gone."""
        self._socket.apply(
            nl.link(f"remove {name}", kind=nl.RTM_DELLINK, attributes={"IFLA_IFNAME": name}, ignore=(errno.ENODEV,))
        )

    def pod_links(self) -> list[PodLink]:
        """Every pod cable of this host."""
        found = []
        for answer in self._socket.dump(nl.RTM_GETLINK, ifinfmsg(), nl.LINK_HEADER):
            link = answer.text(nl.IFLA_IFNAME)
            uid, _, rest = answer.text(nl.IFLA_IFALIAS).partition(" ")
            ips, _, name = rest.partition(" ")
            if uid and link == link_name(uid):
                found.append(PodLink(link, uid, tuple(ips.split(",")), name, answer.number(nl.IFLA_MTU)))
        return found

    def wired_pods(self) -> set[str]:
        """Uids of pods of which anything is there: a cable, or only what limits one that is gone."""
        found = set()
        for answer in self._socket.dump(nl.RTM_GETLINK, ifinfmsg(), nl.LINK_HEADER):
            uid = answer.text(nl.IFLA_IFALIAS).partition(" ")[0]
            if uid and answer.text(nl.IFLA_IFNAME) in (link_name(uid), ifb_name(link_name(uid))):
                found.add(uid)
        return found

    def retire(self, live: Collection[str] | None = None) -> None:
        """Take away the pods' bridge and the ways to other hosts, where others wire pods now, and the cables of pods
        that are not ``live`` (None: all may be). As long as a pod is on the bridge it stays."""
        if not nl.index_of(BRIDGE):
            return
        wired = self.wired_pods()
        for uid in wired - set(wired if live is None else live):
            self.unplug(uid)
            wired.discard(uid)
        if not wired:
            self.peering.remove_everything()
            self.remove_link(BRIDGE)

    def remove_everything(self) -> None:
        """Take away every link and route of ours."""
        for uid in self.wired_pods():
            self.unplug(uid)
        self.peering.remove_everything()
        self.remove_link(BRIDGE)
        self.remove_link(SERVICE_DEVICE)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _link(self, index: int) -> nl.Answer | None:
        """None when it went just now."""
        message = ifinfmsg()
        message["index"] = index
        try:
            return self._socket.get(nl.RTM_GETLINK, message, nl.LINK_HEADER)
        except NetlinkError:
            return None

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

    def _pod_has(self, pid: int, ips: tuple[str, ...]) -> bool:
        try:
            with self._pod_socket(pid) as (pod, index):
                answers = pod.dump(nl.RTM_GETADDR, ifaddrmsg(), nl.ADDRESS_HEADER)
                there = {
                    answer.address(nl.IFA_LOCAL) or answer.address(nl.IFA_ADDRESS)
                    for answer in answers
                    if answer.index == index
                }
                return there.issuperset(ips)
        except OSError:
            return False

    def _pod_socket(self, pid: int) -> _PodSocket:
        return _PodSocket(pid)


def _is_segment(link: nl.Answer) -> bool:
    """Whether hosts can be neighbours on this interface."""
    flags = struct.unpack_from("=I", link.header, 8)[0]
    foreign = link.text(nl.IFLA_IFNAME) not in _NOT_SEGMENTS
    return foreign and not flags & (nl.IFF_LOOPBACK | nl.IFF_POINTOPOINT | nl.IFF_NOARP)


def _pod_address(index: int, ip: str) -> nl.Request:
    return nl.address(f"address {ip}", index=index, ip=ip, prefix=128 if ":" in ip else 32)


def _pod_routes(index: int, gateway: str) -> tuple[nl.Request, nl.Request]:
    whole = 128 if ":" in gateway else 32
    return (
        nl.route("route to the gateway", destination=gateway, prefix=whole, index=index),
        nl.route("default route", gateway=gateway, index=index),
    )


class _PodSocket:
    """A netlink socket inside the namespace of a process, and the index of its ``eth0`` there."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> tuple[nl.RouteSocket, int]:
        with nl.inside(f"/proc/{self._pid}/ns/net"):
            self._socket = nl.RouteSocket()
            index = nl.index_of(POD_INTERFACE)
            _settle_ipv6()
        return self._socket, index

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _settle_ipv6() -> None:
    """In a pod's namespace: IPv6 as far as we set it. What others on the link may advertise changes no routes."""
    here = f"ipv6/conf/{POD_INTERFACE}"
    if _read_sysctl(f"{here}/disable_ipv6"):
        for setting in ("accept_ra", "accept_redirects", "disable_ipv6", "accept_dad"):
            _sysctl(f"{here}/{setting}", "0", required=False)


def _forward_ipv6() -> None:
    """A host that forwards takes no routes from router advertisements unless it is told to go on doing so."""
    if _read_sysctl("ipv6/conf/all/forwarding") == "1":
        return
    for interface in (SYSCTLS / "ipv6/conf").iterdir():
        if _read_sysctl(f"ipv6/conf/{interface.name}/accept_ra") == "1":
            _sysctl(f"ipv6/conf/{interface.name}/accept_ra", "2", required=False)
    _sysctl("ipv6/conf/all/forwarding", "1")


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
