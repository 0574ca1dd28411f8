"""Protocol buffers by hand, as far as etcd's requests need them: varints and length-delimited fields.

Spec: protobuf.dev/programming-guides/encoding. Unknown fields are kept by number and ignored by whoever reads.
"""

from __future__ import annotations

from collections.abc import Iterator

Value = int | bytes
_SMALL = tuple(bytes((number,)) for number in range(128))


def varint(number: int) -> bytes:
    """An unsigned integer; negative ones as two's complement of 64 bits."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def blob(field: int, value: bytes) -> bytes:
    """A length-delimited field (bytes, strings, messages), ``field`` below 16."""
    return b"%b%b%b" % (_SMALL[field << 3 | 2], varint(len(value)), value)


def number(field: int, value: int) -> bytes:
    """An integer field, ``field`` below 16; also when it is 0."""
    return _SMALL[field << 3] + varint(value)


def fields(raw: bytes) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field in order. Raises ValueError for bytes that are no message."""
    at, end = 0, len(raw)
    try:
        while at < end:
            tag = raw[at]
            at += 1
            if tag > 127:
                tag, at = _varint(raw, at - 1)
            kind = tag & 7
            if kind == 0:
                value = raw[at]
                at += 1
                if value > 127:
                    value, at = _varint(raw, at - 1)
                yield tag >> 3, value
            elif kind == 2:
                length = raw[at]
                at += 1
                if length > 127:
                    length, at = _varint(raw, at - 1)
                if at + length > end:
                    raise ValueError("truncated message")
                yield tag >> 3, raw[at : at + length]
                at += length
            else:
                size = {1: 8, 5: 4}.get(kind)
                if size is None:
                    raise ValueError(f"wire type {kind}")
                yield tag >> 3, raw[at : at + size]
                at += size
    except IndexError:
        raise ValueError("truncated message") from None


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
