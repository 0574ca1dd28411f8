"""DNS messages as bytes: what a server of a few record types needs (RFC 1035, RFC 6891). Pure.

Names are lower-case text without the final dot; the question is answered with the bytes it came in, so that its
spelling comes back as it was sent.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 41
IXFR, AXFR, ANY = 251, 252, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
IN = 1
KINDS = {
    A: "A", NS: "NS", CNAME: "CNAME", SOA: "SOA", PTR: "PTR", MX: "MX", TXT: "TXT", AAAA: "AAAA", SRV: "SRV",
    35: "NAPTR", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3", 65: "HTTPS",
    IXFR: "IXFR", AXFR: "AXFR", ANY: "ANY",
}  # fmt: skip
"""Types that metrics tell apart, as CoreDNS's do; all others are "other"."""
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")

PLAIN_UDP_SIZE = 512
UDP_SIZE = 1232
"""What we send at most over UDP, whatever the client says it can take: passes every path unfragmented."""

HEADER = struct.Struct(">6H")
_TAIL = struct.Struct(">HHIH")
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED, RECURSION_AVAILABLE = 0x8000, 0x400, 0x200, 0x100, 0x80
AUTHENTIC, CHECKING_DISABLED = 0x20, 0x10
MOST_ADDITIONAL = 2
"""Records after the question that a query may carry: OPT and a signature."""


class BadQuery(Exception):
    """The message is no question that can be answered. ``message`` is what to say to it."""

    def __init__(self, message: bytes, rcode: int) -> None:
        super().__init__(f"bad query, rcode {rcode}")
        self.message, self.rcode = message, rcode


@dataclass(frozen=True, slots=True)
class Query:
    """One question. ``size`` is how long an answer over UDP may be; ``edns`` whether an OPT record came."""

    identity: int
    name: str
    kind: int
    wire: bytes
    """The question section."""
    flags: int = RECURSION_DESIRED
    """Those of the client that come back: RD and CD; AD says that it understands AD."""
    edns: bool = False
    size: int = PLAIN_UDP_SIZE
    dnssec: bool = False

    @property
    def key(self) -> tuple[str, int, bool, int]:
        """Queries with the same key have the same answer but for identity, spelling, RD, OPT and length."""
        return (self.name, self.kind, self.dnssec, self.flags & (AUTHENTIC | CHECKING_DISABLED))


@dataclass(frozen=True, slots=True)
class Record:
    """A resource record of class IN with its data in wire form."""

    name: str
    kind: int
    ttl: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say to a question; `agents.dns.reply` makes bytes of it."""

    rcode: int = NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authoritative: bool = True


def parse_query(message: bytes) -> Query | None:
    """The question of a message. None for what gets no answer; raises ``BadQuery``."""
    if len(message) < 12:
        return None
    identity, flags, questions, answers, authorities, additional = HEADER.unpack_from(message)
    if flags & RESPONSE:
        return None
    if flags >> 11 & 15:
        raise BadQuery(refusal(identity, flags, NOTIMP), NOTIMP)
    if questions != 1 or answers or authorities or additional > MOST_ADDITIONAL:
        raise BadQuery(refusal(identity, flags, FORMERR), FORMERR)
    try:
        name, offset = _read_name(message, 12)
        kind, dns_class = struct.unpack_from(">HH", message, offset)
        offset += 4
        opt = _opt(message, offset, additional) if additional else None
    except (IndexError, struct.error, ValueError) as error:
        raise BadQuery(refusal(identity, flags, FORMERR), FORMERR) from error
    question = message[12:offset]
    size, dnssec = PLAIN_UDP_SIZE, False
    if opt is not None:
        size = min(max(opt[0], PLAIN_UDP_SIZE), UDP_SIZE)
        dnssec = bool(opt[1] & 0x8000)
        if opt[1] >> 16 & 0xFF:
            raise BadQuery(refusal(identity, flags, BADVERS, question, edns=True), BADVERS)
    if dns_class != IN:
        # CHAOS would tell who we are, ANY means all of them; classes other than IN hold nothing here.
        raise BadQuery(refusal(identity, flags, REFUSED, question, edns=opt is not None), REFUSED)
    kept = flags & (RECURSION_DESIRED | AUTHENTIC | CHECKING_DISABLED)
    return Query(identity, name, kind, question, kept, opt is not None, size, dnssec)


def _read_name(message: bytes, offset: int) -> tuple[str, int]:
    labels, start = [], offset
    while length := message[offset]:
        if length > 63 or offset - start > 254:
            raise ValueError("a question's name is not compressed and not longer than 255")
        labels.append(message[offset + 1 : offset + 1 + length])
        offset += 1 + length
    if offset - start > 254:
        raise ValueError("too long")
    return _text(labels), offset + 1


def _text(labels: list[bytes]) -> str:
    """A dot within a label is no end of it: it must not make one name of two."""
    if any(b"." in label for label in labels):
        labels = [label.replace(b".", b"\\046") for label in labels]
    return b".".join(labels).decode("latin-1").lower()


def _opt(message: bytes, offset: int, count: int) -> tuple[int, int] | None:
    """(size, extended flags) of the OPT record; raises ValueError for two of them. Options are not looked at: none has
    to be understood."""
    found = None
    for _ in range(count):
        root = message[offset] == 0
        offset = skip_name(message, offset)
        kind, size, flags, length = _TAIL.unpack_from(message, offset)
        offset += 10 + length
        if offset > len(message):
            raise ValueError("a record ends after the message")
        if kind == OPT:
            if found is not None or not root:
                raise ValueError("more than one OPT record, or one with a name")
            found = (size, flags)
    return found


def told_apart(kind: int) -> int:
    """The type as it is counted: 0 for all others, for whoever asks may ask for 65,536 of them."""
    return kind if kind in KINDS else 0


def skip_name(message: bytes, offset: int) -> int:
    """The offset after a name that may be compressed. Raises IndexError or ValueError."""
    while length := message[offset]:
        if length >= 0xC0:
            return offset + 2
        if length > 63:
            raise ValueError("no such kind of label")
        offset += 1 + length
    return offset + 1


def opt_record(rcode: int = 0, *, dnssec: bool = False) -> bytes:
    """Our OPT; ``rcode``: all of it, the upper bits go here."""
    return b"\0" + _TAIL.pack(OPT, UDP_SIZE, (rcode >> 4) << 24 | (0x8000 if dnssec else 0), 0)


def refusal(identity: int, flags: int, rcode: int, question: bytes = b"", *, edns: bool = False) -> bytes:
    """An answer without records, to a message with these flags."""
    echoed = flags & (0x7800 | RECURSION_DESIRED | CHECKING_DISABLED)
    head = HEADER.pack(identity, RESPONSE | echoed | rcode & 15, 1 if question else 0, 0, 0, 1 if edns else 0)
    return head + question + (opt_record(rcode) if edns else b"")


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


def name_text(data: bytes, offset: int = 0) -> str:
    """The text of an uncompressed name that is known to be one."""
    labels = []
    while length := data[offset]:
        labels.append(data[offset + 1 : offset + 1 + length])
        offset += 1 + length
    return _text(labels)


def ip_data(ip: str) -> tuple[int, bytes]:
    """(record type, data) of an address. Raises ValueError."""
    address = ipaddress.ip_address(ip)
    return (A if address.version == 4 else AAAA), address.packed


def srv_data(port: int, target: str, *, weight: int = 100) -> bytes:
    return struct.pack(">HHH", 0, weight, port) + name_data(target)


def txt_data(text: str) -> bytes:
    raw = text.encode()[:255]
    return bytes([len(raw)]) + raw


def soa_data(zone: str, *, serial: int, minimum: int, server: str = "") -> bytes:
    """``server``: the domain whose ``ns.dns`` and ``hostmaster`` are named; the zone otherwise."""
    return (
        name_data(f"ns.dns.{server or zone}")
        + name_data(f"hostmaster.{server or zone}")
        + struct.pack(">5I", serial & 0xFFFFFFFF, 7200, 1800, 86400, minimum)
    )


def read_compressed(message: bytes, offset: int) -> tuple[str, int]:
    """(name, offset after it) of a name that may point back into the message. Raises IndexError or ValueError."""
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
            return _text(labels), end or offset + 1
    raise ValueError("a name that never ends")
