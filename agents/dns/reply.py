"""An answer as bytes, packed once and then said to any number of clients. Pure but for the order of addresses.

A `Reply` keeps its first records apart, so that several addresses come in another order each time, and an answer that
is too long for UDP is cut after as many whole records as fit: resolvers that do not come again over TCP have some then.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from agents.dns import wire
from agents.dns.wire import Answer, Query, Record

SHUFFLED = 32
"""Up to so many records are shuffled each time; more are shuffled once and then begin somewhere else each time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message without identity, question and OPT.

    ``fixed`` are the bytes of the first records of the answer section, which stay in their order (CNAMEs), ``loose``
    those of the others, which may change places; ``rest`` is authority and additional. ``flags``: QR, AA, RA, AD and
    rcode.
    """

    flags: int
    fixed: bytes = b""
    fixed_count: int = 0
    loose: tuple[bytes, ...] = ()
    rest: bytes = b""
    authority: int = 0
    additional: int = 0

    @property
    def rcode(self) -> int:
        return self.flags & 15

    def __len__(self) -> int:
        """Without header, question and OPT."""
        return len(self.fixed) + sum(map(len, self.loose)) + len(self.rest)

    def to(self, query: Query, *, udp: bool) -> bytes:
        """For this very client: its identity, its spelling of the question, its size limit."""
        loose = self._in_some_order()
        opt = wire.opt_record(dnssec=query.dnssec) if query.edns else b""
        flags = self.flags | query.flags & (wire.RECURSION_DESIRED | wire.CHECKING_DISABLED)
        room = (query.size if udp else 0xFFFF) - 12 - len(query.wire) - len(opt)
        if len(self) > room:
            return self._cut(query, flags, loose, room, opt)
        counts = (self.fixed_count + len(loose), self.authority, self.additional + bool(opt))
        head = wire.HEADER.pack(query.identity, flags, 1, *counts)
        return b"".join((head, query.wire, self.fixed, *loose, self.rest, opt))

    def _in_some_order(self) -> Sequence[bytes]:
        loose = self.loose
        if len(loose) < 2:
            return loose
        if len(loose) <= SHUFFLED:
            return random.sample(loose, len(loose))
        start = random.randrange(len(loose))
        return loose[start:] + loose[:start]

    def _cut(self, query: Query, flags: int, loose: Sequence[bytes], room: int, opt: bytes) -> bytes:
        """Without additional records nothing is missing that was asked for; short of an answer it says TC."""
        room -= len(self.fixed)
        answers = [] if room < 0 else [self.fixed]
        count = self.fixed_count if room >= 0 else 0
        for record in loose:
            room -= len(record)
            if room < 0:
                flags |= wire.TRUNCATED
                break
            answers.append(record)
            count += 1
        if self.authority or not answers:
            flags |= wire.TRUNCATED
        head = wire.HEADER.pack(query.identity, flags, 1, count, 0, bool(opt))
        return b"".join((head, query.wire, *answers, opt))


def pack(query: Query, answer: Answer) -> Reply:
    """An answer of ours. What it says of names points into the question, which has the same length for all who ask."""
    flags = wire.RESPONSE | wire.RECURSION_AVAILABLE | answer.rcode
    flags |= wire.AUTHORITATIVE if answer.authoritative else 0
    names = _Names(query)
    chain = [record for record in answer.answers if record.kind == wire.CNAME]
    others = [record for record in answer.answers if record.kind != wire.CNAME]
    random.shuffle(others)
    fixed = b"".join([names.record(record, base=True) for record in chain])
    # Places of records that move are nothing to point at.
    loose = tuple(names.record(record) for record in others)
    rest = b"".join(names.record(record) for record in (*answer.authority, *answer.additional))
    return Reply(flags, fixed, len(chain), loose, rest, len(answer.authority), len(answer.additional))


def failure(rcode: int = wire.SERVFAIL) -> Reply:
    """No answer, and nobody's authority."""
    return Reply(wire.RESPONSE | wire.RECURSION_AVAILABLE | rcode)


class _Names:
    """Where in the message a name, or the end of one, stands already."""

    def __init__(self, query: Query) -> None:
        self._at: dict[str, int] = {}
        self._offset = 12 + len(query.wire)
        self._learn(query.wire, 12)

    def _learn(self, data: bytes, offset: int) -> None:
        """``data`` begins with a name, which stands at ``offset``."""
        place = 0
        while data[place] and offset + place < 0x4000:
            self._at.setdefault(wire.name_text(data, place), offset + place)
            place += 1 + data[place]

    def record(self, record: Record, *, base: bool = False) -> bytes:
        """``base``: it comes next in the message, so what it names may be pointed at from now on."""
        owner = self._owner(record.name)
        if base and record.kind == wire.CNAME:
            self._learn(record.data, self._offset + len(owner) + 10)
            self._offset += len(owner) + 10 + len(record.data)
        return owner + struct.pack(">HHIH", record.kind, wire.IN, record.ttl, len(record.data)) + record.data

    def _owner(self, name: str) -> bytes:
        head, rest = b"", name
        while rest:
            offset = self._at.get(rest)
            if offset is not None:
                return head + struct.pack(">H", 0xC000 | offset)
            label, _, rest = rest.partition(".")
            head += wire.name_data(label)[:-1]
        return head + b"\0"
