"""Workloads of the scheduler's bench, in the likeness of kube-scheduler's own (``scheduler_perf``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orca.api.objects import Obj

NAMESPACE = "bench"
IMPORTANT = "important"
ZONES = 3
CPU, MEMORY = "4", "32Gi"


def node(number: int) -> Obj:
    """4 CPUs, 32 GiB, 110 pods; three zones; a tenth of all in the pool "special"."""
    name = f"node-{number:05d}"
    labels = {
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": f"zone-{number % ZONES}",
        "pool": "special" if number % 10 == 0 else "common",
    }
    status = {
        "capacity": {"cpu": CPU, "memory": MEMORY, "pods": "110"},
        "allocatable": {"cpu": CPU, "memory": MEMORY, "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated"}],
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def plain(labels: dict[str, str] | None = None, cpu: str = "100m", memory: str = "500Mi", **spec: object) -> Obj:
    """A pod that asks for a little."""
    container = {"name": "main", "image": "pause", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": labels or {"app": "bench"}},
        "spec": {"containers": [container], "automountServiceAccountToken": False, **spec},
    }


def _spread(action: str) -> Obj:
    constraint = {
        "maxSkew": 5,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": action,
        "labelSelector": {"matchLabels": {"app": "spread"}},
    }
    return plain({"app": "spread"}, topologySpreadConstraints=[constraint])


def _node_affinity(_: int) -> Obj:
    term = {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-1"]}]}
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return plain(affinity={"nodeAffinity": wanted})


def _pods(kind: str, colour: str, key: str) -> Obj:
    term = {"labelSelector": {"matchLabels": {"colour": colour}}, "topologyKey": key}
    return plain({"colour": colour}, affinity={kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})


def _affine(_: int) -> Obj:
    return _pods("podAffinity", "blue", "topology.kubernetes.io/zone")


def _apart(_: int) -> Obj:
    return _pods("podAntiAffinity", "green", "kubernetes.io/hostname")


def _mixed(number: int) -> Obj:
    kinds: tuple[Callable[[int], Obj], ...] = (
        lambda _: plain(),
        _node_affinity,
        lambda _: _spread("ScheduleAnyway"),
        _affine,
        _apart,
    )
    return kinds[number % len(kinds)](number)


def _nothing(_: int) -> Iterable[tuple[Obj, str]]:
    return ()


def _full(nodes: int) -> Iterable[tuple[Obj, str]]:
    """Every node has four pods of low priority and no room for a fifth."""
    for number in range(nodes):
        for _ in range(4):
            yield plain({"app": "low"}, cpu="900m", terminationGracePeriodSeconds=0), f"node-{number:05d}"


def _important(_: int) -> Obj:
    return plain({"app": "high"}, cpu="3", priority=1000, priorityClassName=IMPORTANT)


def _huge(_: int) -> Obj:
    return plain({"app": "huge"}, cpu="64")


@dataclass(frozen=True, slots=True)
class Workload:
    """`pod(n)` is the nth to be scheduled; `before(nodes)` what runs already, and where. `peer`: pods/s of
    kube-scheduler v1.36 measured on 2 cores with 5,000 nodes; `threshold`: its project's own lower bound."""

    title: str
    pod: Callable[[int], Obj]
    before: Callable[[int], Iterable[tuple[Obj, str]]] = _nothing
    peer: float | None = None
    threshold: float | None = None
    hopeless: Callable[[int], Obj] | None = None
    """Pods that fit nowhere, a tenth of the others in number, which wait all the time."""
    churn: bool = False
    """Nodes, services and pods come and go meanwhile."""


WORKLOADS = {
    "basic": Workload("basic", lambda _: plain(), peer=180, threshold=270),
    "node-affinity": Workload("node affinity", _node_affinity, peer=116, threshold=220),
    "mixed": Workload("mixed", _mixed, threshold=140),
    "spreading": Workload("topology spreading", lambda _: _spread("DoNotSchedule"), peer=119, threshold=85),
    "preferred-spreading": Workload("preferred spreading", lambda _: _spread("ScheduleAnyway"), threshold=125),
    "pod-affinity": Workload("pod affinity", _affine, peer=53, threshold=35),
    "pod-anti-affinity": Workload("pod anti-affinity", _apart, peer=109, threshold=60),
    "preemption": Workload("preemption", _important, before=_full, threshold=160),
    "unschedulable": Workload("basic among unschedulable", lambda _: plain(), hopeless=_huge),
    "churn": Workload("basic in churn", lambda _: plain(), hopeless=_huge, churn=True),
}
