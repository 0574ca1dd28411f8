"""What runs already has a say: volumes that are attached, and the wishes of pods that are there."""

from __future__ import annotations

from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from orca.scheduler.decision import decide
from orca.scheduler.filters import Task
from orca.scheduler.queue import SchedulingQueue
from orca.scheduler.scores.affinity import pod_affinity
from tests.unit.scheduler.things import choose, cluster, node, pod

DRIVER = "disk.example.com"


def claimed(name: str, *claims: str) -> Obj:
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    return pod(name, volumes=volumes)


def test_a_node_takes_as_many_volumes_as_its_driver_says() -> None:
    snapshot = cluster(node("a"))
    limit = {"name": DRIVER, "nodeID": "a", "allocatable": {"count": 2}}
    snapshot.storage.set_csi_node({"metadata": {"name": "a"}, "spec": {"drivers": [limit]}})
    for number in range(4):
        name = f"c{number}"
        marks = {"pv.kubernetes.io/bind-completed": "yes"}
        claim: Obj = {"metadata": {"name": name, "namespace": "default", "annotations": marks}}
        snapshot.storage.set_claim({**claim, "spec": {"volumeName": f"v{number}", "accessModes": ["ReadWriteOnce"]}})
        spec = {"csi": {"driver": DRIVER, "volumeHandle": f"h{number}"}, "claimRef": {"uid": "u"}}
        snapshot.storage.set_volume({"metadata": {"name": f"v{number}"}, "spec": spec})
    snapshot.place(claimed("first", "c0"), "a")
    assert choose(snapshot, claimed("fits", "c1")).node == "a"
    assert choose(snapshot, claimed("shares", "c0", "c1")).node == "a"
    refused = choose(snapshot, claimed("many", "c1", "c2"))
    assert refused.reasons == {"a": ["node(s) exceed max volume count"]}


def preferring(kind: str, weight: int) -> Obj:
    term = {"labelSelector": {"matchLabels": {"app": "new"}}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"weight": weight, "podAffinityTerm": term}]
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def test_pods_that_are_there_draw_and_repel() -> None:
    new = pod("new", labels={"app": "new"})
    for kind, expected in (("podAffinity", "b"), ("podAntiAffinity", "a")):
        there = pod("there", labels={"app": "old"}, affinity=preferring(kind, 100))
        snapshot = cluster(node("a"), node("b"), pods={"b": [there]})
        assert decide(Task.of(new), snapshot).node == expected
        rows = snapshot.alive.nonzero()[0]
        assert pod_affinity(Task.of(new), snapshot, rows, ignore_existing=True) is None


def test_who_required_such_pods_near_is_obliged() -> None:
    terms = [{"labelSelector": {"matchLabels": {"app": "new"}}, "topologyKey": "kubernetes.io/hostname"}]
    there = pod(
        "there",
        labels={"app": "new"},
        affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
    )
    snapshot = cluster(node("a"), node("b"), pods={"b": [there]})
    rows = snapshot.alive.nonzero()[0]
    new = Task.of(pod("new", labels={"app": "new"}))
    rated = pod_affinity(new, snapshot, rows, hard_weight=1)
    assert rated is not None
    assert rated.tolist() == [0.0, 100.0]
    assert pod_affinity(new, snapshot, rows, hard_weight=0) is None


async def test_who_was_helped_need_not_sit_out_its_backoff_but_who_failed_by_error_must() -> None:
    clock = VirtualClock()
    queue = SchedulingQueue(clock)
    for name, rules in (("helped", frozenset(("NodeResourcesFit",))), ("broken", frozenset[str]())):
        queue.add(pod(name))
        waiting = queue.pop()
        assert waiting is not None
        queue.failed(waiting.pod["metadata"]["uid"], rules)
    assert queue.pop() is None
    queue.helped(None, lambda one: False)
    assert queue.pop() is None
    queue.helped(frozenset(("NodeResourcesFit",)))
    waiting = queue.pop()
    assert waiting is not None
    assert waiting.pod["metadata"]["name"] == "helped"
    assert queue.pop() is None
    await clock.advance(1.1)
    await queue.ready()
    waiting = queue.pop()
    assert waiting is not None
    assert waiting.pod["metadata"]["name"] == "broken"
