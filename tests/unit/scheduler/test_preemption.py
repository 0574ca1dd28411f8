"""Room is made for the important at the least cost, and only when it helps."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as some

from orca.api.builtin import EVENTS, NODES, PODDISRUPTIONBUDGETS, PODS, SERVICES
from orca.api.objects import Obj
from orca.scheduler import Scheduler, SchedulerConfig
from orca.scheduler.decision import decide
from orca.scheduler.filters import Task
from orca.scheduler.filters.node_resources_fit import NodeResourcesFit
from orca.scheduler.filters.pod_topology_spread import Defaults, PodTopologySpread
from orca.scheduler.preemption import Answers, Preemption, find
from orca.scheduler.profile import DEFAULT, Profile
from orca.scheduler.snapshot import Placed, Snapshot
from tests.unit.scheduler.test_scheduler import events, placed, running, setup
from tests.unit.scheduler.things import cluster, fits, node, pod


def look(snapshot: Snapshot, wanted: Obj, protected: tuple[str, ...] = ()) -> Preemption:
    task = Task.of(wanted)

    def violating(pods: Iterable[Placed]) -> set[str]:
        return {one.uid for one in pods if one.key in protected}

    return find(task, snapshot, decide(task, snapshot), violating)


def names(preemption: Preemption) -> set[str]:
    return {victim.key.partition("/")[2] for victim in preemption.victims}


def test_the_fewest_and_least_important_go() -> None:
    snapshot = cluster(
        node("a"),
        node("b"),
        pods={
            "a": [pod("a1", cpu="2", priority=5), pod("a2", cpu="2", priority=1)],
            "b": [pod("b1", cpu="2", priority=3), pod("b2", cpu="2", priority=4)],
        },
    )
    before = snapshot.used.copy()
    preemption = look(snapshot, pod("vip", cpu="1500m", priority=10))
    assert (preemption.node, names(preemption)) == ("a", {"a2"})
    assert (snapshot.used == before).all()
    assert names(look(snapshot, pod("vip", cpu="4", priority=10))) == {"b1", "b2"}


def test_budgets_are_spared_where_possible() -> None:
    snapshot = cluster(
        node("a"), node("b"), pods={"a": [pod("a1", cpu="4", priority=1)], "b": [pod("b1", cpu="4", priority=2)]}
    )
    assert look(snapshot, pod("vip", cpu="1", priority=10)).node == "a"
    assert look(snapshot, pod("vip", cpu="1", priority=10), ("default/a1",)).node == "b"


def test_when_it_does_not_help() -> None:
    taint = {"key": "k", "effect": "NoSchedule"}
    snapshot = cluster(node("a", taints=[taint]), node("b"), pods={"b": [pod("b1", cpu="4", priority=10)]})
    assert look(snapshot, pod("vip", cpu="1", priority=10)).message == (
        "0/2 nodes are available: 1 No preemption victims found for incoming pod, "
        "1 Preemption is not helpful for scheduling."
    )
    never = pod("vip", cpu="1", priority=20, preemptionPolicy="Never")
    assert look(snapshot, never).message == "not eligible due to preemptionPolicy=Never."


@settings(max_examples=60, deadline=None)
@given(
    there=some.lists(some.tuples(some.integers(0, 2), some.integers(1, 4), some.integers(0, 5)), max_size=9),
    cpu=some.integers(1, 4),
    priority=some.integers(0, 6),
)
def test_without_its_victims_the_pod_fits(there: list[tuple[int, int, int]], cpu: int, priority: int) -> None:
    snapshot = cluster(*(node(f"n{number}") for number in range(3)))
    for number, (where, amount, rank) in enumerate(there):
        one = pod(f"p{number}", cpu=str(amount), priority=rank)
        if f"n{where}" in fits(snapshot, one):
            snapshot.place(one, f"n{where}")
    wanted = pod("vip", cpu=str(cpu), priority=priority)
    if fits(snapshot, wanted):
        return
    preemption = look(snapshot, wanted)
    for victim in preemption.victims:
        assert victim.priority < priority
        assert victim.node == preemption.node
    if preemption.node:
        for victim in preemption.victims:
            snapshot.remove(victim.uid)
        assert preemption.node in fits(snapshot, wanted)
        # No victim went in vain.
        for victim in preemption.victims:
            snapshot.put(victim)
            assert preemption.node not in fits(snapshot, wanted)
            snapshot.remove(victim.uid)
    else:
        assert all(
            sum(int(p.shape.requests["cpu"]) for p in snapshot.by_node.get(name, {}).values() if p.priority >= priority)
            + cpu * 1000
            > 4000
            for name in snapshot.slots
        )


async def test_victims_leave_and_nobody_takes_their_place() -> None:
    client, clock, scheduler = setup(node("a"))
    client.seed(PODS, pod("old", cpu="4", nodeName="a", priority=1))
    async with running(scheduler, clock):
        await client.create(PODS, pod("vip", cpu="3", priority=100))
        await clock.advance(1)
        victim = await client.get(PODS, "old", "default")
        assert victim["metadata"]["deletionTimestamp"]
        assert victim["status"]["conditions"][0]["reason"] == "PreemptionByScheduler"
        assert events(client, "Preempted") == ["Preempted by pod uid-default-vip on node a"]
        waiting = await client.get(PODS, "vip", "default")
        assert waiting["status"]["nominatedNodeName"] == "a"
        await client.create(PODS, pod("sneak", cpu="2", priority=5))
        await clock.advance(1)
        await client.delete(PODS, "old", "default", grace_seconds=0)
        await clock.advance(20)
        assert placed(client) == {"vip": "a", "sneak": ""}
        assert len([one for one in client.objects(EVENTS) if one["reason"] == "Preempted"]) == 1


async def test_a_budget_is_asked() -> None:
    client, clock, scheduler = setup(node("a"), node("b"))
    client.seed(PODS, pod("guarded", cpu="4", nodeName="a", priority=1, labels={"app": "db"}))
    client.seed(PODS, pod("free", cpu="4", nodeName="b", priority=2))
    budget = {
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 0},
    }
    client.seed(PODDISRUPTIONBUDGETS, budget)
    async with running(scheduler, clock):
        await client.create(PODS, pod("vip", cpu="3", priority=100))
        await clock.advance(1)
        assert not (await client.get(PODS, "guarded", "default"))["metadata"].get("deletionTimestamp")
        assert (await client.get(PODS, "free", "default"))["metadata"]["deletionTimestamp"]
        assert len(client.objects(NODES)) == 2


async def test_a_pod_waits_for_its_last_victim_and_then_comes_at_once() -> None:
    client, clock, scheduler = setup(node("a", cpu="3"))
    async with running(scheduler, clock):
        for number in range(3):
            await client.create(PODS, pod(f"low-{number}", cpu="1", priority=1))
        await clock.advance(1)
        await client.create(PODS, pod("vip", cpu="3", priority=10))
        await clock.advance(0.2)
        for number in range(3):
            # Whatever is left of their grace.
            if f"low-{number}" in placed(client):
                await client.delete(PODS, f"low-{number}", "default", grace_seconds=0)
                await clock.advance(0.2)
        assert placed(client) == {"vip": "a"}
        assert len(events(client, "FailedScheduling")) == 1


def test_profiles_do_not_share_what_they_found() -> None:
    snapshot = cluster(node("a", more={"example.com/seat": "1"}), pods={"a": [pod("old", cpu="3", priority=1)]})
    seated = pod("sitter", priority=50)
    seated["spec"]["containers"][0]["resources"]["requests"]["example.com/seat"] = "1"
    snapshot.place(seated, "a")
    wanted = pod("vip", cpu="2", priority=10)
    wanted["spec"]["containers"][0]["resources"]["requests"]["example.com/seat"] = "1"
    lax = NodeResourcesFit(ignored=frozenset(("example.com/seat",)))
    careless = Profile(filters=tuple(lax if rule.name == lax.name else rule for rule in DEFAULT.filters))
    task, answers = Task.of(wanted), Answers()

    def asked(profile: Profile) -> str:
        decision = decide(task, snapshot, profile=profile)
        return find(task, snapshot, decision, lambda _: set(), profile=profile, answers=answers).node

    assert (asked(DEFAULT), asked(careless), asked(DEFAULT)) == ("", "a", "")


async def test_nobody_goes_for_a_pod_that_default_spreading_keeps_away() -> None:
    spread = PodTopologySpread(Defaults((("kubernetes.io/hostname", 1, True),), system=False))
    profile = Profile(filters=tuple(spread if rule.name == spread.name else rule for rule in DEFAULT.filters))
    client, clock, _ = setup(node("a"), node("b", cpu="1"))
    scheduler = Scheduler(client, clock=clock, config=SchedulerConfig(profiles=(profile,)))
    client.seed(SERVICES, {"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}})
    client.seed(PODS, pod("web-0", cpu="1", priority=10, nodeName="a"))
    client.seed(PODS, pod("old", cpu="3", labels={"app": "old"}, priority=1, nodeName="a"))
    async with running(scheduler, clock):
        await client.create(PODS, pod("web-1", cpu="2", priority=10))
        await clock.advance(20)
        assert events(client, "FailedScheduling")
        assert not events(client, "Preempted")
        assert not (await client.get(PODS, "web-1", "default"))["status"].get("nominatedNodeName")


def test_a_resource_that_is_ignored_hides_no_other() -> None:
    wanted = pod("p", priority=1)
    wanted["spec"]["containers"][0]["resources"]["requests"] = {"example.com/seat": "1", "cpu": "8"}
    snapshot = cluster(node("a"))
    lax = NodeResourcesFit(ignored=frozenset(("example.com/seat",)))
    assert not lax.allows(Task.of(wanted), snapshot, snapshot.slots["a"])
