"""No pod is left waiting by something that would let it run."""

from __future__ import annotations

from typing import Any

from orca.api import errors
from orca.api.builtin import NAMESPACES, NODES, PODS
from orca.api.objects import Obj
from tests.unit.scheduler.test_scheduler import events, placed, running, setup
from tests.unit.scheduler.things import node, pod

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def near(app: str, key: str = HOST, **more: Any) -> Obj:
    """A required term about pods of an app."""
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key, **more}
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


async def test_a_pod_comes_when_the_one_it_needs_was_placed() -> None:
    client, clock, scheduler = setup(node("a"))
    async with running(scheduler, clock):
        await client.create(PODS, pod("follower", affinity={"podAffinity": near("db")}))
        await clock.advance(3)
        await client.create(PODS, pod("db", labels={"app": "db"}))
        await clock.advance(2)
        assert placed(client) == {"follower": "a", "db": "a"}


async def test_pods_of_one_shape_that_others_avoid_do_not_hold_up_those_that_nobody_avoids() -> None:
    client, clock, scheduler = setup(node("a", cpu="1", labels={ZONE: "one"}))
    shy = pod("shy", cpu="1", labels={"app": "shy"}, affinity={"podAntiAffinity": near("loud", ZONE)}, nodeName="a")
    client.seed(PODS, shy)
    async with running(scheduler, clock):
        await client.create(PODS, pod("loud", cpu="1", labels={"app": "loud"}))
        await clock.advance(0.1)
        await client.create(PODS, pod("quiet", cpu="1", labels={"app": "quiet"}))
        await clock.advance(2)
        await client.create(NODES, node("b", cpu="1", labels={ZONE: "one"}))
        await clock.advance(2)
        assert placed(client) == {"shy": "a", "loud": "", "quiet": "b"}


async def test_who_loses_the_room_made_for_it_looks_for_other_room_at_once() -> None:
    client, clock, scheduler = setup(node("a", cpu="2"))
    client.seed(PODS, pod("old", cpu="2", nodeName="a", priority=1))
    async with running(scheduler, clock):
        await client.create(PODS, pod("middle", cpu="2", priority=5))
        await clock.advance(1)
        assert (await client.get(PODS, "middle", "default"))["status"]["nominatedNodeName"] == "a"
        await client.create(NODES, node("b", cpu="2", unschedulable=True))
        client.seed(PODS, pod("other", cpu="2", nodeName="b", priority=1))
        await client.patch(NODES, "b", {"spec": {"unschedulable": None}})
        await clock.advance(15)
        await client.create(PODS, pod("vip", cpu="2", priority=100, nodeSelector={HOST: "a"}))
        await clock.advance(15)
        assert (await client.get(PODS, "vip", "default"))["status"]["nominatedNodeName"] == "a"
        assert (await client.get(PODS, "middle", "default"))["status"]["nominatedNodeName"] == "b"


async def test_who_waits_for_room_on_a_node_that_goes_looks_elsewhere() -> None:
    client, clock, scheduler = setup(node("a", cpu="2"), node("b", cpu="2"))
    client.seed(PODS, pod("old", cpu="2", nodeName="a", priority=1))
    client.seed(PODS, pod("other", cpu="2", nodeName="b", priority=2))
    async with running(scheduler, clock):
        await client.create(PODS, pod("vip", cpu="2", priority=100))
        await clock.advance(1)
        assert (await client.get(PODS, "vip", "default"))["status"]["nominatedNodeName"] == "a"
        await client.delete(NODES, "a")
        await clock.advance(15)
        assert (await client.get(PODS, "vip", "default"))["status"]["nominatedNodeName"] == "b"


async def test_a_domain_that_goes_lets_the_others_be_fuller() -> None:
    spread = {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    client, clock, scheduler = setup(node("a", labels={ZONE: "one"}), node("b", cpu="1m", labels={ZONE: "two"}))
    async with running(scheduler, clock):
        for number in range(2):
            await client.create(PODS, pod(f"web-{number}", cpu="1", topologySpreadConstraints=[spread]))
        await clock.advance(2)
        assert sorted(placed(client).values()) == ["", "a"]
        await client.delete(NODES, "b")
        await clock.advance(15)
        assert sorted(placed(client).values()) == ["a", "a"]


async def test_a_pod_comes_when_those_it_avoids_are_labelled_otherwise() -> None:
    client, clock, scheduler = setup(node("a"))
    client.seed(PODS, pod("loud", labels={"app": "loud"}, nodeName="a"))
    async with running(scheduler, clock):
        await client.create(PODS, pod("shy", labels={"app": "shy"}, affinity={"podAntiAffinity": near("loud")}))
        await clock.advance(3)
        assert placed(client)["shy"] == ""
        await client.patch(PODS, "loud", {"metadata": {"labels": {"app": "quiet"}}}, "default")
        await clock.advance(2)
        assert placed(client)["shy"] == "a"


async def test_a_pod_comes_when_a_namespace_is_labelled_as_it_needs() -> None:
    client, clock, scheduler = setup(node("a"))
    client.seed(NAMESPACES, {"metadata": {"name": "data"}})
    client.seed(PODS, pod("db", namespace="data", labels={"app": "db"}, nodeName="a"))
    chosen: Obj = {"namespaceSelector": {"matchLabels": {"team": "x"}}}
    async with running(scheduler, clock):
        await client.create(PODS, pod("follower", affinity={"podAffinity": near("db", **chosen)}))
        await clock.advance(3)
        assert placed(client)["follower"] == ""
        await client.patch(NAMESPACES, "data", {"metadata": {"labels": {"team": "x"}}})
        await clock.advance(2)
        assert placed(client)["follower"] == "a"


async def test_room_that_was_kept_for_a_pod_is_everybodys_when_that_pod_is_deleted_slowly() -> None:
    client, clock, scheduler = setup(node("a", cpu="2"))
    client.seed(PODS, pod("old", cpu="1", nodeName="a", priority=1))
    vip = pod("vip", cpu="2", priority=100)
    vip["metadata"]["finalizers"] = ["example.com/held"]
    async with running(scheduler, clock):
        await client.create(PODS, vip)
        await clock.advance(1)
        assert (await client.get(PODS, "vip", "default"))["status"]["nominatedNodeName"] == "a"
        await client.create(PODS, pod("small", cpu="1", priority=1))
        await clock.advance(15)
        assert placed(client)["small"] == ""
        await client.delete(PODS, "vip", "default", grace_seconds=0)
        await clock.advance(15)
        assert placed(client)["small"] == "a"
        assert events(client, "Scheduled")


async def test_a_pod_whose_binding_fails_is_judged_as_it_is_by_now() -> None:
    client, clock, scheduler = setup(node("a"))
    client.seed(PODS, pod("loud", labels={"app": "loud"}, nodeName="a"))
    refused: list[str] = []

    async def refuse(binding: Obj, event: Obj | None = None) -> bool:
        del binding, event
        refused.append("once")
        changed = {"metadata": {"labels": {"app": "late"}}}
        await client.patch(PODS, "p", changed, "default")
        await clock.sleep(0.1)
        del client.bind  # type: ignore[method-assign]
        raise errors.service_unavailable("not now")

    client.bind = refuse  # type: ignore[method-assign]
    async with running(scheduler, clock):
        await client.create(PODS, pod("p"))
        await clock.advance(0.5)
        assert refused
        assert scheduler.queue._known["uid-default-p"].pod["metadata"]["labels"] == {"app": "late"}
        await clock.advance(5)
        assert placed(client)["p"] == "a"


async def test_room_made_for_the_less_important_is_no_obstacle() -> None:
    client, clock, scheduler = setup(node("a", cpu="2"))
    client.seed(PODS, pod("old", cpu="2", nodeName="a", priority=1))
    async with running(scheduler, clock):
        await client.create(PODS, pod("polite", cpu="2", priority=10, preemptionPolicy="Never"))
        await client.create(PODS, pod("small", cpu="2", priority=5))
        await clock.advance(3)
        assert (await client.get(PODS, "small", "default"))["status"]["nominatedNodeName"] == "a"
        await client.delete(PODS, "old", "default", grace_seconds=0)
        await clock.advance(3)
        assert placed(client) == {"polite": "a", "small": ""}


async def test_who_does_not_fit_where_room_was_made_leaves_it_to_others() -> None:
    client, clock, scheduler = setup(node("a", cpu="2"))
    client.seed(PODS, pod("friend", labels={"app": "friend"}, nodeName="a", priority=200))
    client.seed(PODS, pod("old", cpu="2", nodeName="a", priority=1))
    async with running(scheduler, clock):
        await client.create(PODS, pod("vip", cpu="2", priority=100, affinity={"podAffinity": near("friend")}))
        await clock.advance(1)
        await client.create(PODS, pod("small", cpu="2", priority=5))
        await clock.advance(3)
        assert (await client.get(PODS, "vip", "default"))["status"]["nominatedNodeName"] == "a"
        await client.delete(PODS, "friend", "default", grace_seconds=0)
        await clock.advance(3)
        await client.delete(PODS, "old", "default", grace_seconds=0)
        await clock.advance(15)
        assert placed(client) == {"vip": "", "small": "a"}
        assert not (await client.get(PODS, "vip", "default"))["status"].get("nominatedNodeName")
