"""Messages as bytes: what comes in may be anything."""

from __future__ import annotations

import contextlib

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.dns import wire
from agents.dns.upstream import aged, lifetime


def test_edns_is_answered_with_edns() -> None:
    question = dnslib.DNSRecord.question("a.b")
    question.add_ar(dnslib.EDNS0(udp_len=4096, flags="do"))
    query = wire.parse_query(question.pack())
    assert query
    assert (query.edns, query.size, query.dnssec) == (True, wire.UDP_SIZE, True)
    answer = dnslib.DNSRecord.parse(wire.pack(query, wire.Answer(wire.NXDOMAIN)))
    assert [rr.rtype for rr in answer.ar] == [wire.OPT]


def test_spelling_and_identity_are_the_askers() -> None:
    first = wire.parse_query(dnslib.DNSRecord.question("Web.Example").pack())
    second_message = dnslib.DNSRecord.question("wEB.eXAMPLE").pack()
    second = wire.parse_query(second_message)
    assert first
    assert second
    assert first.key == second.key
    packed = wire.pack(first, wire.Answer(answers=(wire.Record("web.example", wire.A, 5, b"\1\2\3\4"),)))
    answer = dnslib.DNSRecord.parse(wire.address_to(second, packed, udp=True))
    assert answer.header.id == second.identity
    assert str(answer.q.qname) == "wEB.eXAMPLE."
    assert str(answer.rr[0].rname) == "wEB.eXAMPLE."


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (b"\x00\x07\x10\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01", wire.NOTIMP),
        (b"\x00\x07\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", wire.FORMERR),
        (b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x3fabc", wire.FORMERR),
        (b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01", wire.FORMERR),
        (b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x03", wire.REFUSED),
    ],
)
def test_bad_queries_are_told_so(message: bytes, rcode: int) -> None:
    with pytest.raises(wire.BadQuery) as caught:
        wire.parse_query(message)
    assert (caught.value.identity, caught.value.rcode) == (7, rcode)
    assert dnslib.DNSRecord.parse(wire.refusal(7, rcode)).header.rcode == rcode


def test_answers_are_not_answered() -> None:
    assert wire.parse_query(b"\x00\x07\x81\x00\x00\x01" + b"\0" * 6) is None
    assert wire.parse_query(b"short") is None


@given(st.binary(max_size=200))
def test_garbage_never_breaks_the_parser(message: bytes) -> None:
    with contextlib.suppress(wire.BadQuery):
        wire.parse_query(message)
    wire.answer_records(message.ljust(12, b"\0"), 0)
    lifetime(message.ljust(12, b"\0"), 0)


def test_lifetime_is_the_shortest_ttl_and_runs_down() -> None:
    reply = dnslib.DNSRecord.question("example.com").reply()
    reply.add_answer(*dnslib.RR.fromZone("example.com 60 CNAME www.example.com\nwww.example.com 20 A 1.2.3.4"))
    message, question = reply.pack(), len(b"\x07example\x03com\x00") + 4
    assert lifetime(message, question) == 20
    assert [rr.ttl for rr in dnslib.DNSRecord.parse(aged(message, 15, question)).rr] == [45, 5]


def test_negative_answers_live_as_their_soa_says() -> None:
    reply = dnslib.DNSRecord.question("nope.example.com").reply()
    reply.header.rcode = wire.NXDOMAIN
    reply.add_auth(*dnslib.RR.fromZone("example.com 3600 SOA ns.example.com root.example.com 1 2 3 4 7"))
    assert lifetime(reply.pack(), len(b"\x04nope\x07example\x03com\x00") + 4) == 7
    reply.header.rcode = wire.SERVFAIL
    assert lifetime(reply.pack(), len(b"\x04nope\x07example\x03com\x00") + 4) == 0


@pytest.mark.parametrize("name", ["a..b", "a" * 64, ".".join(["abcdefgh"] * 40), "."])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="DNS name"):
        wire.name_data(name)
