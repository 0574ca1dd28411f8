"""Each node × each rule: by how much a pod falls short there, and the smallest change that would let it run. Pure.

The rules are the scheduler's own; what is told beyond their reasons is worked out from the same snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from orca.api.objects import Obj, is_terminating, uid
from orca.api.podphase import is_finished
from orca.api.quantity import Quantity
from orca.explain.why.findings import Finding, NodeVerdict, Obstacle, Placement, World
from orca.scheduler.filters import FILTERS, Task
from orca.scheduler.filters.inter_pod_affinity import meets
from orca.scheduler.filters.node_ports import clash
from orca.scheduler.filters.pod_topology_spread import counted_nodes, per_domain
from orca.scheduler.filters.taint_toleration import untolerated
from orca.scheduler.snapshot import PODS, Node, Snapshot

_OWN_TAINTS = {
    "node.kubernetes.io/not-ready": "the host is not ready: see kubectl describe node",
    "node.kubernetes.io/unreachable": "the host does not answer: bring it, or its agent, back",
    "node.kubernetes.io/memory-pressure": "free memory on the host",
    "node.kubernetes.io/disk-pressure": "free disk space on the host",
    "node.kubernetes.io/pid-pressure": "end processes on the host",
    "node.kubernetes.io/unschedulable": "",  # told by NodeUnschedulable
}
_EASY, _MIDDLE, _HARD = 1, 3, 10

Told = Iterator[tuple[str, str, int]]
"""(says, fix, effort)"""


def snapshot_of(world: World, pod: Obj) -> Snapshot:
    """The cluster as the scheduler sees it when it looks for a node for a pod."""
    snapshot = Snapshot()
    for space in world.namespaces:
        snapshot.set_namespace(space)
    for node in world.nodes:
        snapshot.set_node(node)
    for claim in world.claims:
        snapshot.storage.set_claim(claim)
    for volume in world.volumes:
        snapshot.storage.set_volume(volume)
    for one in world.classes:
        snapshot.storage.set_class(one)
    for one in world.csi_nodes:
        snapshot.storage.set_csi_node(one)
    for other in world.pods:
        if is_finished(other):
            continue
        where, nominated = other["spec"].get("nodeName"), (other.get("status") or {}).get("nominatedNodeName")
        if where:
            snapshot.place(other, where)
        elif nominated and uid(other) != uid(pod) and not is_terminating(other) and _priority(other) >= _priority(pod):
            # Room that was made for others, who have not come yet, is theirs.
            snapshot.place(other, nominated, awaited=True)
    return snapshot


def _priority(pod: Obj) -> int:
    return int(pod["spec"].get("priority") or 0)


def judge(pod: Obj, world: World) -> Placement:
    """Put a pod that has no node to every rule on every node."""
    snapshot = snapshot_of(world, pod)
    task = Task.of(pod)
    if not snapshot.slots:
        return Placement(whole=(Finding("there is no node", "join a host: see the README"),))
    whole: dict[str, Finding] = {}
    failing: dict[int, list[Obstacle]] = {slot: [] for slot in snapshot.slots.values()}
    for rule in FILTERS:
        told: set[int] = set()
        for failure in rule.check(task, snapshot, snapshot.alive.copy()):
            if failure.whole:
                whole[failure.reason] = Finding(failure.reason, _claim_fix(failure.reason))
                continue
            for slot in map(int, np.flatnonzero(failure.nodes)):
                if slot in failing and slot not in told:
                    told.add(slot)
                    failing[slot] += _told(rule.name, failure.reason, task, snapshot, slot)
    verdicts, fits = [], []
    for node_name, slot in sorted(snapshot.slots.items()):
        if failing[slot]:
            verdicts.append(NodeVerdict(node_name, tuple(failing[slot])))
        else:
            fits.append(node_name)
    return Placement(tuple(verdicts), tuple(whole.values()), () if whole else tuple(fits))


def _told(rule: str, reason: str, task: Task, snapshot: Snapshot, slot: int) -> list[Obstacle]:
    node = snapshot.nodes[slot]
    assert node is not None
    tell = _TELLERS.get(rule)
    details = list(tell(task, snapshot, node, slot)) if tell is not None else []
    return [Obstacle(rule, *one) for one in details or [(reason, "", _HARD)]]


def _claim_fix(reason: str) -> str:
    return "kubectl describe pvc" if "persistentvolumeclaim" in reason.lower() else ""


def _unschedulable(task: Task, snapshot: Snapshot, node: Node, slot: int) -> Told:
    yield "it is cordoned", f"kubectl uncordon {node.name}", _EASY


def _named(task: Task, snapshot: Snapshot, node: Node, slot: int) -> Told:
    yield "the pod asks for another node by name", "take spec.nodeName away", _MIDDLE


def _taints(task: Task, snapshot: Snapshot, node: Node, slot: int) -> Told:
    for taint in untolerated(task.shape.tolerations, node):
        fix = _OWN_TAINTS.get(taint["key"])
        if fix == "":
            continue
        value = f"={taint['value']}" if taint.get("value") else ""
        shown = f"{taint['key']}{value}:{taint['effect']}"
        own = fix or f"let the pod tolerate it, or: kubectl taint nodes {node.name} {shown}-"
        yield f"its taint {shown} is not tolerated", own, _HARD if fix else _EASY


def _affinity(task: Task, snapshot: Snapshot, node: Node, slot: int) -> Told:
    for one in task.shape.selector:
        if not one.matches(node.labels):
            wanted = next(iter(one.values))
            has = node.labels.get(one.key)
            shown = "none" if has is None else f"{one.key}={has}"
            says = f"the pod wants the label {one.key}={wanted}, the node has {shown}"
            yield says, f"kubectl label node {node.name} {one.key}={wanted}{' --overwrite' if has else ''}", _EASY
    terms = task.shape.required_nodes
    if terms is not None and not any(term.matches(node.name, node.labels) for term in terms):
        for term in terms:
            missed = [str(one) for one in term.labels if not one.matches(node.labels)]
            missed += [str(one) for one in term.fields if not one.matches({"metadata.name": node.name})]
            yield (
                f"required node affinity: not {', '.join(missed) or 'an empty term'}",
                "label the node, or widen the affinity",
                _MIDDLE,
            )


def _ports(task: Task, snapshot: Snapshot, node: Node, slot: int) -> Told:
    for wanted in task.shape.ports:
        for placed in snapshot.by_node.get(node.name, {}).values():
            if any(clash(wanted, taken) for taken in placed.shape.ports):
                says = f"host port {wanted[2]}/{wanted[1]} is pod {placed.key}'s"
                yield says, f"use another hostPort, or a Service; or end pod {placed.key}", _MIDDLE


def _resources(task: Task, snapshot: Snapshot, node: Node, slot: int) -> Told:
    if snapshot.used[slot, PODS] + 1 > snapshot.allocatable[slot, PODS]:
        most = int(snapshot.allocatable[slot, PODS])
        yield f"it has all {most} pods it may have", "end pods there, or raise maxPods of its agent", _MIDDLE
    for resource, amount in task.shape.requests.items():
        column = snapshot.column(resource)
        whole, used = int(snapshot.allocatable[slot, column]), int(snapshot.used[slot, column])
        short = used + amount - whole
        if short <= 0:
            continue
        free = max(whole - used, 0)
        asked, left, total, missing = (_amount(resource, one) for one in (amount, free, whole, short))
        says = f"{resource}: asks for {asked}, {left} of {total} are free: {missing} short"
        if amount > whole:
            yield says, f"ask for at most {total}: the node never has more", _HARD
        elif free:
            yield says, f"ask for at most {left}, or free {missing} there", _MIDDLE
        else:
            yield says, f"free {missing} there", _MIDDLE


def _amount(resource: str, amount: int) -> str:
    if resource == "cpu":
        return str(Quantity.parse(f"{amount}m"))
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        for unit, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
            if amount >= size:
                return f"{amount / size:.4g}{unit}"
    return str(amount)


def _spread(task: Task, snapshot: Snapshot, node: Node, slot: int) -> Told:
    for constraint in task.shape.spread:
        if not constraint.hard:
            continue
        topology = snapshot.topology(constraint.topology_key)
        here = int(topology.domain[slot])
        if here < 0:
            says = f"topology spread: the node has no label {constraint.topology_key}"
            yield says, f"kubectl label node {node.name} {constraint.topology_key}=…", _EASY
            continue
        counted = counted_nodes(task, snapshot, constraint) & (topology.domain >= 0)
        totals = per_domain(
            topology.domain, topology.size, counted, snapshot.matching(task.namespace, constraint.selector)
        )
        present = np.unique(topology.domain[counted])
        least = int(totals[present].min()) if len(present) >= constraint.min_domains and len(present) else 0
        would = int(totals[here]) + int(constraint.selector.matches(task.labels))
        if would - least > constraint.max_skew:
            where = f"{constraint.topology_key}={topology.names[here]}"
            more = f"{would - least} more than the emptiest; maxSkew is {constraint.max_skew}"
            says = f"topology spread: {where} would have {would} such pods, {more}"
            yield says, f"raise maxSkew to {would - least}, or use whenUnsatisfiable: ScheduleAnyway", _MIDDLE


def _other_pods(task: Task, snapshot: Snapshot, node: Node, slot: int) -> Told:
    for term in task.shape.affinity:
        domain = snapshot.topology(term.topology_key).domain
        if domain[slot] < 0:
            yield (
                f"pod affinity: the node has no label {term.topology_key}",
                f"kubectl label node {node.name} {term.topology_key}=…",
                _EASY,
            )
            continue
        if not any(
            meets(snapshot, term, placed) and _same(snapshot, domain, placed.node, slot)
            for placed in snapshot.placed.values()
        ):
            yield (
                f"pod affinity: no pod with {term.selector} is in its {term.topology_key}",
                "start such a pod there, or make the affinity preferred",
                _MIDDLE,
            )
    for term in task.shape.anti_affinity:
        domain = snapshot.topology(term.topology_key).domain
        for placed in snapshot.placed.values():
            if meets(snapshot, term, placed) and _same(snapshot, domain, placed.node, slot):
                yield (
                    f"pod anti-affinity: pod {placed.key} with {term.selector} is in its {term.topology_key}",
                    "add a host, or make the anti-affinity preferred",
                    _MIDDLE,
                )
                break
    for placed in snapshot.placed.values():
        for term in placed.shape.anti_affinity:
            domain = snapshot.topology(term.topology_key).domain
            if (
                snapshot.concerns(term, task.namespace)
                and term.selector.matches(task.labels)
                and _same(snapshot, domain, placed.node, slot)
            ):
                yield (
                    f"pod {placed.key} there wants no pod with {term.selector} in its {term.topology_key}",
                    f"change the anti-affinity of pod {placed.key}",
                    _MIDDLE,
                )
                return


def _same(snapshot: Snapshot, domain: np.ndarray[tuple[int], np.dtype[np.int64]], other: str, slot: int) -> bool:
    there = snapshot.slots.get(other)
    return there is not None and domain[there] >= 0 and bool(domain[there] == domain[slot])


_TELLERS: dict[str, Callable[[Task, Snapshot, Node, int], Told]] = {
    "NodeUnschedulable": _unschedulable,
    "NodeName": _named,
    "TaintToleration": _taints,
    "NodeAffinity": _affinity,
    "NodePorts": _ports,
    "NodeResourcesFit": _resources,
    "PodTopologySpread": _spread,
    "InterPodAffinity": _other_pods,
}
