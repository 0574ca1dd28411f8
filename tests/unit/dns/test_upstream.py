"""Forwarding in virtual time: which nameserver is asked when, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import dnslib
import pytest

from agents.dns import wire
from agents.dns.nameservers import Address
from agents.dns.upstream import FIRST_LOOK, IDLE_SECONDS, ROUNDS, NoAnswer, Upstream
from agents.dns.wire import Query
from orca.client.clock import VirtualClock

ONE, TWO = Address("192.0.2.1"), Address("192.0.2.2")


def query(name: str = "example.com") -> Query:
    found = wire.parse_query(dnslib.DNSRecord.question(name).pack())
    assert found
    return found


def answer(asked: Query, *, rcode: int = 0, ttl: int = 20) -> bytes:
    made = dnslib.DNSRecord.question(asked.name or ".").reply()
    made.header.rcode = rcode
    if not rcode:
        made.add_answer(dnslib.RR(asked.name or ".", rdata=dnslib.A("192.0.2.99"), ttl=ttl))
    return made.pack()


class Outside:
    """Nameservers: silent ones take all the time they are given."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.silent: set[Address] = set()
        self.rcodes: dict[Address, int] = {}
        self.asked: list[tuple[Address, str]] = []

    async def exchange(self, server: Address, asked: Query, seconds: float) -> bytes:
        self.asked.append((server, asked.name))
        if server in self.silent:
            await self._clock.sleep(seconds)
            raise TimeoutError
        await asyncio.sleep(0)
        return answer(asked, rcode=self.rcodes.get(server, 0))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def outside(clock: VirtualClock) -> Outside:
    return Outside(clock)


@pytest.fixture
async def upstream(clock: VirtualClock, outside: Outside) -> AsyncIterator[Upstream]:
    made = Upstream(lambda name: (ONE, TWO), clock, exchange=outside.exchange, probe=False)
    yield made
    await made.close()


async def test_the_first_is_asked_and_its_answer_remembered(
    upstream: Upstream, outside: Outside, clock: VirtualClock
) -> None:
    assert upstream.remembered(query()) is None
    await upstream.ask(query())
    assert upstream.remembered(query())
    await upstream.ask(query())
    assert outside.asked == [(ONE, "example.com")]
    await clock.advance(20)
    assert upstream.remembered(query()) is None


async def test_many_who_ask_the_same_wait_for_one_answer(upstream: Upstream, outside: Outside) -> None:
    await asyncio.gather(*(upstream.ask(query()) for _ in range(50)))
    assert len(outside.asked) == 1


async def test_one_who_gives_up_does_not_take_the_answer_from_others(
    upstream: Upstream, outside: Outside, clock: VirtualClock
) -> None:
    outside.silent = {ONE}
    first, second = (asyncio.create_task(upstream.ask(query())) for _ in range(2))
    await clock.settle()
    first.cancel()
    await clock.advance(ROUNDS[0])
    assert (await second).rcode == 0


async def test_a_silent_one_is_left_out_after_two_failures_and_comes_back(
    upstream: Upstream, outside: Outside, clock: VirtualClock
) -> None:
    outside.silent = {ONE}
    for name in ("a.example", "b.example"):
        task = asyncio.create_task(upstream.ask(query(name)))
        await clock.advance(ROUNDS[0])
        assert (await task).rcode == 0
    outside.asked.clear()
    await upstream.ask(query("c.example"))
    assert outside.asked == [(TWO, "c.example")], "nobody waits for it any more"
    outside.silent = set()
    await clock.advance(FIRST_LOOK)
    outside.asked.clear()
    await upstream.ask(query("d.example"))
    assert outside.asked == [(ONE, "d.example")]


async def test_with_all_down_the_answer_comes_at_once(
    upstream: Upstream, outside: Outside, clock: VirtualClock
) -> None:
    outside.silent = {ONE, TWO}
    task = asyncio.create_task(upstream.ask(query("a.example")))
    await clock.advance(sum(ROUNDS) * 2)
    with pytest.raises(NoAnswer):
        await task
    began = clock.monotonic()
    with pytest.raises(NoAnswer):
        await upstream.ask(query("b.example"))
    assert clock.monotonic() == began


async def test_nobody_is_looked_after_for_nobody(upstream: Upstream, outside: Outside, clock: VirtualClock) -> None:
    outside.silent = {ONE, TWO}
    task = asyncio.create_task(upstream.ask(query("a.example")))
    await clock.advance(IDLE_SECONDS + 10)
    with pytest.raises(NoAnswer):
        await task
    outside.asked.clear()
    await clock.advance(300)
    assert outside.asked == []
    outside.silent = set()
    assert (await upstream.ask(query("b.example"))).rcode == 0, "it is asked again then"


async def test_an_unwilling_one_is_passed_over_and_its_refusal_given_when_all_are(
    upstream: Upstream, outside: Outside
) -> None:
    outside.rcodes = {ONE: wire.SERVFAIL}
    assert (await upstream.ask(query("a.example"))).rcode == wire.NOERROR
    outside.rcodes = {ONE: wire.SERVFAIL, TWO: wire.REFUSED}
    outside.asked.clear()
    assert (await upstream.ask(query("b.example"))).rcode == wire.SERVFAIL
    assert outside.asked == [(ONE, "b.example"), (TWO, "b.example")]
    assert upstream.remembered(query("b.example")) is None


async def test_an_answer_of_a_former_nameserver_is_not_remembered(upstream: Upstream, outside: Outside) -> None:
    asking = asyncio.create_task(upstream.ask(query()))
    while not outside.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    upstream.forget()
    await asking
    assert upstream.remembered(query()) is None
    await upstream.ask(query())
    assert upstream.remembered(query()) is not None


async def test_every_nameserver_is_asked_before_a_refusal_is_passed_on(clock: VirtualClock, outside: Outside) -> None:
    three = Address("192.0.2.3")
    upstream = Upstream(lambda _: (ONE, TWO, three), clock, exchange=outside.exchange, probe=False)
    outside.rcodes = {ONE: wire.REFUSED, TWO: wire.SERVFAIL}
    assert (await upstream.ask(query())).rcode == wire.NOERROR
    assert [server for server, _ in outside.asked] == [ONE, TWO, three]
    await upstream.close()


async def test_one_that_asks_us_in_turn_is_not_asked(clock: VirtualClock) -> None:
    upstream: Upstream
    seen: list[Address] = []

    async def exchange(server: Address, asked: Query, seconds: float) -> bytes:
        if asked.kind == wire.HINFO and server == ONE:
            assert upstream.is_own(asked.name)
        elif asked.kind != wire.HINFO:
            seen.append(server)
        return answer(asked)

    upstream = Upstream(lambda name: (ONE, TWO), clock, exchange=exchange)
    await upstream.ask(query("a.example"))
    await clock.settle()
    await upstream.ask(query("b.example"))
    assert seen[-1] == TWO
    assert not upstream.is_own("anything.else")
    await upstream.close()


async def test_without_servers_there_is_no_answer() -> None:
    with pytest.raises(NoAnswer):
        await Upstream(lambda name: (), VirtualClock()).ask(query())
