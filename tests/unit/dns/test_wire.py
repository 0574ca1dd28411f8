"""Messages as bytes: what comes in may be anything."""

from __future__ import annotations

import contextlib
import struct

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.dns import received, reply, wire

HEADER = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
QUESTION = b"\x01a\x00\x00\x01\x00\x01"


def opt(size: int = 1232, flags: int = 0, options: bytes = b"") -> bytes:
    return b"\0" + struct.pack(">HHIH", wire.OPT, size, flags, len(options)) + options


def with_additional(*records: bytes) -> bytes:
    return HEADER[:10] + struct.pack(">H", len(records)) + QUESTION + b"".join(records)


def test_edns_is_answered_with_edns() -> None:
    question = dnslib.DNSRecord.question("a.b")
    question.add_ar(dnslib.EDNS0(udp_len=4096, flags="do"))
    query = wire.parse_query(question.pack())
    assert query
    assert (query.edns, query.size, query.dnssec) == (True, wire.UDP_SIZE, True)
    answer = dnslib.DNSRecord.parse(reply.pack(query, wire.Answer(wire.NXDOMAIN)).to(query, udp=True))
    assert [rr.rtype for rr in answer.ar] == [wire.OPT]


@pytest.mark.parametrize(("said", "meant"), [(0, 512), (512, 512), (600, 600), (4096, wire.UDP_SIZE)])
def test_sizes_that_clients_take(said: int, meant: int) -> None:
    query = wire.parse_query(with_additional(opt(said)))
    assert query
    assert query.size == meant


def test_unknown_options_and_other_records_do_no_harm() -> None:
    cookie = struct.pack(">HH", 10, 8) + b"12345678"
    other = b"\x01x\0" + struct.pack(">HHIH", 250, 255, 0, 3) + b"abc"
    query = wire.parse_query(with_additional(other, opt(options=cookie)))
    assert query
    assert query.edns
    assert query.wire == QUESTION


def test_spelling_and_identity_are_the_askers() -> None:
    first = wire.parse_query(dnslib.DNSRecord.question("Web.Example").pack())
    second = wire.parse_query(dnslib.DNSRecord.question("wEB.eXAMPLE").pack())
    assert first
    assert second
    assert first.key == second.key
    packed = reply.pack(first, wire.Answer(answers=(wire.Record("web.example", wire.A, 5, b"\1\2\3\4"),)))
    answer = dnslib.DNSRecord.parse(packed.to(second, udp=True))
    assert answer.header.id == second.identity
    assert str(answer.q.qname) == "wEB.eXAMPLE."
    assert str(answer.rr[0].rname) == "wEB.eXAMPLE."


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (b"\x00\x07\x10\x00\x00\x01\x00\x00\x00\x00\x00\x00" + QUESTION, wire.NOTIMP),
        (b"\x00\x07\x28\x00\x00\x01\x00\x00\x00\x00\x00\x00" + QUESTION, wire.NOTIMP),
        (b"\x00\x07\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", wire.FORMERR),
        (b"\x00\x07\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00" + QUESTION * 2, wire.FORMERR),
        (HEADER + b"\x3fabc", wire.FORMERR),
        (HEADER + b"\xc0\x0c\x00\x01\x00\x01", wire.FORMERR),
        (HEADER + b"\x3fabc" * 80 + b"\0\0\1\0\1", wire.FORMERR),
        (HEADER + b"\x01a\x00\x00\x01\x00\x03", wire.REFUSED),
        (HEADER + b"\x01a\x00\x00\x01\x00\xff", wire.REFUSED),
        (with_additional(opt(), opt()), wire.FORMERR),
        (with_additional(opt(flags=1 << 16)), wire.BADVERS),
        (with_additional(opt(options=b"abc")[:-2]), wire.FORMERR),
        (with_additional(), None),
    ],
)
def test_bad_queries_are_told_so(message: bytes, rcode: int | None) -> None:
    if rcode is None:
        assert wire.parse_query(message)
        return
    with pytest.raises(wire.BadQuery) as caught:
        wire.parse_query(message)
    assert caught.value.rcode == rcode
    said = dnslib.DNSRecord.parse(caught.value.message)
    assert (said.header.id, said.header.qr) == (7, 1)
    assert said.header.rcode | (said.ar[0].ttl >> 24 << 4 if said.ar else 0) == rcode


def test_answers_are_not_answered() -> None:
    assert wire.parse_query(b"\x00\x07\x81\x00\x00\x01" + b"\0" * 6) is None
    assert wire.parse_query(b"short") is None


@given(st.binary(max_size=200))
def test_garbage_never_breaks_the_parser(message: bytes) -> None:
    for text in (message, HEADER + message, HEADER[:11] + b"\2" + message):
        with contextlib.suppress(wire.BadQuery):
            wire.parse_query(text)


@given(st.binary(max_size=200), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_garbage_of_nameservers_is_no_answer(garbage: bytes, counts: list[int]) -> None:
    message = HEADER[:6] + struct.pack(">3H", *counts) + QUESTION + garbage
    query = wire.parse_query(HEADER + QUESTION)
    assert query
    with contextlib.suppress(ValueError):
        found = received.read(message, len(QUESTION))
        received.answers(found, query)
        found.aged(5).reply().to(query, udp=True)


def upstream_answer(text: str, *, rcode: int = 0, edns: bool = True) -> tuple[wire.Query, received.Received]:
    question = dnslib.DNSRecord.question("example.com")
    answer = question.reply()
    answer.header.rcode = rcode
    answer.add_answer(*(dnslib.RR.fromZone(text) if rcode == 0 else ()))
    answer.add_auth(*(dnslib.RR.fromZone(text) if rcode else ()))
    if edns:
        answer.add_ar(dnslib.EDNS0(udp_len=4096))
    query = wire.parse_query(question.pack())
    assert query
    return query, received.read(answer.pack(), len(query.wire))


def test_lifetime_is_the_shortest_ttl_and_runs_down() -> None:
    query, found = upstream_answer("example.com 60 CNAME www.example.com\nwww.example.com 20 A 1.2.3.4")
    assert found.lifetime == 20
    answer = dnslib.DNSRecord.parse(found.aged(15).reply().to(query, udp=True))
    assert [rr.ttl for rr in answer.rr] == [45, 5]
    assert answer.ar == [], "the client has not sent an OPT, so it gets none"
    assert [str(rr.rdata) for rr in answer.rr] == ["www.example.com.", "1.2.3.4"]


def test_addresses_of_the_outside_change_places_after_their_alias() -> None:
    query, found = upstream_answer(
        "example.com 60 CNAME www.example.com\n" + "\n".join(f"www.example.com 20 A 1.2.3.{i}" for i in range(9))
    )
    seen = [dnslib.DNSRecord.parse(found.reply().to(query, udp=True)).rr for _ in range(40)]
    assert {str(rr[0].rdata) for rr in seen} == {"www.example.com."}
    assert len({str(rr[1].rdata) for rr in seen}) > 3
    assert {str(each.rname) for rr in seen for each in rr[1:]} == {"www.example.com."}


def test_what_an_alias_leads_to_is_written_out() -> None:
    query, found = upstream_answer("example.com 60 CNAME www.example.com\nwww.example.com 20 A 1.2.3.4")
    records = received.answers(found, query)
    assert [(r.name, r.kind, r.ttl) for r in records] == [("example.com", 5, 60), ("www.example.com", 1, 20)]
    assert wire.name_text(records[0].data) == "www.example.com"


def test_negative_answers_live_as_their_soa_says() -> None:
    soa = "example.com 3600 SOA ns.example.com root.example.com 1 2 3 4 7"
    assert upstream_answer(soa, rcode=wire.NXDOMAIN)[1].lifetime == 7
    assert upstream_answer(soa, rcode=wire.SERVFAIL)[1].lifetime == 0


@pytest.mark.parametrize("name", ["a..b", "a" * 64, ".".join(["abcdefgh"] * 40), "."])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="DNS name"):
        wire.name_data(name)
