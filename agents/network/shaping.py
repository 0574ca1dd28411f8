"""Limits on what a pod sends and receives: token buckets (tbf) on its cable, through netlink. Blocks.

What the pod receives leaves the host's end of the cable, where a bucket holds it back. What it sends arrives there, and
arrivals have no queue: it is led through a device of its own (ifb) that has one. Both are outside the pod's reach.
"""

from __future__ import annotations

import contextlib
import errno
import struct

from agents.network import netlink as nl
from agents.network.bandwidth import Bandwidth
from agents.network.messages import ifinfmsg

IFB_PREFIX = "oi"
LATENCY_SECONDS = 0.025
"""How long a packet waits at most, as with the bandwidth plugin of CNI."""
LEAST_BURST = 32 << 10
BURST_SECONDS = 0.05

_ROOT, _INGRESS_PARENT, _INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
_OPTIONS = 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_ETHERNET = 1
_U32_SEL, _U32_ACT, _U32_TERMINAL = 5, 7, 1
_ACT_KIND, _ACT_OPTIONS, _MIRRED_PARMS, _STOLEN, _EGRESS_REDIRECT = 1, 2, 2, 4, 1
_ALL_PROTOCOLS = 0x0300
"""ETH_P_ALL in network order."""


def ifb_name(link: str) -> str:
    """The device through which what the pod of a cable sends is led."""
    return IFB_PREFIX + link[2:]


class Shaping:
    """Shares the socket of `Wiring`."""

    def __init__(self, route_socket: nl.RouteSocket) -> None:
        self._socket = route_socket

    def set(self, link: str, bandwidth: Bandwidth) -> None:
        """Hold the pod behind ``link`` to these rates. Raises OSError."""
        index = nl.index_of(link)
        if bandwidth.ingress:
            self._bucket(link, index, bandwidth.ingress)
        if bandwidth.egress:
            ifb = self._ensure_ifb(link, index)
            self._bucket(ifb_name(link), ifb, bandwidth.egress)
            self._redirect(link, index, ifb)

    def remove(self, link: str) -> None:
        """What was on the cable went with it; the other device goes now. Harmless when there is none."""
        name = ifb_name(link)
        if nl.index_of(name):
            self._socket.apply(
                nl.link(f"remove {name}", kind=nl.RTM_DELLINK, attributes={"IFLA_IFNAME": name}, ignore=(errno.ENODEV,))
            )

    def _ensure_ifb(self, link: str, index: int) -> int:
        name = ifb_name(link)
        if not nl.index_of(name):
            message = ifinfmsg()
            message["index"] = index
            cable = self._socket.get(nl.RTM_GETLINK, message, nl.LINK_HEADER)
            attributes = {
                "IFLA_IFNAME": name,
                "IFLA_MTU": cable.number(nl.IFLA_MTU) or 1500,
                "IFLA_LINKINFO": {"attrs": [("IFLA_INFO_KIND", "ifb")]},
            }
            alias = {"IFLA_IFNAME": name, "IFLA_IFALIAS": cable.text(nl.IFLA_IFALIAS)}
            self._socket.apply(
                nl.link(f"make {name}", flags=nl.CREATE | nl.EXCLUSIVE, attributes=attributes),
                nl.link(f"set up {name}", up=True, attributes=alias),
            )
        return nl.index_of(name)

    def _bucket(self, name: str, index: int, bits: int) -> None:
        rate = max(bits // 8, 1)
        burst = min(max(int(rate * BURST_SECONDS), LEAST_BURST), 0x7FFFFFFF)
        limit = min(int(rate * LATENCY_SECONDS) + burst, 0xFFFFFFFF)
        if self._present(index, "tbf").get("rate") == (min(rate, 0xFFFFFFFF), limit):
            return
        short = struct.pack("=BBHhHI", 0, _ETHERNET, 0, -1, 0, min(rate, 0xFFFFFFFF))
        parameters = short + bytes(12) + struct.pack("=III", limit, 0, 0)
        options = _attribute(_TBF_PARMS, parameters) + _attribute(_TBF_BURST, struct.pack("=I", burst))
        if rate > 0xFFFFFFFF:
            options += _attribute(_TBF_RATE64, struct.pack("=Q", rate))
        body = _traffic(index, 0, _ROOT) + _kind("tbf") + _attribute(_OPTIONS, options)
        self._socket.apply(nl.Plain(nl.RTM_NEWQDISC, body, nl.CREATE | nl.REPLACE, f"limit {name}"))

    def _redirect(self, link: str, index: int, ifb: int) -> None:
        if self._present(index, "ingress"):
            return
        qdisc = _traffic(index, _INGRESS_HANDLE, _INGRESS_PARENT) + _kind("ingress")
        target = struct.pack("=IIiiiiI", 0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, ifb)
        action = _attribute(_ACT_KIND, b"mirred\0") + _attribute(_ACT_OPTIONS, _attribute(_MIRRED_PARMS, target))
        everything = struct.pack("=BBBxHHhhI", _U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + bytes(16)
        options = _attribute(_U32_SEL, everything) + _attribute(_U32_ACT, _attribute(1, action))
        body = _traffic(index, 0, _INGRESS_HANDLE, info=1 << 16 | _ALL_PROTOCOLS)
        body += _kind("u32") + _attribute(_OPTIONS, options)
        try:
            self._socket.apply(
                nl.Plain(nl.RTM_NEWQDISC, qdisc, nl.CREATE | nl.EXCLUSIVE, f"watch what arrives at {link}"),
                nl.Plain(nl.RTM_NEWTFILTER, body, nl.CREATE | nl.EXCLUSIVE, f"lead what arrives at {link} elsewhere"),
            )
        except OSError:
            # Half of it (a kernel without cls_u32, say) would look like all of it at the next try.
            with contextlib.suppress(OSError):
                self._socket.apply(nl.Plain(nl.RTM_DELQDISC, qdisc, 0, f"watch {link} no more"))
            raise

    def _present(self, index: int, kind: str) -> dict[str, tuple[int, int]]:
        """Rate (bytes a second) and limit (bytes) of a queue of this kind on the interface; empty without one."""
        for answer in self._socket.dump(nl.RTM_GETQDISC, _traffic(index, 0, 0), nl.TRAFFIC_HEADER):
            if answer.index == index and answer.text(nl.TCA_KIND) == kind:
                parameters = answer.nested(_OPTIONS).get(_TBF_PARMS, bytes(36))
                rate, limit = (struct.unpack_from("=I", parameters, offset)[0] for offset in (8, 24))
                return {"rate": (rate, limit)}
        return {}


def _traffic(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    """``struct tcmsg``"""
    return struct.pack("=BxxxiIII", 0, index, handle, parent, info)


def _kind(name: str) -> bytes:
    return _attribute(nl.TCA_KIND, name.encode() + b"\0")


def _attribute(number: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("=HH", length, number) + data + bytes(-length % 4)
