"""ARP (RFC 826, 5227) and neighbour discovery (RFC 4861) as bytes. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

ETH_IPV6 = 0x86DD
ETH_ARP = 0x0806
BROADCAST = b"\xff" * 6
_REQUEST, _REPLY = 1, 2
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_OPTION, _TARGET_OPTION = 1, 2
_ICMPV6 = 58
_SOLICITED, _OVERRIDE = 0x40, 0x20
_ALL_NODES = IPv6Address("ff02::1")


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody asks which MAC ``address`` has; the answer goes to ``mac``, and is for ``asker`` ("" when it has no
    address yet)."""

    address: str
    mac: bytes
    asker: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that ``address`` is at ``mac``."""

    address: str
    mac: bytes


def read(frame: bytes) -> tuple[Question | Claim, ...]:
    """What an Ethernet frame says; nothing when it is none of these, or broken."""
    if len(frame) < 14:
        return ()
    kind = int.from_bytes(frame[12:14])
    if kind == ETH_ARP:
        return _read_arp(frame[14:])
    if kind == ETH_IPV6:
        return _read_ndp(frame[14:], frame[6:12])
    return ()


def _read_arp(packet: bytes) -> tuple[Question | Claim, ...]:
    if len(packet) < 28 or packet[:6] != b"\x00\x01\x08\x00\x06\x04":
        return ()
    operation = int.from_bytes(packet[6:8])
    mac, sender, target = packet[8:14], packet[14:18], packet[24:28]
    found: list[Question | Claim] = []
    if any(sender):
        found.append(Claim(str(IPv4Address(sender)), mac))
    if operation == _REQUEST and sender != target:
        found.append(Question(str(IPv4Address(target)), mac, str(IPv4Address(sender)) if any(sender) else ""))
    return tuple(found)


def _read_ndp(packet: bytes, from_mac: bytes) -> tuple[Question | Claim, ...]:
    # A hop limit below 255 would have crossed a router (RFC 4861, 7.1).
    if len(packet) < 64 or packet[6] != _ICMPV6 or packet[7] != 255:
        return ()
    kind, target = packet[40], str(IPv6Address(packet[48:64]))
    options = _options(packet[64:])
    if kind == _SOLICITATION:
        source = IPv6Address(packet[8:24])
        return (
            Question(target, options.get(_SOURCE_OPTION, from_mac), "" if source == IPv6Address(0) else str(source)),
        )
    if kind == _ADVERTISEMENT:
        return (Claim(target, options.get(_TARGET_OPTION, from_mac)),)
    return ()


def _options(data: bytes) -> dict[int, bytes]:
    """Link-layer addresses by option type."""
    found: dict[int, bytes] = {}
    while len(data) >= 8 and data[1]:
        if data[1] == 1:
            found[data[0]] = data[2:8]
        data = data[8 * data[1] :]
    return found


def answer(question: Question, own: bytes) -> bytes:
    """The frame that says that the address is here."""
    address = ip_address(question.address)
    if isinstance(address, IPv4Address):
        asker = IPv4Address(question.asker or 0)
        return _arp(question.mac, own, _REPLY, own, address, question.mac, asker)
    if question.asker:
        return _advertisement(question.mac, own, address, IPv6Address(question.asker), _SOLICITED | _OVERRIDE)
    # To somebody without an address: to all nodes, and not as an answer (7.2.4).
    return _advertisement(_multicast_mac(_ALL_NODES), own, address, _ALL_NODES, _OVERRIDE)


def announcement(address: str, own: bytes) -> tuple[bytes, ...]:
    """What tells everybody who had another MAC for it: gratuitous ARP as request and as reply (some heed only one), or
    an unsolicited advertisement."""
    found = ip_address(address)
    if isinstance(found, IPv4Address):
        return (
            _arp(BROADCAST, own, _REQUEST, own, found, bytes(6), found),
            _arp(BROADCAST, own, _REPLY, own, found, BROADCAST, found),
        )
    return (_advertisement(_multicast_mac(_ALL_NODES), own, found, _ALL_NODES, _OVERRIDE),)


def probe(address: str, own: bytes) -> bytes:
    """A question that claims nothing, to learn whether somebody else has it (RFC 5227, RFC 4862)."""
    found = ip_address(address)
    if isinstance(found, IPv4Address):
        return _arp(BROADCAST, own, _REQUEST, own, IPv4Address(0), bytes(6), found)
    group = solicited_node(found)
    body = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + found.packed
    return _ipv6(_multicast_mac(group), own, IPv6Address(0), group, body)


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group in which the address is asked for."""
    return IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | (int(address) & 0xFFFFFF))


def _arp(
    to: bytes, own: bytes, operation: int, sender: bytes, sender_ip: IPv4Address, target: bytes, target_ip: IPv4Address
) -> bytes:
    head = to + own + struct.pack("!HHHBBH", ETH_ARP, 1, 0x0800, 6, 4, operation)
    return (head + sender + sender_ip.packed + target + target_ip.packed).ljust(60, b"\x00")


def _advertisement(to: bytes, own: bytes, target: IPv6Address, receiver: IPv6Address, flags: int) -> bytes:
    body = struct.pack("!BBHB3x", _ADVERTISEMENT, 0, 0, flags) + target.packed + bytes((_TARGET_OPTION, 1)) + own
    return _ipv6(to, own, target, receiver, body)


def _ipv6(to: bytes, own: bytes, source: IPv6Address, receiver: IPv6Address, body: bytes) -> bytes:
    pseudo = source.packed + receiver.packed + struct.pack("!II", len(body), _ICMPV6)
    body = body[:2] + _checksum(pseudo + body).to_bytes(2) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255) + source.packed + receiver.packed
    return to + own + ETH_IPV6.to_bytes(2) + head + body


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _multicast_mac(group: IPv6Address) -> bytes:
    return b"\x33\x33" + group.packed[-4:]


def neighbour_filter() -> tuple[tuple[int, int, int, int], ...]:
    """A classic packet filter (code, jump if true, if false, operand) that lets neighbour solicitations and
    advertisements through: without it every IPv6 packet of the host would wake us."""
    load_byte, equal, done = 0x30, 0x15, 0x06
    return (
        (load_byte, 0, 0, 14 + 6),
        (equal, 0, 4, _ICMPV6),
        (load_byte, 0, 0, 14 + 40),
        (equal, 1, 0, _SOLICITATION),
        (equal, 0, 1, _ADVERTISEMENT),
        (done, 0, 0, 0x40000),
        (done, 0, 0, 0),
    )
