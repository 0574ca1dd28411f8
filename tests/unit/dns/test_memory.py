"""What is remembered of answers, and for how long."""

from __future__ import annotations

from agents.dns import wire
from agents.dns.memory import LONGEST_SECONDS, Key, Memory
from tests.unit.dns.test_wire import upstream_answer


def key(name: str) -> Key:
    return (name, wire.A, False, 0)


def test_no_longer_than_it_says_and_never_longer_than_half_a_minute() -> None:
    memory = Memory()
    for name, ttl in (("short", 3), ("long", 3600), ("never", 0)):
        memory.put(key(name), upstream_answer(f"example.com {ttl} A 1.2.3.4")[1], now=100.0)
    assert memory.get(key("short"), 102.9)
    assert memory.get(key("short"), 103.0) is None
    assert memory.get(key("long"), 100.0 + LONGEST_SECONDS - 0.1)
    assert memory.get(key("long"), 100.0 + LONGEST_SECONDS) is None
    assert memory.get(key("never"), 100.0) is None
    assert (len(memory), memory.bytes) == (0, 0)


def test_ttls_run_down() -> None:
    memory = Memory()
    query, answer = upstream_answer("example.com 20 A 1.2.3.4")
    memory.put(query.key, answer, now=0.0)
    seen = [memory.get(query.key, now).to(query, udp=True)[-8:-6] for now in (0.0, 0.9, 7.0, 19.9)]  # type: ignore[union-attr]
    assert [int.from_bytes(ttl, "big") for ttl in seen] == [20, 20, 13, 1]


def test_bounded_in_number_and_bytes() -> None:
    memory = Memory(most=10, most_bytes=4000)
    answer = upstream_answer("example.com 20 A 1.2.3.4")[1]
    for number in range(50):
        memory.put(key(f"n{number}"), answer, now=0.0)
        memory.get(key("n0"), 0.0)
    assert len(memory) <= 10
    assert memory.bytes <= 4000
    assert memory.get(key("n0"), 0.0), "what is used stays"
    assert memory.evictions >= 40


def test_denials_are_told_apart() -> None:
    memory = Memory()
    soa = "example.com 3600 SOA ns.example.com root.example.com 1 2 3 4 7"
    memory.put(key("yes"), upstream_answer("example.com 20 A 1.2.3.4")[1], 0.0)
    memory.put(key("no"), upstream_answer(soa, rcode=wire.NXDOMAIN)[1], 0.0)
    assert memory.counts() == (1, 1)
