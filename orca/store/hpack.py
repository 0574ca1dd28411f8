"""Response header blocks as an etcd server writes them (RFC 7541), for a client that allows no dynamic table.

With a table of size 0 a block means the same whenever it comes, so blocks are decoded once and remembered: in a
quiet life there are two, the head of an answer and the trailer of a success.
"""

from __future__ import annotations

from functools import lru_cache

_BY_LENGTH = {
    5: "012aceiost",
    6: " %-./3456789=A_bdfghlmnpru",
    7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: "&*,;XZ",
    10: '!"()?',
    11: "'+|",
    12: "#>",
    13: "\0$@[]~",
    14: "^}",
    15: "<`{",
}
"""Symbols by length of their code (RFC 7541, appendix B), of the lengths that printable ASCII needs. The codes are
canonical: consecutive, shorter ones first, ascending within a length."""

_STATIC = {8: (":status", "200"), 9: (":status", "204"), 10: (":status", "206"), 11: (":status", "304")}
_STATIC |= {12: (":status", "400"), 13: (":status", "404"), 14: (":status", "500"), 31: ("content-type", "")}


def _codes() -> dict[tuple[int, int], str]:
    found, code, last = {}, 0, 5
    for length, symbols in _BY_LENGTH.items():
        code <<= length - last
        last = length
        for symbol in symbols:
            found[length, code] = symbol
            code += 1
    return found


_CODES = _codes()


@lru_cache(maxsize=256)
def decode(block: bytes) -> dict[str, str]:
    """Header fields by name; a name of the static table that gRPC does not use is "". Raises ValueError."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 7)
            name, value = _STATIC.get(index, ("", ""))
        elif first & 0xE0 == 0x20:  # a new size of the table, which stays 0
            _, at = _integer(block, at, 5)
            continue
        else:
            index, at = _integer(block, at, 6 if first & 0x40 else 4)
            if index:
                name = _STATIC.get(index, ("", ""))[0]
            else:
                name, at = _string(block, at)
            value, at = _string(block, at)
        fields[name] = value
    return fields


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        if at >= len(block) or shift > 28:
            raise ValueError("malformed header block")
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _string(block: bytes, at: int) -> tuple[str, int]:
    if at >= len(block):
        raise ValueError("malformed header block")
    packed = block[at] & 0x80
    length, at = _integer(block, at, 7)
    raw = block[at : at + length]
    if len(raw) != length:
        raise ValueError("malformed header block")
    return (_unpacked(raw) if packed else raw.decode("latin-1")), at + length


def _unpacked(raw: bytes) -> str:
    found: list[str] = []
    code = length = 0
    for byte in raw:
        for bit in range(7, -1, -1):
            code = code << 1 | byte >> bit & 1
            length += 1
            symbol = _CODES.get((length, code))
            if symbol is not None:
                found.append(symbol)
                code = length = 0
            elif length > 15 and code != (1 << length) - 1:
                return "".join(found) + "?"  # not printable ASCII, of which gRPC's fields are made
    return "".join(found)
