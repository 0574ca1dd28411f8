"""Questions that come again byte for byte but for their identity, as those of resolvers do: answered without reading
them. What is counted is added up when somebody asks."""

from __future__ import annotations

import time
from dataclasses import dataclass

from agents.dns.memory import Key
from agents.dns.reply import Reply
from agents.dns.tally import Tally
from agents.dns.wire import Query, told_apart

MOST = 4_000
LONGEST = 320
"""Bytes of a message that is worth a place: the longest name, and options as resolvers send them."""


@dataclass(slots=True)
class _Known:
    query: Query
    reply: Reply
    plugin: str
    length: int
    """Of the question."""
    tail: bytes
    """The answer after its identity; b"" when it is another one each time."""
    hits: int = 0


class QuickAnswers:
    """Of one socket for datagrams; ``family`` as metrics call it."""

    def __init__(self, tally: Tally, family: str, *, most: int = MOST) -> None:
        self._tally = tally
        self._family = family
        self._most = most
        self._known: dict[bytes, _Known] = {}
        self._messages: dict[Key, list[bytes]] = {}

    def answer(self, message: bytes) -> bytes | None:
        """The answer to a message, when it is known."""
        known = self._known.get(message[2:])
        if known is None:
            return None
        began = time.perf_counter()
        known.hits += 1
        tail = known.tail or known.reply.to(known.query, udp=True)[2:]
        self._tally.seconds.add(time.perf_counter() - began)
        return message[:2] + tail

    def learn(self, message: bytes, query: Query, reply: Reply, plugin: str) -> None:
        """From now on, until `forget`. Names in odd spellings come once each and are not worth a place; nor are long
        messages: padding would take as much memory as somebody likes."""
        if len(message) > LONGEST or not query.wire.islower():
            return
        if len(self._known) >= self._most:
            self._clear()
        tail = b"" if len(reply.loose) > 1 else reply.to(query, udp=True)[2:]
        self._known[message[2:]] = _Known(query, reply, plugin, len(message), tail)
        self._messages.setdefault(query.key, []).append(message[2:])

    def forget(self, question: Key) -> None:
        """Its answer may be another one now."""
        for message in self._messages.pop(question, ()):
            known = self._known.pop(message, None)
            if known is not None:
                self._count(known)

    def add_up(self) -> None:
        """Put what was counted into the tally."""
        for known in self._known.values():
            self._count(known)

    def _clear(self) -> None:
        self.add_up()
        self._known.clear()
        self._messages.clear()

    def _count(self, known: _Known) -> None:
        hits, known.hits = known.hits, 0
        if hits:
            query, tally = known.query, self._tally
            tally.requests["udp", self._family, told_apart(query.kind)] += hits
            tally.responses[known.plugin, known.reply.rcode] += hits
            tally.dnssec += hits * query.dnssec
            tally.request_sizes["udp"].add(known.length, hits)
            tally.response_sizes["udp"].add(len(known.tail or known.reply.to(query, udp=True)[2:]) + 2, hits)
