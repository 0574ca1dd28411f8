"""Why pods and workloads do not run: by how much they fall short, what they wait for, and what would help."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from rich.console import Console

from orca.api.objects import Obj
from orca.api.times import format_time
from orca.explain.why.findings import Explanation, World
from orca.explain.why.placement import judge
from orca.explain.why.printing import as_json, show
from orca.explain.why.waiting import explain_pod
from orca.explain.why.workload import explain_workload, tree
from orca.scheduler.decision import decide
from orca.scheduler.filters import Task
from tests.unit.scheduler.things import cluster, node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def placed(name: str, where: str, **spec: Any) -> Obj:
    return pod(name, nodeName=where, **spec)


def obstacles(wanted: Obj, *nodes: Obj, pods: tuple[Obj, ...] = ()) -> dict[str, list[tuple[str, str, str]]]:
    found = judge(wanted, World(nodes=nodes, pods=pods))
    return {one.node: [(each.rule, each.says, each.fix) for each in one.obstacles] for one in found.nodes}


def test_each_rule_says_by_how_much_a_node_falls_short() -> None:
    wanted = pod("p", cpu="3", memory="1Gi", ports=(80,), nodeSelector={"disk": "ssd"})
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    found = obstacles(
        wanted,
        node("a", cpu="2", labels={"disk": "hdd"}),
        node("b", labels={"disk": "ssd"}, taints=[taint], unschedulable=True),
        node("c", labels={"disk": "ssd"}),
        pods=(placed("busy", "c", cpu="1500m", ports=(80,)),),
    )
    assert found["a"] == [
        (
            "NodeAffinity",
            "the pod wants the label disk=ssd, the node has disk=hdd",
            "kubectl label node a disk=ssd --overwrite",
        ),
        ("NodeResourcesFit", "cpu: asks for 3, 2 of 2 are free: 1 short", "lower requests.cpu from 3 to 2"),
    ]
    assert found["b"] == [
        ("NodeUnschedulable", "it is cordoned", "kubectl uncordon b"),
        (
            "TaintToleration",
            "its taint gpu=yes:NoSchedule is not tolerated",
            "tolerate the taint gpu=yes:NoSchedule, or: kubectl taint nodes b gpu=yes:NoSchedule-",
        ),
    ]
    assert [rule for rule, _, _ in found["c"]] == ["NodePorts", "NodeResourcesFit"]
    assert "host port 80/TCP is pod default/busy's" in found["c"][0][1]
    assert found["c"][1][1] == "cpu: asks for 3, 2.5 of 4 are free: 0.5 short"
    assert found["c"][1][2] == "lower requests.cpu from 3 to 2.5, or free 0.5 there (pod default/busy asks for 1.5)"


def test_the_smallest_change_is_that_of_the_node_that_needs_least() -> None:
    wanted = pod("p", cpu="3", nodeSelector={"disk": "ssd"})
    world = World(nodes=(node("a", cpu="1"), node("b", labels={"disk": "ssd"}, unschedulable=True)))
    best = judge(wanted, world).smallest_change
    assert best is not None
    assert (best.node, best.obstacles[0].fix) == ("b", "kubectl uncordon b")


def test_pods_beside_it() -> None:
    zone = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}
    near = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [zone]}}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [zone]}}
    db = placed("db", "b", labels={"app": "db"})
    assert "no pod with app=db" in obstacles(pod("p", affinity=near), node("a"), node("b"), pods=(db,))["a"][0][1]
    assert (
        "pod default/db with app=db" in obstacles(pod("p", affinity=apart), node("a"), node("b"), pods=(db,))["b"][0][1]
    )
    lonely = placed("l", "a", labels={"app": "x"}, affinity=apart)
    told = obstacles(pod("p", labels={"app": "db"}), node("a"), pods=(lonely,))["a"][0][1]
    assert "pod default/l there wants no pod with app=db" in told
    constraint = {
        "topologyKey": "zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    zones = (node("a", labels={"zone": "x"}), node("b", labels={"zone": "y"}, unschedulable=True))
    spread = obstacles(pod("p", topologySpreadConstraints=[constraint]), *zones, pods=(placed("w", "a"),))
    assert "zone=x would have 2 such pods, 2 more than the emptiest; maxSkew is 1" in spread["a"][0][1]


CASES = [
    pod("p"),
    pod("p", cpu="3"),
    pod("p", nodeSelector={"disk": "ssd"}),
    pod("p", ports=(80,)),
    pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]),
]


@pytest.mark.parametrize("wanted", CASES, ids=range(len(CASES)))
def test_it_says_the_same_as_the_scheduler(wanted: Obj) -> None:
    nodes = (node("a", cpu="1"), node("b", labels={"disk": "ssd"}), node("c", unschedulable=True))
    found = judge(wanted, World(nodes=nodes))
    decision = decide(Task.of(wanted), cluster(*nodes))
    assert bool(decision.node) == bool(found.fits)
    assert (decision.node in found.fits) or not decision.node
    if decision.whole:
        assert [one.says for one in found.whole] == [decision.whole]
    assert {one.node for one in found.nodes} >= set(decision.reasons) - ({"a", "b", "c"} if decision.whole else set())


# --- pods that have a node


def running(**status: Any) -> Obj:
    made = placed("p", "a")
    made["status"] = {"phase": "Pending", **status}
    return made


def container(name: str = "main", **fields: Any) -> Obj:
    return {"name": name, "ready": False, "restartCount": 0, **fields}


def event(of: Obj, reason: str, message: str, field: str = "") -> Obj:
    return {
        "metadata": {"name": reason},
        "involvedObject": {"uid": of["metadata"]["uid"], "fieldPath": field},
        "reason": reason,
        "message": message,
        "lastTimestamp": format_time(NOW),
    }


def told(of: Obj, *events: Obj, **world: Any) -> Explanation:
    healthy = node("a")
    healthy["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    return explain_pod(of, World(nodes=(healthy,), events=events, **world), NOW)


def test_a_ready_pod_is_well() -> None:
    well = running(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert told(well).is_well


@pytest.mark.parametrize(
    ("state", "says", "fix"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}},
            "ImagePullBackOff: Back-off",
            "pull secret",
        ),
        ({"waiting": {"reason": "ContainerCreating", "message": "pulling x: 40 %"}}, "pulling x: 40 %", ""),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}},
            'secret "s"',
            "Secret",
        ),
        ({"terminated": {"exitCode": 2, "reason": "Error"}}, "ended with exit code 2", "kubectl logs p"),
    ],
)
def test_what_a_container_waits_for(state: Obj, says: str, fix: str) -> None:
    (found,) = told(running(containerStatuses=[container(state=state)])).findings
    assert says in found.says
    assert fix in found.fix


def test_a_crash_shows_its_end_and_what_it_printed() -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    one = container(state=state, lastState=last, restartCount=4)
    (found,) = told(running(containerStatuses=[one]), logs={("p", "main"): "a\nb\n"}).findings
    assert "exit code 137 (OOMKilled), 4 restarts so far; back-off 40s" in found.says
    assert found.fix == "raise its memory limit"
    assert found.details == ("it printed: a", "it printed: b")


def test_volumes_and_probes_are_known_from_events() -> None:
    waiting = running(containerStatuses=[container(state={"waiting": {"reason": "ContainerCreating"}})])
    mount = event(waiting, "FailedMount", 'configmap "x" not found')
    (found,) = told(waiting, mount).findings
    assert found.says == 'FailedMount: configmap "x" not found (0s ago)', "that it is being made adds nothing"
    unready = running(phase="Running", containerStatuses=[container(state={"running": {}})])
    probe = event(unready, "Unhealthy", "Readiness probe failed: 503", "spec.containers{main}")
    (found,) = told(unready, probe).findings
    assert found.says == "container main runs and is not ready: Readiness probe failed: 503 (0s ago)"


def test_init_containers_come_first() -> None:
    made = running(
        initContainerStatuses=[
            container("one", state={"terminated": {"exitCode": 0}}),
            container("two", state={"running": {}}),
        ],
        containerStatuses=[container(state={"waiting": {"reason": "PodInitializing"}})],
    )
    made["spec"]["initContainers"] = [{"name": "one"}, {"name": "two"}]
    (found,) = told(made).findings
    assert found.says == "init container two (init container 2 of 2) runs, for 0s now"
    assert found.waits


def test_pods_that_nobody_places() -> None:
    gated = pod("p", schedulingGates=[{"name": "quota"}])
    assert "gated by quota" in told(gated).findings[0].says
    assert "scheduler 'mine'" in told(pod("p", schedulerName="mine")).findings[0].says
    for unread in ("nodes", "pods", "namespaces", "persistentvolumeclaims"):
        found = told(pod("p"), unread=[unread])
        assert f"not allowed to read: {unread}" in found.findings[0].says
        assert found.placement is None


def test_room_that_is_kept_for_others_is_none() -> None:
    first = {**pod("first", cpu="3", priority=5), "status": {"nominatedNodeName": "a"}}
    for priority, fits in ((5, ()), (6, ("a",))):
        second = pod("second", cpu="3", priority=priority)
        assert judge(second, World(nodes=(node("a"),), pods=(first, second))).fits == fits
    assert judge(first, World(nodes=(node("a"),), pods=(first,))).fits == ("a",)


def test_hosts_attach_so_many_volumes() -> None:
    wanted = pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    claim = {
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"volumeName": "v"},
        "status": {"phase": "Bound"},
    }
    volume = {"metadata": {"name": "v"}, "spec": {"csi": {"driver": "disks.example", "volumeHandle": "1"}}}
    full = {"metadata": {"name": "a"}, "spec": {"drivers": [{"name": "disks.example", "allocatable": {"count": 0}}]}}
    world = World(nodes=(node("a"), node("b")), claims=(claim,), volumes=(volume,), csi_nodes=(full,))
    assert judge(wanted, world).fits == ("b",)


def test_what_the_scheduler_itself_said_is_told_beside_a_node_that_fits() -> None:
    """Its profile may have rules that nobody can read from the API."""
    said = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 no such label."}
    waiting = {**pod("p"), "status": {"conditions": [said]}}
    (found,) = told(waiting).findings
    assert found.says.startswith("a would take it now")
    assert "no such label" in found.details[0]


def test_a_pod_that_does_not_go_away() -> None:
    going = running(phase="Running")
    going["metadata"] |= {"deletionTimestamp": format_time(NOW - timedelta(seconds=5)), "finalizers": ["a/b"]}
    assert "finalizers: a/b" in [one.says for one in told(going).findings]
    lost = explain_pod({**going, "metadata": {**going["metadata"], "finalizers": []}}, World(nodes=(node("a"),)), NOW)
    assert "nobody can say that it has ended" in lost.findings[0].says
    assert "--force" in lost.findings[0].fix


# --- workloads


def owned(obj: Obj, by: Obj, kind: str) -> Obj:
    reference = {"kind": by["kind"], "name": by["metadata"]["name"], "uid": by["metadata"]["uid"], "controller": True}
    return {**obj, "kind": kind, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


def test_pods_that_fail_alike_are_told_once() -> None:
    deployment = {"kind": "Deployment", "metadata": {"name": "web", "uid": "d"}, "spec": {"replicas": 3}, "status": {}}
    between = owned({"metadata": {"name": "web-1", "uid": "rs"}}, deployment, "ReplicaSet")
    failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    between["status"] = {"conditions": [failed]}
    pods = [owned(pod(f"p{i}", nodeSelector={"a": "b"}), between, "Pod") for i in range(3)]
    everything = [*pods, between, owned(pod("other"), {**between, "metadata": {"name": "x", "uid": "y"}}, "Pod")]
    mine = tree(deployment, everything)
    assert {one["metadata"]["name"] for one in mine} == {"web-1", "p0", "p1", "p2"}
    explained = explain_workload(deployment, mine, World(nodes=(node("a"),)), NOW)
    assert explained.state == "0 of 3 pods ready"
    assert "replicaset/web-1 may not make pods: exceeded quota" in [one.says for one in explained.findings]
    assert len(explained.below) == 1
    assert "2 more of its pods are in the same way" in explained.findings[-1].says


def test_both_forms_of_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    explained = told(pod("p", cpu="99"))
    show(Console(), explained)
    shown = capsys.readouterr().out
    assert "1 of 1 nodes do not take it" in shown
    assert "smallest change" in shown
    document = orjson.loads(as_json(explained))
    assert document["smallestChange"]["node"] == "a"
    assert document["well"] is False
