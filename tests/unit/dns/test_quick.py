"""What is kept of questions stays small, whatever clients send."""

from __future__ import annotations

import struct

from agents.dns import quick, wire
from agents.dns.quick import QuickAnswers
from agents.dns.reply import failure
from agents.dns.tally import Tally


def question(padding: int) -> bytes:
    option = struct.pack(">HH", 12, padding) + b"x" * padding
    opt = b"\0" + struct.pack(">HHIH", wire.OPT, 1232, 0, len(option)) + option
    return wire.HEADER.pack(7, 0, 1, 0, 0, 1) + wire.name_data("web.default") + struct.pack(">HH", wire.A, 1) + opt


def test_long_messages_get_no_place() -> None:
    answers = QuickAnswers(Tally(), "1")
    for padding, kept in ((20, True), (quick.LONGEST, False), (60_000, False)):
        message = question(padding)
        query = wire.parse_query(message)
        assert query is not None
        answers.learn(message, query, failure(), "kubernetes")
        assert (answers.answer(message) is not None) is kept


def test_types_that_nobody_knows_are_counted_together() -> None:
    assert {wire.told_apart(kind) for kind in range(1 << 16)} == {0, *wire.KINDS}
