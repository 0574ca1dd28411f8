"""Addresses and networks. Reference: k8s.io/apiserver ``pkg/cel/library/{ip,cidr}.go``, Go's ``net/netip``."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare, fixed, traverse
from orca.api.cel.values import size_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Ip:
    """One address."""

    address: Address
    cel_type: ClassVar[str] = "net.IP"

    def __len__(self) -> int:
        return len(self.address.packed)


@dataclass(frozen=True, slots=True)
class Cidr:
    """An address with the length of its network's prefix; host bits are kept."""

    interface: Network
    cel_type: ClassVar[str] = "net.CIDR"

    def __len__(self) -> int:
        return len(self.interface.packed)


def parse_ip(text: str) -> Ip:
    """Raises CelError for what is none, has a zone, or is IPv4 written as IPv6."""
    try:
        if "%" in text:
            raise CelError(f'IP address "{text}" with zone value is not allowed')
        address = ipaddress.ip_address(text)
    except ValueError:
        raise CelError(
            f'IP Address "{text}" parse error during conversion from string: ParseAddr("{text}"): unable to parse IP'
        ) from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise CelError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Ip(address)


def parse_cidr(text: str) -> Cidr:
    """Raises CelError for what is none, or is an IPv4 network written as IPv6."""
    base, slash, bits = text.partition("/")
    bad = f'network address parse error during conversion from string: netip.ParsePrefix("{text}"): '
    if not slash:
        raise CelError(f"{bad}no '/'")
    if not bits.isascii() or not bits.isdigit() or (len(bits) > 1 and bits[0] == "0"):
        raise CelError(f'{bad}bad bits after slash: "{bits}"')
    if "%" in base:
        raise CelError(f"{bad}IPv6 zones cannot be present in a prefix")
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        raise CelError(f"{bad}{error}") from None
    if isinstance(interface, ipaddress.IPv6Interface) and interface.ip.ipv4_mapped is not None:
        raise CelError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Cidr(interface)


def _is_ip(text: str) -> bool:
    try:
        parse_ip(text)
    except CelError:
        return False
    return True


def _is_cidr(text: str) -> bool:
    try:
        parse_cidr(text)
    except CelError:
        return False
    return True


def _is_canonical(text: str) -> bool:
    return str(parse_ip(text).address) == text


def _global_unicast(value: Ip) -> bool:
    address = value.address
    broadcast = isinstance(address, ipaddress.IPv4Address) and int(address) == 0xFFFFFFFF
    return not (
        address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local or broadcast
    )


def _link_local_multicast(value: Ip) -> bool:
    address = value.address
    if isinstance(address, ipaddress.IPv4Address):
        return address in ipaddress.IPv4Network("224.0.0.0/24")
    return address.is_multicast and address.packed[1] & 0x0F == 2


def _contains_ip(cidr: Cidr, ip: Ip) -> bool:
    return ip.address.version == cidr.interface.version and ip.address in cidr.interface.network


def _contains_cidr(cidr: Cidr, other: Cidr) -> bool:
    if cidr.interface.version != other.interface.version:
        return False
    return (
        other.interface.ip in cidr.interface.network
        and other.interface.network.prefixlen >= cidr.interface.network.prefixlen
    )


def _masked(cidr: Cidr) -> Cidr:
    return Cidr(ipaddress.ip_interface(str(cidr.interface.network)))


def _within_cost(text: bool, network: bool) -> Any:
    def cost(args: Sequence[Any], result: Any) -> int:
        size = len(args[0])
        units = ceil(size * 2 * 0.1)
        if network:
            units += ceil(size * 0.1) + 1
        return units + (ceil(size_of(args[1]) * 0.1) if text else 0)

    return cost


declare("ip", "(string) -> net.IP", parse_ip, traverse())
declare("isIP", "(string) -> bool", _is_ip, traverse())
declare("ip.isCanonical", "(string) -> bool", _is_canonical, traverse(0, 0.2))
declare("string", "(net.IP) -> string", lambda ip: str(ip.address))
declare("family", "net.IP.() -> int", lambda ip: ip.address.version, fixed(1))
declare("isUnspecified", "net.IP.() -> bool", lambda ip: ip.address.is_unspecified, fixed(1))
declare("isLoopback", "net.IP.() -> bool", lambda ip: ip.address.is_loopback, fixed(1))
declare("isLinkLocalMulticast", "net.IP.() -> bool", _link_local_multicast, fixed(1))
declare("isLinkLocalUnicast", "net.IP.() -> bool", lambda ip: ip.address.is_link_local, fixed(1))
declare("isGlobalUnicast", "net.IP.() -> bool", _global_unicast, fixed(1))
declare("cidr", "(string) -> net.CIDR", parse_cidr, traverse())
declare("isCIDR", "(string) -> bool", _is_cidr, traverse())
declare("string", "(net.CIDR) -> string", lambda cidr: str(cidr.interface))
declare("containsIP", "net.CIDR.(net.IP) -> bool", _contains_ip, _within_cost(False, False))
declare("containsIP", "net.CIDR.(string) -> bool", lambda c, t: _contains_ip(c, parse_ip(t)), _within_cost(True, False))
declare("containsCIDR", "net.CIDR.(net.CIDR) -> bool", _contains_cidr, _within_cost(False, True))
declare(
    "containsCIDR", "net.CIDR.(string) -> bool", lambda c, t: _contains_cidr(c, parse_cidr(t)), _within_cost(True, True)
)
declare("ip", "net.CIDR.() -> net.IP", lambda cidr: Ip(cidr.interface.ip), fixed(1))
declare("prefixLength", "net.CIDR.() -> int", lambda cidr: cidr.interface.network.prefixlen, fixed(1))
declare("masked", "net.CIDR.() -> net.CIDR", _masked, fixed(1))
