"""Somebody else's answer, read so far that it can be remembered and passed on. Pure.

What is kept is the message without its header, question and OPT: these are made anew for every client. Pointers in it
stay right, since the question has the same length for all who ask.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from agents.dns import wire
from agents.dns.reply import Reply
from agents.dns.wire import Query, Record

NO_TTL_SECONDS = 1.0
"""How long an answer is remembered that says nothing about it (RFC 2308 wants it for as long as the question takes)."""
_PASSED_ON = wire.RESPONSE | wire.AUTHENTIC | 15
_TARGET_AT = {wire.NS: 0, wire.CNAME: 0, wire.PTR: 0, wire.MX: 2}
_WHOLE = frozenset({wire.A, wire.AAAA, wire.TXT, wire.SRV})


@dataclass(frozen=True, slots=True)
class Received:
    """``ttls`` are offsets into ``body``; records from ``loose_from`` to ``answers_end`` (``loose_size`` each) are
    addresses that may change places."""

    flags: int
    body: bytes
    counts: tuple[int, int, int]
    ttls: tuple[int, ...]
    loose_from: int
    loose_size: int
    answers_end: int
    lifetime: float
    """Seconds for which it may be remembered."""

    @property
    def rcode(self) -> int:
        return self.flags & 15

    def aged(self, seconds: int) -> Received:
        """The same after so many seconds: TTLs have run down."""
        if seconds <= 0:
            return self
        body = bytearray(self.body)
        for offset in self.ttls:
            struct.pack_into(">I", body, offset, max(struct.unpack_from(">I", body, offset)[0] - seconds, 0))
        return replace(self, body=bytes(body))

    def reply(self) -> Reply:
        """What to say to clients."""
        body, size = self.body, self.loose_size
        loose = tuple(body[at : at + size] for at in range(self.loose_from, self.answers_end, size)) if size else ()
        answers, authority, additional = self.counts
        return Reply(
            self.flags | wire.RECURSION_AVAILABLE,
            body[: self.loose_from],
            answers - len(loose),
            loose,
            body[self.answers_end :],
            authority,
            additional,
        )


def fits(message: bytes, identity: int, query: Query) -> bool:
    """Whether a message answers this question."""
    return (
        len(message) >= 12 + len(query.wire)
        and message[:2] == struct.pack(">H", identity)
        and bool(message[2] & 0x80)
        and message[4:6] == b"\0\1"
        and message[12 : 12 + len(query.wire)].lower() == query.wire.lower()
    )


def is_truncated(message: bytes) -> bool:
    return len(message) >= 4 and bool(message[2] & 0x02)


def read(message: bytes, question: int) -> Received:
    """Reads an answer that `fits`; ``question`` is the length of its question. Raises ValueError for nonsense."""
    start = 12 + question
    _, flags, _, *sections = wire.HEADER.unpack_from(message)
    kept = [0, 0, 0]
    ttls: list[int] = []
    lifetimes: list[int] = []
    offset, end, answers_end = start, start, start
    loose_from, loose_size, loose_kind = start, 0, 0
    try:
        for section, count in enumerate(sections):
            for _ in range(count):
                begin = offset
                offset = wire.skip_name(message, offset)
                owner = offset - begin
                kind, _, ttl, size = struct.unpack_from(">HHIH", message, offset)
                ttl_at, data, offset = offset + 4, offset + 10, offset + 10 + size
                if offset > len(message):
                    raise ValueError("a record ends after the message")
                if kind == wire.OPT:
                    if ttl >> 24:
                        raise ValueError("an extended error")
                    return _made(flags, message[start:end], kept, ttls, lifetimes, loose_from - start, loose_size,
                                 answers_end - start)  # fmt: skip
                if section == 0:
                    answers_end = offset
                    movable = kind in (wire.A, wire.AAAA) and owner == 2
                    if not movable or (loose_size and (kind, offset - begin) != (loose_kind, loose_size)):
                        loose_from, loose_size = offset, 0
                    elif not loose_size:
                        loose_from, loose_size, loose_kind = begin, offset - begin, kind
                if kind == wire.SOA and size >= 20:
                    ttl = min(ttl, struct.unpack_from(">I", message, data + size - 4)[0])
                kept[section] += 1
                ttls.append(ttl_at - start)
                lifetimes.append(ttl)
                end = offset
    except (IndexError, struct.error) as error:
        raise ValueError("the message ends too early") from error
    return _made(flags, message[start:end], kept, ttls, lifetimes, loose_from - start, loose_size, answers_end - start)


def _made(
    flags: int,
    body: bytes,
    kept: list[int],
    ttls: list[int],
    lifetimes: list[int],
    loose_from: int,
    loose_size: int,
    answers_end: int,
) -> Received:
    lifetime = 0.0
    if flags & 15 in (wire.NOERROR, wire.NXDOMAIN) and not flags & wire.TRUNCATED:
        lifetime = float(min(lifetimes)) if lifetimes else NO_TTL_SECONDS
    counts = (kept[0], kept[1], kept[2])
    if not loose_size:
        loose_from = answers_end
    return Received(flags & _PASSED_ON, body, counts, tuple(ttls), loose_from, loose_size, answers_end, lifetime)


def answers(received: Received, query: Query) -> tuple[Record, ...]:
    """The answer section with its names written out, to be put into another message."""
    head = b"\0" * 12 + query.wire
    message = head + received.body
    offset, found = len(head), []
    try:
        for _ in range(received.counts[0]):
            owner, offset = wire.read_compressed(message, offset)
            kind, _, ttl, size = struct.unpack_from(">HHIH", message, offset)
            offset += 10
            data = message[offset : offset + size]
            if kind in _TARGET_AT:
                skip = _TARGET_AT[kind]
                data = data[:skip] + wire.name_data(wire.read_compressed(message, offset + skip)[0])
            if kind in _TARGET_AT or kind in _WHOLE or kind > wire.OPT:
                found.append(Record(owner, kind, ttl, data))
            offset += size
    except (IndexError, struct.error, ValueError):
        pass
    return tuple(found)
