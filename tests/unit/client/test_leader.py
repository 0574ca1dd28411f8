"""At most one leader at any moment, and a new one soon after."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context

from orca.api import errors
from orca.api.builtin import LEASES
from orca.api.resources import Resource
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.client.leader import LeaderElector

WHO: ContextVar[str] = ContextVar("who")


class Member:
    def __init__(self, client: FakeClient, clock: VirtualClock, name: str, leaders: set[str]) -> None:
        self.name = name
        self.leaders = leaders
        self.clock = clock
        self.elector = LeaderElector(client, "work", name, self.lead, clock=clock)
        context = copy_context()
        context.run(WHO.set, name)
        self.task = asyncio.create_task(self.elector.run(), context=context)

    async def lead(self) -> None:
        self.leaders.add(self.name)
        assert len(self.leaders) == 1
        try:
            await self.clock.sleep(10_000)
        finally:
            self.leaders.discard(self.name)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


async def test_one_leads_and_hands_over() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    leaders: set[str] = set()
    first = Member(client, clock, "first", leaders)
    await clock.advance(1)
    second = Member(client, clock, "second", leaders)
    await clock.advance(60)
    assert leaders == {"first"}
    await first.stop()
    await clock.advance(5)
    assert leaders == {"second"}
    lease = await client.get(LEASES, "work", "kube-system")
    assert lease["spec"]["holderIdentity"] == "second"
    await second.stop()


async def test_a_leader_that_cannot_renew_steps_down_before_another_takes_over() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    leaders: set[str] = set()
    cut_off = False

    def cut(verb: str, resource: Resource, key: str, subresource: str) -> None:
        if cut_off and WHO.get() == "first":
            raise errors.service_unavailable("cut off")

    client.intercepts.append(cut)
    first = Member(client, clock, "first", leaders)
    await clock.advance(1)
    second = Member(client, clock, "second", leaders)
    await clock.advance(5)
    cut_off = True
    history = []
    for _ in range(30):
        await clock.advance(1)
        history.append("".join(leaders))
    # Nobody leads for a while: the old leader has gone before the new one comes.
    assert list(dict.fromkeys(history)) == ["first", "", "second"]
    cut_off = False
    await clock.advance(30)
    assert leaders == {"second"}
    await first.stop()
    await second.stop()
