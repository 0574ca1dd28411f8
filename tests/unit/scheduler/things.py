"""Nodes and pods for the scheduler's tests."""

from __future__ import annotations

from typing import Any

from orca.api.objects import Obj
from orca.scheduler.decision import Decision, decide
from orca.scheduler.filters import Task
from orca.scheduler.preemption import find
from orca.scheduler.snapshot import Snapshot


def node(name: str, cpu: str = "4", memory: str = "8Gi", pods: int = 110, **spec: Any) -> Obj:
    labels = {"kubernetes.io/hostname": name, **spec.pop("labels", {})}
    images = spec.pop("images", [])
    allocatable = {"cpu": cpu, "memory": memory, "pods": str(pods), **spec.pop("more", {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "uid": f"uid-{name}"},
        "spec": spec,
        "status": {"allocatable": allocatable, "images": images},
    }


def pod(name: str, cpu: str = "", memory: str = "", ports: tuple[int, ...] = (), **spec: Any) -> Obj:
    labels = spec.pop("labels", {"app": "web"})
    namespace = spec.pop("namespace", "default")
    requests = {"cpu": cpu, "memory": memory}
    container = {
        "name": "main",
        "image": spec.pop("image", "nginx"),
        "resources": {"requests": {key: value for key, value in requests.items() if value}},
        "ports": [{"containerPort": port, "hostPort": port} for port in ports],
    }
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def cluster(*nodes: Obj, pods: dict[str, list[Obj]] | None = None) -> Snapshot:
    """A snapshot of nodes, and of pods by node name."""
    snapshot = Snapshot()
    for one in nodes:
        snapshot.set_node(one)
    for name, placed in (pods or {}).items():
        for one in placed:
            snapshot.place(one, name)
    return snapshot


def choose(snapshot: Snapshot, wanted: Obj, turn: int = 0) -> Decision:
    """A decision that also tells what preemption found."""
    decision = decide(Task.of(wanted), snapshot, turn)
    if not decision.node:
        decision.preemption = find(Task.of(wanted), snapshot, decision, lambda pods: set()).message
    return decision


def fits(snapshot: Snapshot, wanted: Obj) -> set[str]:
    """Nodes no rule excludes."""
    failed = set(choose(snapshot, wanted).reasons)
    return set(snapshot.slots) - failed


def term(key: str, operator: str, *values: str) -> Obj:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def required(*terms: Obj) -> Obj:
    """Affinity to nodes; each term is one alternative."""
    alternatives = [{"matchExpressions": [one]} for one in terms]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": alternatives}}}
