"""The scheduler against the fake API, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orca.api import errors
from orca.api.builtin import EVENTS, NODES, PODS, REPLICASETS
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.scheduler import Scheduler
from tests.unit.scheduler.things import node, pod


def setup(*nodes: Obj) -> tuple[FakeClient, VirtualClock, Scheduler]:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    for one in nodes:
        client.seed(NODES, one)
    return client, clock, Scheduler(client, clock=clock)


@asynccontextmanager
async def running(scheduler: Scheduler, clock: VirtualClock) -> AsyncIterator[None]:
    task = asyncio.create_task(scheduler.run())
    await clock.advance(0.1)
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait({task})


def placed(client: FakeClient) -> dict[str, str]:
    return {one["metadata"]["name"]: one["spec"].get("nodeName", "") for one in client.objects(PODS)}


def events(client: FakeClient, reason: str) -> list[str]:
    return [one["message"] for one in client.objects(EVENTS) if one["reason"] == reason]


async def test_pods_are_bound_and_told() -> None:
    client, clock, scheduler = setup(node("a"), node("b"))
    client.seed(PODS, pod("early"))
    async with running(scheduler, clock):
        await client.create(PODS, pod("late"))
        await clock.advance(1)
        assert sorted(placed(client).values()) == ["a", "b"]
        assert f"Successfully assigned default/early to {placed(client)['early']}" in events(client, "Scheduled")
        assert scheduler.explain("default/late") is not None


async def test_replicas_of_a_replicaset_spread() -> None:
    client, clock, scheduler = setup(node("a"), node("b"), node("c"))
    selector = {"matchLabels": {"app": "web"}}
    spec = {"replicas": 6, "selector": selector}
    owner = client.seed(
        REPLICASETS, {"kind": "ReplicaSet", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    )
    client.seed(PODS, pod("busy", cpu="1", labels={}, nodeName="a"))
    async with running(scheduler, clock):
        for number in range(6):
            wanted = pod(f"web-{number}", cpu="10m")
            reference = {"kind": "ReplicaSet", "name": "web", "uid": owner["metadata"]["uid"], "controller": True}
            wanted["metadata"]["ownerReferences"] = [reference]
            await client.create(PODS, wanted)
        await clock.advance(1)
        counts = Counter(where for name, where in placed(client).items() if name != "busy")
        assert counts == {"a": 2, "b": 2, "c": 2}


async def test_a_pod_that_fits_nowhere_waits_for_what_helps() -> None:
    client, clock, scheduler = setup(node("a", cpu="1"))
    async with running(scheduler, clock):
        await client.create(PODS, pod("first", cpu="800m"))
        await client.create(PODS, pod("second", cpu="800m"))
        await clock.advance(2)
        waiting = next(name for name, where in placed(client).items() if not where)
        (message,) = events(client, "FailedScheduling")
        assert message == (
            "0/1 nodes are available: 1 Insufficient cpu. "
            "no new claims to deallocate, preemption: 0/1 nodes are available: "
            "1 No preemption victims found for incoming pod."
        )
        (condition,) = (await client.get(PODS, waiting, "default"))["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("PodScheduled", "False")
        assert (condition["reason"], condition["message"]) == ("Unschedulable", message)
        attempts = scheduler.queue._known[f"uid-default-{waiting}"].attempts
        await client.patch(NODES, "a", {"metadata": {"labels": {"new": "label"}}})
        await clock.advance(60)
        assert scheduler.queue._known[f"uid-default-{waiting}"].attempts == attempts
        other = next(name for name, where in placed(client).items() if where)
        await client.delete(PODS, other, "default", grace_seconds=0)
        await clock.advance(1)
        assert placed(client) == {waiting: "a"}


async def test_a_new_node_and_a_lifted_taint_help() -> None:
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    client, clock, scheduler = setup()
    async with running(scheduler, clock):
        await client.create(PODS, pod("p"))
        await clock.advance(3)
        assert events(client, "FailedScheduling") == ["no nodes available to schedule pods"]
        await client.create(NODES, node("a", taints=[taint]))
        await clock.advance(20)
        assert placed(client) == {"p": ""}
        await client.patch(NODES, "a", {"spec": {"taints": None}})
        await clock.advance(20)
        assert placed(client) == {"p": "a"}


async def test_failed_bindings_are_taken_back_and_tried_again() -> None:
    client, clock, scheduler = setup(node("a", cpu="1"))
    failures = 2

    def refuse(verb: str, resource: Resource, key: str, subresource: str) -> None:
        nonlocal failures
        if subresource == "binding" and failures:
            failures -= 1
            raise errors.service_unavailable("etcd is away")

    client.intercepts.append(refuse)
    async with running(scheduler, clock):
        await client.create(PODS, pod("p", cpu="800m"))
        await clock.advance(0.5)
        assert placed(client) == {"p": ""}
        assert scheduler.snapshot.placed == {}
        await clock.advance(10)
        assert placed(client) == {"p": "a"}


async def test_others_pods_and_gated_ones_are_left_alone() -> None:
    client, clock, scheduler = setup(node("a"))
    async with running(scheduler, clock):
        await client.create(PODS, pod("foreign", schedulerName="mine"))
        await client.create(PODS, pod("gated", schedulingGates=[{"name": "wait"}]))
        await clock.advance(1)
        assert set(placed(client).values()) == {""}
        await client.patch(PODS, "gated", {"spec": {"schedulingGates": None}}, "default")
        await clock.advance(1)
        assert placed(client) == {"foreign": "", "gated": "a"}


async def test_priority_goes_first() -> None:
    client, clock, scheduler = setup(node("a", cpu="1"))
    for name, priority in (("low", 0), ("high", 1000)):
        client.seed(PODS, pod(name, cpu="800m", priority=priority))
    async with running(scheduler, clock):
        await clock.advance(1)
        assert placed(client) == {"low": "", "high": "a"}


async def test_finished_pods_free_their_node() -> None:
    client, clock, scheduler = setup(node("a", cpu="1"))
    async with running(scheduler, clock):
        await client.create(PODS, pod("job", cpu="800m"))
        await clock.advance(1)
        await client.create(PODS, pod("next", cpu="800m"))
        await clock.advance(1)
        assert placed(client)["next"] == ""
        await client.patch(PODS, "job", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
        await clock.advance(2)
        assert placed(client)["next"] == "a"
