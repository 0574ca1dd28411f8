"""DNS messages as bytes: just what a server of a few record types needs (RFC 1035, RFC 6891). Pure.

Names are lower-case text without the final dot; the question is answered with the bytes it came in, so that its
spelling comes back as it was sent.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
IN = 1

PLAIN_UDP_SIZE = 512
UDP_SIZE = 1232
"""What we send at most over UDP, whatever the client says it can take: passes every path unfragmented."""

_HEADER = struct.Struct(">6H")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x400, 0x200, 0x100, 0x80


class BadQuery(Exception):
    """The message is no question that can be answered. ``rcode`` is what to say, ``identity`` to whom."""

    def __init__(self, identity: int, rcode: int) -> None:
        super().__init__(f"bad query, rcode {rcode}")
        self.identity, self.rcode = identity, rcode


@dataclass(frozen=True, slots=True)
class Query:
    """One question. ``size`` is how long an answer over UDP may be; ``edns`` whether an OPT record came."""

    identity: int
    name: str
    kind: int
    wire: bytes
    """The question section."""
    recursion: bool
    edns: bool
    size: int
    dnssec: bool = False

    @property
    def key(self) -> tuple[str, int, bool, bool]:
        """Queries with the same key have the same answer but for identity, spelling and length."""
        return (self.name, self.kind, self.edns, self.dnssec)


@dataclass(frozen=True, slots=True)
class Record:
    """A resource record of class IN with its data in wire form."""

    name: str
    kind: int
    ttl: int
    data: bytes


def parse_query(message: bytes) -> Query | None:
    """The question of a message. None for what needs no answer; raises ``BadQuery``."""
    if len(message) < 12:
        return None
    identity, flags, questions, _answers, _authorities, additional = _HEADER.unpack_from(message)
    if flags & _RESPONSE:
        return None
    if flags >> 11 & 15:
        raise BadQuery(identity, NOTIMP)
    if questions != 1:
        raise BadQuery(identity, FORMERR)
    try:
        name, offset = _read_name(message, 12)
        kind, dns_class = struct.unpack_from(">HH", message, offset)
    except (IndexError, struct.error, ValueError) as error:
        raise BadQuery(identity, FORMERR) from error
    offset += 4
    if dns_class not in (IN, ANY):
        raise BadQuery(identity, REFUSED)
    edns, size, dnssec = False, PLAIN_UDP_SIZE, False
    if additional and message[offset : offset + 3] == b"\0\0\x29" and len(message) >= offset + 11:
        edns = True
        size = min(max(struct.unpack_from(">H", message, offset + 3)[0], PLAIN_UDP_SIZE), UDP_SIZE)
        dnssec = bool(message[offset + 7] & 0x80)
    return Query(identity, name, kind, message[12:offset], bool(flags & _RECURSION_DESIRED), edns, size, dnssec)


def _read_name(message: bytes, offset: int) -> tuple[str, int]:
    labels, start = [], offset
    while length := message[offset]:
        if length > 63 or offset - start > 254:
            raise ValueError("a question's name is not compressed and not longer than 255")
        labels.append(message[offset + 1 : offset + 1 + length])
        offset += 1 + length
    return b".".join(labels).decode("latin-1").lower(), offset + 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say to a query; turned into bytes by ``pack`` once and by ``address_to`` for every client."""

    rcode: int = NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authoritative: bool = True


def pack(query: Query, answer: Answer) -> bytes:
    """The whole message as TCP would carry it."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | answer.rcode | (_AUTHORITATIVE if answer.authoritative else 0)
    extra = b"\0" + struct.pack(">HHIH", OPT, UDP_SIZE, 0, 0) if query.edns else b""
    counts = (len(answer.answers), len(answer.authority), len(answer.additional) + bool(extra))
    head = _HEADER.pack(query.identity, flags, 1, *counts) + query.wire
    records = (*answer.answers, *answer.authority, *answer.additional)
    return head + b"".join(_record(record, query.name) for record in records) + extra


def address_to(query: Query, message: bytes, *, udp: bool) -> bytes:
    """A packed answer for this very client: its identity, its spelling of the question, its size limit."""
    flags = struct.unpack_from(">H", message, 2)[0] & ~_RECURSION_DESIRED
    flags |= _RECURSION_DESIRED if query.recursion else 0
    rest = message[12 + len(query.wire) :]
    if udp and len(message) > query.size:
        # Cut to the bare question: the client comes again over TCP.
        extra = b"\0" + struct.pack(">HHIH", OPT, UDP_SIZE, 0, 0) if query.edns else b""
        return _HEADER.pack(query.identity, flags | _TRUNCATED, 1, 0, 0, bool(extra)) + query.wire + extra
    return struct.pack(">HH", query.identity, flags) + message[4:12] + query.wire + rest


def refusal(identity: int, rcode: int) -> bytes:
    """An answer to what could not be read."""
    return _HEADER.pack(identity, _RESPONSE | rcode, 0, 0, 0, 0)


def is_truncated(message: bytes) -> bool:
    return len(message) >= 4 and bool(message[2] & 0x02)


def name_data(name: str) -> bytes:
    """A name in wire form, uncompressed. Raises ValueError for one that cannot be."""
    out = b""
    for label in name.split(".") if name else ():
        raw = label.encode("latin-1")
        if not 0 < len(raw) < 64:
            raise ValueError(f"{name!r} is no DNS name")
        out += bytes([len(raw)]) + raw
    if len(out) > 254:
        raise ValueError(f"{name!r} is too long for a DNS name")
    return out + b"\0"


def ip_data(ip: str) -> tuple[int, bytes]:
    """(record type, data) of an address."""
    address = ipaddress.ip_address(ip)
    return (A if address.version == 4 else AAAA), address.packed


def srv_data(port: int, target: str) -> bytes:
    return struct.pack(">HHH", 0, 100, port) + name_data(target)


def txt_data(text: str) -> bytes:
    raw = text.encode()[:255]
    return bytes([len(raw)]) + raw


def soa_data(zone: str, *, serial: int, minimum: int) -> bytes:
    return (
        name_data(f"ns.dns.{zone}")
        + name_data(f"hostmaster.{zone}")
        + struct.pack(">5I", serial, 7200, 1800, 86400, minimum)
    )


def _record(record: Record, asked: str) -> bytes:
    owner = b"\xc0\x0c" if record.name == asked and asked else name_data(record.name)
    return owner + struct.pack(">HHIH", record.kind, IN, record.ttl, len(record.data)) + record.data


def answer_records(message: bytes, question: int) -> tuple[Record, ...]:
    """The answer section of somebody else's message, with its names written out."""
    count = struct.unpack_from(">H", message, 6)[0]
    offset, found = 12 + question, []
    try:
        for _ in range(count):
            owner, offset = _read_compressed(message, offset)
            kind, _, ttl, size = struct.unpack_from(">HHIH", message, offset)
            offset += 10
            data = message[offset : offset + size]
            if kind == CNAME:
                data = name_data(_read_compressed(message, offset)[0])
            offset += size
            if kind in (A, AAAA, CNAME, TXT):
                found.append(Record(owner, kind, ttl, data))
    except (IndexError, struct.error, ValueError):
        pass
    return tuple(found)


def _read_compressed(message: bytes, offset: int) -> tuple[str, int]:
    """(name, offset after it) of a name that may point back into the message."""
    labels: list[bytes] = []
    end = 0
    for _ in range(128):
        length = message[offset]
        if length >= 0xC0:
            end = end or offset + 2
            offset = (length & 0x3F) << 8 | message[offset + 1]
        elif length:
            labels.append(message[offset + 1 : offset + 1 + length])
            offset += 1 + length
        else:
            return b".".join(labels).decode("latin-1").lower(), end or offset + 1
    raise ValueError("a name that never ends")
