"""The heartbeat: the Lease of a node, in virtual time."""

from __future__ import annotations

import asyncio

from agents.node.lease import LeaseHeart
from orca.api import errors
from orca.api.builtin import LEASES, NODES
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient


async def test_the_lease_is_renewed_every_ten_seconds_whatever_happens_to_it() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    node = client.seed(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "host-1"}})
    running = asyncio.create_task(LeaseHeart(client, "host-1", clock=clock).run())
    await clock.advance(25)

    def lease() -> Obj:
        return client.objects(LEASES)[0]

    assert lease()["spec"]["renewTime"] == "2026-01-01T00:00:20.000000Z"
    assert lease()["spec"]["leaseDurationSeconds"] == 40
    assert lease()["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
    await client.delete(LEASES, "host-1", "kube-node-lease")
    await clock.advance(10)
    assert lease()["spec"]["renewTime"] > "2026-01-01T00:00:29"
    outage = [True]

    def fail(verb: str, *rest: object) -> None:
        if outage:
            raise errors.service_unavailable("down")

    client.intercepts.append(fail)
    await clock.advance(30)
    outage.clear()
    await clock.advance(1.5)
    assert lease()["spec"]["renewTime"] > "2026-01-01T00:01:04"
    running.cancel()


async def test_a_host_that_announces_renews_its_lease_every_two_seconds() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    heart = LeaseHeart(client, "host-1", clock=clock)
    running = asyncio.create_task(heart.run())

    async def beats_within(seconds: int) -> int:
        found = set()
        for _ in range(seconds * 10):
            await clock.advance(0.1)
            found.add((await client.get(LEASES, "host-1", "kube-node-lease"))["spec"]["renewTime"])
        return len(found) - 1

    await clock.advance(5)
    heart.hurry(True)
    assert 4 <= await beats_within(10) <= 6
    assert heart.silent_seconds <= 2
    heart.hurry(False)
    await clock.advance(2)
    assert await beats_within(20) == 2
    running.cancel()
