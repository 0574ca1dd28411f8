"""One interface's packet sockets: hears questions and claims, sends answers. The only I/O of this room."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path

import structlog

from agents.balancer import frames

log = structlog.get_logger()

_SO_ATTACH_FILTER = 26
_MOST_FRAMES = 64
"""Read in one go: a flood of questions must not keep the event loop."""

Heard = Callable[[str, frames.Question | frames.Claim], None]
"""Told of the interface, and what somebody says there."""


class Segment:
    """See the module. Raises OSError when the interface is not there or not Ethernet-like."""

    def __init__(self, interface: str, heard: Heard) -> None:
        self.interface = interface
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._groups: dict[str, socket.socket] = {}
        self._index = socket.if_nametoindex(interface)
        self._arp = self._open(frames.ETH_ARP)
        self._neighbours: socket.socket | None = None
        self.mac: bytes = self._arp.getsockname()[4]
        if len(self.mac) != 6:
            self.close()
            raise OSError(f"{interface} has no MAC address")

    def __repr__(self) -> str:
        return f"<Segment {self.interface}>"

    @property
    def stale(self) -> bool:
        """Whether the interface it was opened for is not there any more."""
        try:
            return socket.if_nametoindex(self.interface) != self._index
        except OSError:
            return True

    def listen_for(self, address: str) -> None:
        """Be there where an IPv6 address is asked for; an IPv4 one needs nothing. Raises OSError."""
        if ":" not in address or address in self._groups:
            return
        if self._neighbours is None:
            self._neighbours = self._open(frames.ETH_IPV6)
        # Joining tells switches that want to know (MLD), and the interface to hear it.
        member = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        group = frames.solicited_node(IPv6Address(address)).packed
        try:
            index = socket.if_nametoindex(self.interface)
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@I", index))
        except OSError:
            member.close()
            raise
        self._groups[address] = member

    def forget(self, address: str) -> None:
        member = self._groups.pop(address, None)
        if member is not None:
            member.close()

    def send(self, frame: bytes) -> None:
        """A frame that cannot go now is lost, as on any network; whoever needs the answer asks again."""
        try:
            self._arp.send(frame)
        except OSError as error:
            log.debug("a frame could not be sent", interface=self.interface, error=str(error))

    def close(self) -> None:
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()
        for member in self._groups.values():
            member.close()
        self._sockets.clear()
        self._groups.clear()

    def _open(self, kind: int) -> socket.socket:
        # Bound to nothing until the filter is there, so that nothing unfiltered is queued.
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            if kind == frames.ETH_IPV6:
                _attach(opened, frames.neighbour_filter())
            opened.bind((self.interface, kind))
        except OSError:
            opened.close()
            raise
        self._sockets.append(opened)
        self._loop.add_reader(opened, self._read, opened)
        return opened

    def _read(self, opened: socket.socket) -> None:
        for _ in range(_MOST_FRAMES):
            try:
                frame = opened.recv(256)
            except BlockingIOError:
                return
            except OSError as error:
                # The interface went down or away; whoever announces looks at it again.
                log.debug("cannot hear", interface=self.interface, error=str(error))
                return
            for said in frames.read(frame):
                if said.mac != self.mac:
                    self._heard(self.interface, said)


def routes() -> tuple[str, str]:
    """The texts that `interfaces.interface_for` reads."""
    found = []
    for path in ("/proc/self/net/route", "/proc/self/net/ipv6_route"):
        try:
            found.append(Path(path).read_text())
        except OSError:
            found.append("")  # a kernel without IPv6
    return found[0], found[1]


def _attach(opened: socket.socket, program: tuple[tuple[int, int, int, int], ...]) -> None:
    code = b"".join(struct.pack("@HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(buffer)))
