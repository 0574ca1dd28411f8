"""By which interface this host reaches an address: there it answers for it. Pure, over what /proc/net tells."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

_UP, _REJECT, _LOCAL = 0x1, 0x200, 0x80000000
OWN = ("lo", "orca", "cni", "docker", "veth", "kube-ipvs0", "flannel")
"""Prefixes of interfaces behind which are pods and nobody else."""


def interface_for(address: str, routes4: str, routes6: str) -> str:
    """``routes4`` and ``routes6`` are the texts of /proc/net/route and ipv6_route. "" when there is no way."""
    wanted = ip_address(address)
    routes = _routes4(routes4) if isinstance(wanted, IPv4Address) else _routes6(routes6)
    best = max(
        ((network.prefixlen, -metric, device) for network, metric, device in routes if wanted in network), default=None
    )
    return best[2] if best is not None else ""


def _routes4(text: str) -> list[tuple[IPv4Network, int, str]]:
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not int(fields[3], 16) & _UP or int(fields[3], 16) & _REJECT or _is_own(fields[0]):
            continue
        network, mask = (IPv4Address(struct.pack("=I", int(fields[index], 16))) for index in (1, 7))
        found.append((IPv4Network(f"{network}/{mask}"), int(fields[6]), fields[0]))
    return found


def _routes6(text: str) -> list[tuple[IPv6Network, int, str]]:
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10 or int(fields[8], 16) & (_REJECT | _LOCAL) or _is_own(fields[9]):
            continue
        network = IPv6Network((bytes.fromhex(fields[0]), int(fields[1], 16)))
        if not network.is_multicast:
            found.append((network, int(fields[5], 16), fields[9]))
    return found


def _is_own(device: str) -> bool:
    return device.startswith(OWN)
