"""Messages of the nf_tables netlink protocol. Pure. Reference: linux ``include/uapi/linux/netfilter/nf_tables.h``."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agents.network.nftables.attributes import attribute, nested, number, text
from agents.network.nftables.sets import Element, SetType
from agents.network.nftables.statements import Statement

SUBSYSTEM = 10
NEWTABLE, GETTABLE, DELTABLE = 0, 1, 2
NEWCHAIN, GETCHAIN, DELCHAIN = 3, 4, 5
NEWRULE, GETRULE, DELRULE = 6, 7, 8
NEWSET, GETSET, DELSET = 9, 10, 11
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14
BATCH_BEGIN, BATCH_END = 0x10, 0x11

REQUEST, ACK, DUMP, CREATE, APPEND = 0x1, 0x4, 0x300, 0x400, 0x800

HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct(">BBH")
_MOST_IN_A_MESSAGE = 60_000
"""Bytes of elements: what a list is in must be shorter than 64 KiB."""
_DIGEST = 0xC0
"""Kind of our note in a rule's user data; nft leaves kinds it does not know alone."""


def message(kind: int, family: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message with its headers."""
    number_of_kind = kind if kind in (BATCH_BEGIN, BATCH_END) else SUBSYSTEM << 8 | kind
    resource = SUBSYSTEM if kind in (BATCH_BEGIN, BATCH_END) else 0
    head = HEADER.pack(HEADER.size + 4 + len(body), number_of_kind, REQUEST | flags, sequence, 0)
    return head + _GENERIC.pack(family, 0, resource) + body


@dataclass(frozen=True, slots=True)
class BaseChain:
    """Where packets enter a table. ``kind`` is filter or nat; ``hook`` 0 to 4: prerouting, input, forward, output,
    postrouting."""

    kind: str
    hook: int
    priority: int


HOOKS = ("prerouting", "input", "forward", "output", "postrouting")


def digest(statements: Sequence[Statement]) -> bytes:
    """What tells a rule from another in the kernel, where its code comes back in other words than it was written."""
    return hashlib.sha256(" ".join(each.text for each in statements).encode()).digest()[:12]


Rule = tuple[Statement, ...]


class Batch:
    """One transaction on one table: all of it or nothing. Order matters: what is referred to comes first."""

    def __init__(self, family: int, table: str) -> None:
        """``family``: AF_INET, AF_INET6 or NFPROTO_INET."""
        self.family = family
        self.table = table
        self.count = 0
        """How many things it writes or deletes."""
        self._messages: list[tuple[int, int, bytes]] = []
        self._sets = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add_table(self) -> None:
        """No error when it exists."""
        self._add(NEWTABLE, CREATE, text(1, self.table))

    def delete_table(self) -> None:
        """With all that is in it."""
        self._add(DELTABLE, 0, text(1, self.table))

    def add_chain(self, name: str, base: BaseChain | None = None) -> None:
        body = text(1, self.table) + text(3, name)
        if base is not None:
            hook = number(1, base.hook) + number(2, base.priority)
            body += nested(4, hook) + number(5, 1) + text(7, base.kind)
        self._add(NEWCHAIN, CREATE, body)

    def flush_chain(self, name: str) -> None:
        """Delete its rules."""
        self._add(DELRULE, 0, text(1, self.table) + text(2, name))

    def delete_chain(self, name: str) -> None:
        """It must be empty, and nothing may lead to it."""
        self._add(DELCHAIN, 0, text(1, self.table) + text(3, name))

    def add_rule(self, chain: str, rule: Rule) -> None:
        note = digest(rule)
        code = b"".join(statement.code for statement in rule)
        body = text(1, self.table) + text(2, chain) + nested(4, code) + attribute(7, bytes((_DIGEST, len(note))) + note)
        self._add(NEWRULE, CREATE | APPEND, body)

    def add_set(self, name: str, kind: SetType) -> None:
        self._sets += 1
        self._add(NEWSET, CREATE, text(1, self.table) + text(2, name) + kind.code + number(10, self._sets))

    def delete_set(self, name: str) -> None:
        self._add(DELSET, 0, text(1, self.table) + text(2, name))

    def add_elements(self, name: str, elements: Iterable[Element]) -> None:
        """An element that is there already must be the same."""
        self._elements(NEWSETELEM, CREATE, name, (each.code for each in elements))

    def delete_elements(self, name: str, elements: Iterable[Element]) -> None:
        """All of them must be there."""
        self._elements(DELSETELEM, 0, name, (each.key_code for each in elements))

    def messages(self, first_sequence: int, *, commit: bool = True) -> tuple[bytes, int]:
        """The bytes to send and the sequence number of the last message that is acknowledged. Without ``commit`` the
        kernel judges everything and forgets it."""
        sequence = first_sequence
        parts = [message(BATCH_BEGIN, 0, 0, sequence, b"")]
        last = len(self._messages) - 1
        for position, (kind, flags, body) in enumerate(self._messages):
            sequence += 1
            parts.append(message(kind, self.family, flags | (ACK if position == last else 0), sequence, body))
        if commit:
            parts.append(message(BATCH_END, 0, 0, sequence + 1, b""))
        return b"".join(parts), sequence

    def _add(self, kind: int, flags: int, body: bytes, count: int = 1) -> None:
        self._messages.append((kind, flags, body))
        self.count += count

    def _elements(self, kind: int, flags: int, name: str, codes: Iterator[bytes]) -> None:
        head = text(1, self.table) + text(2, name)
        parts: list[bytes] = []
        size = 0
        for code in codes:
            if size + len(code) > _MOST_IN_A_MESSAGE:
                self._add(kind, flags, head + nested(3, *parts), len(parts))
                parts, size = [], 0
            parts.append(code)
            size += len(code)
        if parts:
            self._add(kind, flags, head + nested(3, *parts), len(parts))


def digest_of(rule: Mapping[int, bytes]) -> bytes:
    """The note of ours in a rule of a dump, b"" when somebody else has written it."""
    data = rule.get(7, b"")
    return data[2:] if len(data) > 2 and data[0] == _DIGEST else b""
