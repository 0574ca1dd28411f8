"""Sets, maps and their elements. Pure.

A key is written as its fields, each padded to four bytes: addresses and ports in network order, numbers as the host
has them. `SetType` says which fields, `pack` makes one, `show` reads it for people.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache

from agents.network.nftables.attributes import attribute, nested, number, text
from agents.network.nftables.statements import verdict

_INTERVAL, _MAP, _TIMEOUT, _EVAL, _CONCAT = 0x4, 0x8, 0x10, 0x20, 0x80
COUNTED = 1 << 16
"""In `SetType.shape`; no flag of the kernel's."""
_VERDICT_TYPE = 0xFFFFFF00
_COMMENT = 0
LONGEST_COMMENT = 120

PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
_FIELDS: dict[str, tuple[int, int]] = {
    # nft's number of the type, bytes
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "integer": (4, 4),
}
Field = str | int


@dataclass(frozen=True)
class SetType:
    """What a set or map holds. ``key`` and ``data`` name nft's types, ``data`` may be ``("verdict",)`` or empty.

    ``counted``: each element counts the packets that found it. ``seconds``: elements are added by packets and end after
    this time (at most ``size`` of them). ``typeof`` is what nft wants to read instead of types it has no names for,
    ``note`` what nft itself puts beside the set so that it can print it again.
    """

    key: tuple[str, ...]
    data: tuple[str, ...] = ()
    interval: bool = False
    seconds: int = 0
    size: int = 0
    counted: bool = False
    typeof: str = ""
    note: bytes = b""

    @cached_property
    def code(self) -> bytes:
        """The attributes of a new set, but for its name."""
        flags = (_MAP if self.data else 0) | (_TIMEOUT | _EVAL if self.seconds else 0)
        description = b""
        if self.interval:
            flags |= _INTERVAL | (_CONCAT if len(self.key) > 1 else 0)
            lengths = (nested(1, number(1, _FIELDS[field][1])) for field in self.key)
            description += nested(2, *lengths)
        if self.size:
            description += number(1, self.size)
        parts = [number(3, flags), number(4, _type_number(self.key)), number(5, length_of(self.key))]
        if self.data == ("verdict",):
            # Verdicts have no length of their own.
            parts += [number(6, _VERDICT_TYPE), number(7, 0)]
        elif self.data:
            parts += [number(6, _type_number(self.data)), number(7, length_of(self.data))]
        if description:
            parts.append(nested(9, description))
        if self.counted:
            # Each new element gets one like it.
            parts.append(nested(17, text(1, "counter"), nested(2)))
        if self.seconds:
            parts.append(attribute(11, struct.pack(">Q", self.seconds * 1000)))
        if self.note:
            parts.append(attribute(13, self.note))
        return b"".join(parts)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(flags, length of a key, length of the data, seconds): what two sets of one name must have in common."""
        flags = (_MAP if self.data else 0) | (_TIMEOUT | _EVAL if self.seconds else 0)
        flags |= (_INTERVAL | (_CONCAT if len(self.key) > 1 else 0)) if self.interval else 0
        flags |= COUNTED if self.counted else 0
        data = 0 if self.data in ((), ("verdict",)) else length_of(self.data)
        return flags, length_of(self.key), data, self.seconds

    def lines(self) -> list[str]:
        """The declaration in nft's language, without elements."""
        shown = self.typeof or " . ".join(self.key) + (f" : {' . '.join(self.data)}" if self.data else "")
        found = [f"{'typeof' if self.typeof else 'type'} {shown}"]
        if self.size:
            found.append(f"size {self.size}")
        if self.interval:
            found.append("flags interval")
        if self.counted:
            found.append("counter")
        if self.seconds:
            found += ["flags dynamic,timeout", f"timeout {_duration(self.seconds)}"]
        return found


@dataclass(frozen=True, slots=True)
class Element:
    """One element: ``data`` is b"" in a set, bytes in a map, a verdict ("goto CHAIN") in a verdict map.

    ``comment`` has at most ``LONGEST_COMMENT`` characters, all ASCII. ``until`` is the end of the range that ``key``
    begins, in a set of intervals.
    """

    key: bytes
    data: bytes | str = b""
    comment: str = ""
    until: bytes = b""

    @property
    def key_code(self) -> bytes:
        """What names it to the kernel."""
        return nested(1, *self._key())

    @property
    def code(self) -> bytes:
        if isinstance(self.data, bytes) and not self.comment and not self.until:
            # Nearly all elements of a large table are of this kind.
            before, between = _frame(len(self.key), len(self.data))
            return b"".join((before, self.key, between, self.data))
        parts = self._key()
        if isinstance(self.data, str):
            parts.append(_verdict_value(self.data))
        elif self.data:
            parts.append(nested(2, attribute(1, self.data)))
        if self.comment:
            note = self.comment.encode() + b"\0"
            parts.append(attribute(6, bytes((_COMMENT, len(note))) + note))
        return nested(1, *parts)

    def _key(self) -> list[bytes]:
        parts = [nested(1, attribute(1, self.key))]
        if self.until:
            parts.append(nested(10, attribute(1, self.until)))
        return parts


@lru_cache(64)
def _frame(key: int, data: int) -> tuple[bytes, bytes]:
    """What stands before the key and between key and data, of an element whose key and data have these lengths. Both
    are made of whole words, so nothing comes after them."""
    value = nested(2, attribute(1, bytes(data))) if data else b""
    whole = nested(1, nested(1, attribute(1, bytes(key))), value)
    before = len(whole) - len(value) - key
    return whole[:before], whole[before + key : len(whole) - data]


@lru_cache(1024)
def _verdict_value(word: str) -> bytes:
    return nested(2, verdict(word))


def pack(types: tuple[str, ...], *fields: Field) -> bytes:
    """A key or data: addresses as text, protocols by name ("TCP"), ports and numbers as they are."""
    parts = []
    for kind, value in zip(types, fields, strict=True):
        if kind == "ipv4_addr":
            parts.append(socket.inet_pton(socket.AF_INET, str(value)))
        elif kind == "ipv6_addr":
            parts.append(socket.inet_pton(socket.AF_INET6, str(value)))
        elif kind == "inet_proto":
            parts.append(struct.pack("B3x", PROTOCOLS[str(value)]))
        elif kind == "inet_service":
            parts.append(struct.pack(">H2x", value))
        else:
            parts.append(struct.pack("=I", value))
    return b"".join(parts)


def show(types: tuple[str, ...], data: bytes) -> str:
    """As nft prints it."""
    shown, offset = [], 0
    names = {number: name.lower() for name, number in PROTOCOLS.items()}
    for kind in types:
        size = _FIELDS[kind][1]
        raw = data[offset : offset + size]
        offset += (size + 3) & ~3
        if kind == "ipv4_addr":
            shown.append(socket.inet_ntop(socket.AF_INET, raw))
        elif kind == "ipv6_addr":
            shown.append(socket.inet_ntop(socket.AF_INET6, raw))
        elif kind == "inet_proto":
            shown.append(names.get(raw[0], str(raw[0])))
        elif kind == "inet_service":
            shown.append(str(int.from_bytes(raw, "big")))
        else:
            shown.append(str(struct.unpack("=I", raw)[0]))
    return " . ".join(shown)


def length_of(types: tuple[str, ...]) -> int:
    """Bytes of a key or data of these fields; a single field is not padded."""
    if len(types) == 1:
        return _FIELDS[types[0]][1]
    return sum((_FIELDS[kind][1] + 3) & ~3 for kind in types)


def _type_number(types: tuple[str, ...]) -> int:
    found = 0
    for kind in types:
        found = found << 6 | _FIELDS[kind][0]
    return found


def _duration(seconds: int) -> str:
    """As nft prints it: 10800 is 3h."""
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
