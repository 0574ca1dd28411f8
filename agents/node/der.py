"""The little of DER (X.690) that it takes to read a certificate: elements by tag and length. Pure.

Stricter than needed, as what is read may decide whom the agent trusts: no indefinite and no needlessly long lengths, no
tags of several bytes (X.509 has none), nothing behind the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

INTEGER, OCTETS, OID, SEQUENCE, SET = 0x02, 0x04, 0x06, 0x30, 0x31
UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18

_ENCODINGS = {UTF8: "utf-8", PRINTABLE: "ascii", T61: "latin-1", IA5: "ascii", UNIVERSAL: "utf-32-be", BMP: "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Element:
    """One element; ``raw`` is all of it, ``content`` what is behind tag and length."""

    tag: int
    content: bytes
    raw: bytes

    def expect(self, tag: int) -> Element:
        """Itself, when it has this tag; raises ValueError."""
        if self.tag != tag:
            raise ValueError(f"element {tag:#04x} expected, not {self.tag:#04x}")
        return self

    def children(self) -> list[Element]:
        """The elements in it; raises ValueError."""
        found, rest = [], self.content
        while rest:
            one, rest = _first(rest)
            found.append(one)
        return found

    def text(self) -> str:
        """Of a string, of whichever type; raises ValueError."""
        if self.tag not in _ENCODINGS:
            raise ValueError(f"element {self.tag:#04x} is no string")
        return self.content.decode(_ENCODINGS[self.tag])

    def time(self) -> datetime:
        """Of both types of time, in the only form that certificates may have (RFC 5280, 4.1.2.5); raises ValueError."""
        digits = self.content[:-1].decode("ascii")
        if self.tag == UTC_TIME:
            digits = ("19" if digits >= "50" else "20") + digits
        elif self.tag != GENERALIZED_TIME:
            raise ValueError(f"element {self.tag:#04x} is no time")
        if len(digits) != 14 or not digits.isdigit() or self.content[-1:] != b"Z":
            raise ValueError(f"not a time: {self.content!r}")
        month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
        return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)


def parse(data: bytes) -> Element:
    """The one element that ``data`` is; raises ValueError."""
    found, rest = _first(data)
    if rest:
        raise ValueError(f"{len(rest)} bytes behind the end")
    return found


def _first(data: bytes) -> tuple[Element, bytes]:
    if len(data) < 2 or data[0] & 0x1F == 0x1F:
        raise ValueError("not DER")
    length, start = data[1], 2
    if length & 0x80:
        size = length & 0x7F
        start += size
        if not 1 <= size <= 4 or len(data) < start:
            raise ValueError("not DER: a bad length")
        length = int.from_bytes(data[2:start], "big")
        if length < 0x80 or data[2] == 0:
            raise ValueError("not DER: a length that is longer than need be")
    end = start + length
    if len(data) < end:
        raise ValueError("not DER: cut off")
    return Element(data[0], data[start:end], data[:end]), data[end:]
