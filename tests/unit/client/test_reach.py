"""A server that comes back is noticed by all at once, and meanwhile only one knocks."""

from __future__ import annotations

import asyncio

from orca.api.builtin import CONFIGMAPS, PODS, SECRETS, SERVICES
from orca.api.resources import Resource
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from orca.client.late import LateClient
from orca.client.reach import LAST_PAUSE, UNHEARD_SECONDS, Reach, Unreachable

KINDS = (CONFIGMAPS, PODS, SECRETS, SERVICES)


async def test_all_come_back_with_the_first_and_few_knock_meanwhile() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    knocks: list[float] = []
    away = True

    def refuse(verb: str, resource: Resource, key: str, subresource: str) -> None:
        if away:
            knocks.append(clock.monotonic())
            raise Unreachable("nobody is there")
        client.reach.heard()

    client.intercepts.append(refuse)
    informers = [Informer(client, kind, clock=clock) for kind in KINDS]
    tasks = [asyncio.create_task(one.run()) for one in informers]
    await clock.advance(60)
    lately = [at for at in knocks if at > 30]
    # One tries for all, and each of the others by itself every now and then.
    assert len(lately) <= 30 / (LAST_PAUSE * 0.7) + len(KINDS) * (30 / UNHEARD_SECONDS + 1)
    away = False
    await clock.advance(LAST_PAUSE * 1.3 + 0.1)
    assert all(one.is_synced for one in informers)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_others_do_not_depend_on_the_one_that_tries() -> None:
    clock = VirtualClock()
    reach = Reach()
    first = asyncio.create_task(reach.again(clock))
    await clock.settle()
    second = asyncio.create_task(reach.again(clock))
    await clock.settle()
    first.cancel()
    await clock.advance(UNHEARD_SECONDS + 1)
    assert second.done()
    # Whoever comes then is the one that tries.
    third = asyncio.create_task(reach.again(clock))
    await clock.advance(LAST_PAUSE * 1.3)
    assert third.done()


async def test_what_waits_for_a_cluster_goes_on_when_it_is_joined() -> None:
    clock = VirtualClock()
    late, client = LateClient(), FakeClient(clock=clock)
    informers = [Informer(late, kind, clock=clock) for kind in KINDS]
    tasks = [asyncio.create_task(one.run()) for one in informers]
    await clock.advance(20)
    late.use(client)
    await clock.advance(LAST_PAUSE * 1.3 + 0.1)
    assert all(one.is_synced for one in informers)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
