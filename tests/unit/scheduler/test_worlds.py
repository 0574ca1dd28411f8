"""Worlds of changes at random: once they are at rest, no pod waits that a node would take."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from orca.api.builtin import NAMESPACES, NODES, PODS
from orca.api.objects import Obj, is_terminating, name, namespace
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.scheduler.decision import decide
from orca.scheduler.filters import Task
from orca.scheduler.profile import DEFAULT
from orca.scheduler.snapshot import Snapshot
from orca.scheduler.standing import point_of, standing
from tests.unit.scheduler.test_scheduler import running, setup
from tests.unit.scheduler.things import node, pod

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
APPS, SPACES = "abc", ("default", "other")
TAINTS = [{"key": "k", "effect": "NoSchedule"}]


def some_pod(chance: Random, number: int) -> Obj:
    app = chance.choice(APPS)
    spec: dict[str, Any] = {"priority": chance.choice([0, 0, 5, 10]), "namespace": chance.choice(SPACES)}
    if chance.random() < 0.2:
        spec["ports"] = (80,)
    if chance.random() < 0.15:
        spec["nodeSelector"] = {"disk": "ssd"}
    if chance.random() < 0.2:
        spec["tolerations"] = [{"key": "k", "operator": "Exists"}]
    wish, key = chance.random(), chance.choice([ZONE, HOST])
    if wish < 0.4:
        term: Obj = {"labelSelector": {"matchLabels": {"app": chance.choice(APPS)}}, "topologyKey": key}
        if chance.random() < 0.3:
            term["namespaceSelector"] = {"matchLabels": {"team": chance.choice("xy")}}
        which = "podAffinity" if wish < 0.2 else "podAntiAffinity"
        spec["affinity"] = {which: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    elif wish < 0.6:
        own = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule"}
        spec["topologySpreadConstraints"] = [{**own, "labelSelector": {"matchLabels": {"app": app}}}]
    return pod(f"p{number}", cpu=chance.choice(["", "1", "2", "3"]), labels={"app": app}, **spec)


def some_node(chance: Random, number: int) -> Obj:
    labels = {ZONE: chance.choice(["z1", "z2"]), **({"disk": "ssd"} if chance.random() < 0.5 else {})}
    spec: dict[str, Any] = {"taints": TAINTS} if chance.random() < 0.2 else {}
    return node(f"n{number}", cpu=chance.choice("24"), labels=labels, pods=chance.choice([2, 110]), **spec)


async def change(client: FakeClient, chance: Random, number: int) -> None:
    """One thing happens."""
    pods, nodes, what = client.objects(PODS), client.objects(NODES), chance.random()
    if what < 0.45 or not pods or not nodes:
        await client.create(PODS, some_pod(chance, number))
    elif what < 0.6:
        await delete(client, chance.choice(pods))
    elif what < 0.7:
        one = chance.choice(pods)
        await client.patch(PODS, name(one), {"metadata": {"labels": {"app": chance.choice(APPS)}}}, namespace(one))
    elif what < 0.76:
        await client.create(NODES, some_node(chance, number))
    elif what < 0.8:
        gone = name(chance.choice(nodes))
        await client.delete(NODES, gone)
        for one in pods:
            if one["spec"].get("nodeName") == gone:
                await delete(client, one)
    elif what < 0.95:
        changes: list[tuple[Obj, str]] = [
            ({"metadata": {"labels": {ZONE: chance.choice(["z1", "z2", None])}}}, ""),
            ({"metadata": {"labels": {"disk": chance.choice(["ssd", None])}}}, ""),
            ({"spec": {"unschedulable": chance.choice([True, None])}}, ""),
            ({"spec": {"taints": chance.choice([None, TAINTS])}}, ""),
            ({"status": {"allocatable": {"cpu": chance.choice("245")}}}, "status"),
        ]
        patch, part = chance.choice(changes)
        await client.patch(NODES, name(chance.choice(nodes)), patch, subresource=part)
    else:
        await client.patch(NAMESPACES, chance.choice(SPACES), {"metadata": {"labels": {"team": chance.choice("xy")}}})


async def delete(client: FakeClient, one: Obj) -> None:
    await client.delete(PODS, name(one), namespace(one), grace_seconds=0)


async def rest(client: FakeClient, clock: VirtualClock) -> None:
    """Victims go, and what room they leave is taken; who evicts each other for ever never rests."""
    for _ in range(20):
        await clock.advance(12)
        going = [one for one in client.objects(PODS) if is_terminating(one)]
        for one in going:
            await delete(client, one)
        if not going:
            return
    raise AssertionError("no rest")


@pytest.mark.parametrize("seed", [0, 5, 12, 16, 25, 36, 53, 58, 127, 292])
async def test_nobody_is_forgotten(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orca.scheduler.decision.EXPLAINED", 0)  # decide as among many nodes
    chance = Random(seed)
    client, clock, scheduler = setup(*(some_node(chance, number) for number in range(chance.randint(1, 4))))
    for space in SPACES:
        client.seed(NAMESPACES, {"metadata": {"name": space, "labels": {"team": chance.choice("xy")}}})
    async with running(scheduler, clock):
        for step in range(25):
            for more in range(chance.randint(1, 3)):
                await change(client, chance, 10 + 3 * step + more)
                await clock.advance(chance.choice([0, 0.05]))
            await rest(client, clock)
            fresh = Snapshot()
            for one in client.objects(NODES):
                fresh.set_node(one)
            for one in client.objects(NAMESPACES):
                fresh.set_namespace(one)
            waiting = []
            for one in client.objects(PODS):
                if one["spec"].get("nodeName"):
                    fresh.place(one, one["spec"]["nodeName"])
                else:
                    waiting.append(one)
            assert [name(one) for one in waiting if decide(Task.of(one), fresh).node] == []
            for one in client.objects(PODS):
                task, rows = Task.of(one), range(scheduler.snapshot.size)
                kept = standing(task, scheduler.snapshot, DEFAULT).tolist()
                assert kept == [point_of(task, scheduler.snapshot, DEFAULT, slot) for slot in rows]
