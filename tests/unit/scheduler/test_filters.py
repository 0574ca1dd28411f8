"""Every rule alone, and the text that tells people why."""

from __future__ import annotations

from typing import Any

import pytest

from orca.api.objects import Obj
from tests.unit.scheduler.things import choose, cluster, fits, node, pod, required, term

TAINT = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
ZONE = "topology.kubernetes.io/zone"


@pytest.mark.parametrize(
    ("toleration", "fit"),
    [
        (None, False),
        ({"key": "dedicated", "value": "db", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "operator": "Equal", "value": "db"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "value": "web"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_taints(toleration: Obj | None, fit: bool) -> None:
    snapshot = cluster(node("a", taints=[TAINT]))
    wanted = pod("p", tolerations=[toleration] if toleration else [])
    assert bool(fits(snapshot, wanted)) is fit


def claim(name: str, phase: str = "Pending", **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec, "status": {"phase": phase}}


def claiming(*names: str) -> Obj:
    return pod("p", volumes=[{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in names])


def test_a_pod_waits_for_its_claims() -> None:
    snapshot = cluster(node("a"), node("b"))
    helpless = (
        "no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    message = choose(snapshot, claiming("x")).message()
    assert message == f'0/2 nodes are available: persistentvolumeclaim "x" not found. {helpless}'
    snapshot.storage.set_claim(claim("x"))
    message = choose(snapshot, claiming("x")).message()
    assert message == f"0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. {helpless}"
    snapshot.storage.set_claim(claim("x", "Bound", volumeName="v"))
    lost = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
    assert f"2 {lost}" in choose(snapshot, claiming("x")).message()
    snapshot.storage.set_volume({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1"}}})
    assert fits(snapshot, claiming("x")) == {"a", "b"}
    snapshot.storage.set_class({"metadata": {"name": "late"}, "volumeBindingMode": "WaitForFirstConsumer"})
    snapshot.storage.set_claim(claim("y", storageClassName="late"))
    message = choose(snapshot, claiming("x", "y")).message()
    assert "2 node(s) didn't find available persistent volumes to bind" in message
    own = pod("p", volumes=[{"name": "v", "ephemeral": {}}])
    assert (
        'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-v"'
        in choose(snapshot, own).message()
    )


def test_cordoned_nodes() -> None:
    snapshot = cluster(node("a", unschedulable=True), node("b"))
    assert fits(snapshot, pod("p")) == {"b"}
    tolerating = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}
    assert fits(snapshot, pod("q", tolerations=[tolerating])) == {"a", "b"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, {"a"}),
        ({"affinity": required(term("disk", "In", "ssd", "nvme"))}, {"a"}),
        ({"affinity": required(term("disk", "NotIn", "ssd"))}, {"b", "c"}),
        ({"affinity": required(term("disk", "Exists"))}, {"a", "b"}),
        ({"affinity": required(term("disk", "DoesNotExist"))}, {"c"}),
        ({"affinity": required(term("size", "Gt", "5"))}, {"b"}),
        ({"affinity": required(term("size", "Lt", "5"))}, {"a"}),
        ({"affinity": required(term("size", "Gt", "5"), term("disk", "In", "ssd"))}, {"a", "b"}),
        ({"affinity": required()}, set()),
    ],
)
def test_node_affinity(spec: dict[str, Any], expected: set[str]) -> None:
    snapshot = cluster(
        node("a", labels={"disk": "ssd", "size": "1"}), node("b", labels={"disk": "hdd", "size": "9"}), node("c")
    )
    assert fits(snapshot, pod("p", **spec)) == expected


def test_a_daemon_names_its_node_by_field() -> None:
    alternatives = [{"matchFields": [term("metadata.name", "In", "b")]}]
    spec = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": alternatives}}}
    assert fits(cluster(node("a"), node("b")), pod("p", affinity=spec)) == {"b"}


def test_host_ports() -> None:
    snapshot = cluster(node("a"), node("b"), pods={"a": [pod("old", ports=(80,))]})
    assert fits(snapshot, pod("p", ports=(80,))) == {"b"}
    assert fits(snapshot, pod("q", ports=(81,))) == {"a", "b"}
    snapshot.remove("uid-default-old")
    assert fits(snapshot, pod("p", ports=(80,))) == {"a", "b"}


def test_resources() -> None:
    snapshot = cluster(
        node("small", cpu="1"), node("large", cpu="8"), node("full", pods=1), pods={"full": [pod("old")]}
    )
    assert fits(snapshot, pod("p", cpu="2")) == {"large"}
    snapshot.place(pod("big", cpu="7"), "large")
    decision = choose(snapshot, pod("p", cpu="1500m"))
    assert decision.message() == (
        "0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu. "
        "no new claims to deallocate, preemption: 0/3 nodes are available: "
        "1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    )


def test_extended_resources_and_init_containers() -> None:
    snapshot = cluster(node("a"), node("b", more={"example.com/gpu": "2"}))
    wanted = pod("p")
    wanted["spec"]["containers"][0]["resources"]["requests"] = {"example.com/gpu": "1"}
    assert fits(snapshot, wanted) == {"b"}
    heavy = pod("q", cpu="1", initContainers=[{"name": "i", "resources": {"requests": {"cpu": "5"}}}])
    assert fits(snapshot, heavy) == set()
    sidecar = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "3500m"}}}
    assert fits(snapshot, pod("r", cpu="1", initContainers=[sidecar])) == set()


def test_the_message_counts_reasons() -> None:
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    snapshot = cluster(node("a", taints=[taint]), node("b", taints=[taint]), node("c", cpu="1"))
    snapshot.place(pod("old", cpu="600m"), "c")
    decision = choose(snapshot, pod("p", cpu="500m"))
    assert decision.message() == (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). "
        "no new claims to deallocate, preemption: 0/3 nodes are available: "
        "1 No preemption victims found for incoming pod, "
        "2 Preemption is not helpful for scheduling."
    )
    assert decision.reasons["c"] == ["Insufficient cpu"]


def test_no_nodes() -> None:
    assert choose(cluster(), pod("p")).message() == "no nodes available to schedule pods"


def spread(skew: int, key: str, when: str = "DoNotSchedule") -> list[Obj]:
    selector = {"matchLabels": {"app": "web"}}
    return [{"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector}]


def test_topology_spread() -> None:
    nodes = [node(f"n{zone}{number}", labels={ZONE: zone}) for zone in "ab" for number in range(2)]
    snapshot = cluster(*nodes, node("lost"), pods={"na0": [pod("one")]})
    decision = choose(snapshot, pod("p", topologySpreadConstraints=spread(1, ZONE)))
    assert decision.node in ("nb0", "nb1")
    assert decision.reasons["lost"] == ["node(s) didn't match pod topology spread constraints (missing required label)"]
    assert decision.reasons["na1"] == ["node(s) didn't match pod topology spread constraints"]
    snapshot.place(pod("two"), "nb1")
    assert len(fits(snapshot, pod("p", topologySpreadConstraints=spread(1, ZONE)))) == 4
    leaving = pod("one")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    snapshot.place(leaving, "na0")
    assert fits(snapshot, pod("p", topologySpreadConstraints=spread(1, ZONE))) == {"na0", "na1"}


def apart(kind: str, key: str, app: str) -> Obj:
    wanted = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [wanted]}}


def test_pod_anti_affinity_in_both_directions() -> None:
    host = "kubernetes.io/hostname"
    snapshot = cluster(node("a"), node("b"), pods={"a": [pod("db", labels={"app": "db"})]})
    assert fits(snapshot, pod("p", affinity=apart("podAntiAffinity", host, "db"))) == {"b"}
    assert fits(snapshot, pod("p", affinity=apart("podAntiAffinity", host, "db"), namespace="other")) == {"a", "b"}
    snapshot.place(pod("shy", labels={"app": "shy"}, affinity=apart("podAntiAffinity", host, "web")), "b")
    decision = choose(snapshot, pod("q"))
    assert decision.node == "a"
    assert decision.reasons["b"] == ["node(s) didn't satisfy existing pods anti-affinity rules"]
    snapshot.remove("uid-default-shy")
    assert fits(snapshot, pod("q")) == {"a", "b"}


def test_pod_affinity() -> None:
    snapshot = cluster(node("a", labels={ZONE: "1"}), node("b", labels={ZONE: "1"}), node("c", labels={ZONE: "2"}))
    near = pod("p", labels={"app": "cache"}, affinity=apart("podAffinity", ZONE, "web"))
    assert choose(snapshot, near).node == ""
    assert fits(snapshot, pod("p", affinity=apart("podAffinity", ZONE, "web"))) == {"a", "b", "c"}
    snapshot.place(pod("web"), "a")
    assert fits(snapshot, near) == {"a", "b"}
