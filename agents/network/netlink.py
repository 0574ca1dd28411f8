"""Route netlink, synchronous and small: several requests in one send, answers read as plain attribute dicts.

pyroute2 encodes the messages. Its own sockets are not used: they are asyncio endpoints that uvloop cannot open, and
opening one in another namespace forks a process (7 ms); here a thread steps into the namespace and opens a plain socket
(0.1 ms). Everything in this module blocks, for well under a millisecond a request; callers run it in the network's own
thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from agents.network.messages import ifaddrmsg, ifinfmsg, ndmsg, nlmsg, rtmsg
from agents.network.sockets import ACK, DUMP, REQUEST, NetlinkSocket, Plain, attributes

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER = 44
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 18, 20
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
NDA_DST, NDA_LLADDR = 1, 2
TCA_KIND = 1

LINK_HEADER, ADDRESS_HEADER, ROUTE_HEADER, NEIGHBOUR_HEADER, TRAFFIC_HEADER = 16, 8, 12, 12, 20
IFF_LOOPBACK, IFF_POINTOPOINT, IFF_NOARP = 0x8, 0x10, 0x80
_NODAD, _PERMANENT_ADDRESS = 0x02, 0x80
NUD_PERMANENT = 0x80
_NTF_SELF = 0x02
_ONLINK = 4
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Request:
    """One message: ``what`` is for people, ``ignore`` are error numbers that mean "already so"."""

    kind: int
    message: nlmsg
    flags: int = 0
    what: str = ""
    ignore: tuple[int, ...] = ()

    def encode(self, sequence: int) -> bytes:
        header = self.message["header"]
        header["type"], header["flags"], header["sequence_number"] = self.kind, REQUEST | ACK | self.flags, sequence
        self.message.encode()
        return bytes(self.message.data)


@dataclass(slots=True)
class Answer:
    """One object of a dump: its fixed header's bytes and its attributes, raw, by number."""

    header: bytes
    attributes: dict[int, bytes] = field(default_factory=dict)

    def text(self, attribute: int) -> str:
        return self.attributes.get(attribute, b"").split(b"\0", 1)[0].decode(errors="replace")

    def number(self, attribute: int) -> int:
        raw = self.attributes.get(attribute)
        return int.from_bytes(raw[:4], "little") if raw else 0

    def address(self, attribute: int) -> str:
        """IPv4 or IPv6, "" when there is none."""
        raw = self.attributes.get(attribute, b"")
        if len(raw) == 16:
            return socket.inet_ntop(socket.AF_INET6, raw)
        return socket.inet_ntop(socket.AF_INET, raw) if len(raw) == 4 else ""

    def nested(self, attribute: int) -> dict[int, bytes]:
        """The attributes inside an attribute."""
        return attributes(self.attributes.get(attribute, b""))

    def hardware(self, attribute: int) -> str:
        """A link-layer address as "0a:58:…"."""
        return self.attributes.get(attribute, b"").hex(":")

    @property
    def index(self) -> int:
        """Interface index of a link or address answer."""
        return int(struct.unpack_from("=i", self.header, 4)[0])


class RouteSocket(NetlinkSocket):
    """A blocking NETLINK_ROUTE socket of the calling thread's network namespace."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE)

    def dump(self, kind: int, message: nlmsg | bytes, header_size: int) -> list[Answer]:
        """All objects of a kind."""
        return self._answers(kind, message, header_size, DUMP)

    def get(self, kind: int, message: nlmsg, header_size: int) -> Answer:
        """One object; raises ``NetlinkError``."""
        return self._answers(kind, message, header_size, 0)[0]

    def _answers(self, kind: int, message: nlmsg | bytes, header_size: int, flags: int) -> list[Answer]:
        request = Plain(kind, message, flags) if isinstance(message, bytes) else Request(kind, message, flags)
        return [Answer(body[:header_size], attributes(body[header_size:])) for body in self.ask(request)]


def only_addresses(route_socket: RouteSocket, index: int, keep: Collection[str]) -> None:
    """Take all addresses off an interface but these, and IPv6's own for the link."""
    for answer in route_socket.dump(RTM_GETADDR, ifaddrmsg(), ADDRESS_HEADER):
        ip = answer.address(IFA_LOCAL) or answer.address(IFA_ADDRESS)
        if answer.index == index and ip and ip not in keep and not ip.startswith("fe80:"):
            route_socket.apply(address(f"remove {ip}", index=index, ip=ip, prefix=answer.header[1], kind=RTM_DELADDR))


@contextlib.contextmanager
def inside(netns: str) -> Iterator[None]:
    """Let the calling thread, and only it, act in another network namespace (a path such as ``/proc/7/ns/net``)."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter the network namespace: {os.strerror(code)}")


def index_of(name: str) -> int:
    """Interface index in the calling thread's namespace, 0 when there is no such interface."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        # Without an errno: the C function has no other failure to tell than "no such interface".
        return 0


def link(
    what: str,
    *,
    kind: int = RTM_NEWLINK,
    flags: int = 0,
    index: int = 0,
    up: bool | None = None,
    noarp: bool = False,
    attributes: dict[str, Any] | None = None,
    ignore: tuple[int, ...] = (),
) -> Request:
    """A request about an interface; attributes by their pyroute2 names."""
    message = ifinfmsg()
    message["index"] = index
    if up is not None:
        message["flags"], message["change"] = (1 if up else 0) | (0x80 if noarp else 0), 1 | (0x80 if noarp else 0)
    message["attrs"] = list((attributes or {}).items())
    return Request(kind, message, flags, what, ignore)


def address(what: str, *, index: int, ip: str, prefix: int, kind: int = RTM_NEWADDR) -> Request:
    """A request about an interface's address. IPv6 ones are used at once, without asking whether another has them."""
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = _family(ip), prefix, index
    if ":" in ip:
        message["flags"] = _NODAD | _PERMANENT_ADDRESS
    message["attrs"] = [("IFA_LOCAL", ip), ("IFA_ADDRESS", ip)]
    return Request(kind, message, CREATE | REPLACE if kind == RTM_NEWADDR else 0, what)


def route(
    what: str,
    *,
    destination: str = "",
    prefix: int = 0,
    index: int = 0,
    gateway: str = "",
    source: str = "",
    kind: int = RTM_NEWROUTE,
    protocol: int = 4,
    replace: bool = False,
    onlink: bool = False,
    ignore: tuple[int, ...] = (),
) -> Request:
    """A unicast route of the main table; no destination means the default route. ``onlink``: the gateway is on the
    interface though no address of it says so."""
    family = _family(destination or gateway)
    message = rtmsg()
    message["family"], message["dst_len"], message["table"], message["proto"] = family, prefix, 254, protocol
    # Scope: anywhere behind a gateway, else on the link; 255 in a removal means whichever. IPv6 knows none.
    link_scope = 0 if family == socket.AF_INET6 else 255 if kind == RTM_DELROUTE else 0 if gateway else 253
    message["type"], message["scope"] = 1, link_scope
    if onlink:
        message["flags"] = _ONLINK
    attributes: list[tuple[str, Any]] = []
    if destination:
        attributes.append(("RTA_DST", destination))
    if index:
        attributes.append(("RTA_OIF", index))
    if gateway:
        attributes.append(("RTA_GATEWAY", gateway))
    if source:
        attributes.append(("RTA_PREFSRC", source))
    message["attrs"] = attributes
    flags = (CREATE | (REPLACE if replace else EXCLUSIVE)) if kind == RTM_NEWROUTE else 0
    return Request(kind, message, flags, what, ignore)


def neighbour(
    what: str,
    *,
    index: int,
    address: str,
    hardware: str,
    forwarding: bool = False,
    kind: int = RTM_NEWNEIGH,
    ignore: tuple[int, ...] = (),
) -> Request:
    """Who has ``address``, for good; with ``forwarding`` an entry of a tunnel's table: where frames for ``hardware``
    are sent to."""
    message = ndmsg()
    message["family"] = socket.AF_BRIDGE if forwarding else _family(address)
    message["ifindex"], message["state"] = index, NUD_PERMANENT
    message["flags"] = _NTF_SELF if forwarding else 0
    message["attrs"] = [("NDA_DST", address), ("NDA_LLADDR", hardware)]
    return Request(kind, message, CREATE | REPLACE if kind == RTM_NEWNEIGH else 0, what, ignore)


def _family(ip: str) -> int:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET
