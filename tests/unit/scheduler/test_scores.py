"""Preferences: replicas spread, empty nodes first, images and wishes count."""

from __future__ import annotations

from collections import Counter

from orca.api.selectors import from_map
from orca.scheduler.decision import decide
from orca.scheduler.filters import Task
from tests.unit.scheduler.things import choose, cluster, node, pod, term


def test_replicas_spread_evenly_by_default() -> None:
    snapshot = cluster(*(node(f"n{number}") for number in range(3)), pods={"n0": [pod("busy", cpu="1", labels={})]})
    siblings = from_map({"app": "web"})
    placed: Counter[str] = Counter()
    for number in range(9):
        wanted = pod(f"web-{number}", cpu="50m")
        decision = decide(Task.of(wanted, siblings), snapshot, number)
        snapshot.place(wanted, decision.node)
        placed[decision.node] += 1
    assert set(placed.values()) == {3}


def test_equals_take_turns() -> None:
    snapshot = cluster(node("a"), node("b"))
    assert {choose(snapshot, pod("p"), turn).node for turn in range(2)} == {"a", "b"}


def test_the_emptier_node_wins() -> None:
    snapshot = cluster(node("a"), node("b"), pods={"a": [pod("old", cpu="2", memory="4Gi")]})
    assert choose(snapshot, pod("p")).node == "b"


def test_balance() -> None:
    snapshot = cluster(node("a", cpu="10", memory="10Gi"), node("b", cpu="10", memory="10Gi"))
    snapshot.place(pod("cpu", cpu="4", memory="0"), "a")
    snapshot.place(pod("memory", cpu="0", memory="4Gi"), "b")
    assert choose(snapshot, pod("p", cpu="4", memory="0")).node == "b"


def test_images_that_are_there() -> None:
    image = {"names": ["docker.io/big:1"], "sizeBytes": 900 << 20}
    snapshot = cluster(node("a"), node("b", images=[image]))
    assert choose(snapshot, pod("p", image="docker.io/big:1")).node == "b"


def test_preferred_nodes_and_taints() -> None:
    wish = {"weight": 10, "preference": {"matchExpressions": [term("disk", "In", "ssd")]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}
    snapshot = cluster(node("a"), node("b", labels={"disk": "ssd"}))
    assert choose(snapshot, pod("p", affinity=affinity)).node == "b"
    snapshot = cluster(node("a", taints=[{"key": "x", "effect": "PreferNoSchedule"}]), node("b"))
    assert {choose(snapshot, pod("p"), turn).node for turn in range(3)} == {"b"}


def test_preferred_pods() -> None:
    near = {"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "kubernetes.io/hostname"}
    wish = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": near}]}
    snapshot = cluster(node("a"), node("b"), pods={"b": [pod("db", labels={"app": "db"})]})
    assert choose(snapshot, pod("p", affinity={"podAffinity": wish})).node == "b"
    assert choose(snapshot, pod("p", affinity={"podAntiAffinity": wish})).node == "a"
