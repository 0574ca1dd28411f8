"""Who listens in a network namespace, and which way packets leave it: files of /proc/PID/net. Pure but for reading."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"
_UDP_OPEN = "07"


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """A socket that takes connections, or datagrams of anybody. ``address`` "" means every address of ``family``
    ("::" of a TCP socket takes IPv4 as well, unless the program forbids it)."""

    protocol: str
    port: int
    address: str = ""
    family: int = 4


@dataclass(frozen=True, slots=True)
class Route:
    """``destination`` in CIDR form; ``gateway`` "" on the link itself."""

    destination: str
    device: str
    gateway: str = ""


def listeners(directory: Path) -> tuple[Listener, ...]:
    """Of the namespace whose ``/proc/PID/net`` is given. Raises OSError."""
    found = set()
    for name, protocol, state in (("tcp", "TCP", _LISTEN), ("udp", "UDP", _UDP_OPEN)):
        for family, suffix in ((4, ""), (6, "6")):
            try:
                text = (directory / f"{name}{suffix}").read_text()
            except FileNotFoundError:
                continue  # a kernel without IPv6
            found |= set(_listeners(text, protocol, family, state))
    return tuple(sorted(found))


def _listeners(text: str, protocol: str, family: int, state: str) -> Iterator[Listener]:
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 4 or words[3] != state:
            continue
        host, _, port = words[1].partition(":")
        _, _, peer_port = words[2].partition(":")
        if int(peer_port, 16):
            continue
        address = _address(host)
        yield Listener(protocol, int(port, 16), "" if address.is_unspecified else str(address), family)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel prints words of 32 bits in its own byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    return ipaddress.ip_address(raw)


def route(directory: Path, to: str) -> Route | None:
    """The main table's route to an address. Raises OSError."""
    address = ipaddress.ip_address(to)
    best: tuple[int, int, Route] | None = None
    lines = (directory / ("route" if address.version == 4 else "ipv6_route")).read_text().splitlines()
    for network, metric, found in _routes4(lines) if address.version == 4 else _routes6(lines):
        if address in network and (best is None or (network.prefixlen, -metric) > (best[0], -best[1])):
            best = (network.prefixlen, metric, found)
    return best[2] if best else None


def _routes4(lines: list[str]) -> Iterator[tuple[ipaddress.IPv4Network, int, Route]]:
    for line in lines[1:]:
        device, destination, gateway, flags, _, _, metric, mask, *_ = line.split()
        if not int(flags, 16) & 1:
            continue
        where = socket.inet_ntoa(struct.pack("=I", int(destination, 16)))
        network = ipaddress.IPv4Network((where, socket.inet_ntoa(struct.pack("=I", int(mask, 16)))))
        by = socket.inet_ntoa(struct.pack("=I", int(gateway, 16)))
        yield network, int(metric), Route(str(network), device, "" if by == "0.0.0.0" else by)


def _routes6(lines: list[str]) -> Iterator[tuple[ipaddress.IPv6Network, int, Route]]:
    for line in lines:
        destination, length, _, _, gateway, metric, _, _, flags, device = line.split()
        # Up, and no reject; local ones are in the same file.
        if not int(flags, 16) & 1 or int(flags, 16) & 0x200:
            continue
        network = ipaddress.IPv6Network((int(destination, 16), int(length, 16)))
        by = ipaddress.IPv6Address(int(gateway, 16))
        yield network, int(metric, 16), Route(str(network), device, "" if by.is_unspecified else str(by))
