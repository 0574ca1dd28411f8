"""Netlink attributes: length, type, value, padded to four bytes. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """A big-endian 32-bit number."""
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message or of one of its lists, by number; of repeated ones the last."""
    return dict(each_attribute(data))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
