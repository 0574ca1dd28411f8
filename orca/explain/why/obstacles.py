"""What one rule has against one node: by how much the pod falls short there, and what would change that. Pure.

The rules themselves are the scheduler's; what is told beyond their reasons is worked out from the same snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from orca.api.selectors import Requirement
from orca.explain.why.amounts import shown
from orca.explain.why.findings import Obstacle
from orca.scheduler.filters import Filter, Task
from orca.scheduler.filters.inter_pod_affinity import meets
from orca.scheduler.filters.node_affinity import ENFORCED
from orca.scheduler.filters.node_ports import clash
from orca.scheduler.filters.pod_topology_spread import PodTopologySpread, counted_nodes, per_domain
from orca.scheduler.filters.taint_toleration import untolerated
from orca.scheduler.snapshot import PODS, Node, Placed, Snapshot

_OWN_TAINTS = {
    "node.kubernetes.io/not-ready": "the host is not ready: see kubectl describe node",
    "node.kubernetes.io/unreachable": "the host does not answer: bring it, or its agent, back",
    "node.kubernetes.io/network-unavailable": "the host's network is not set up: see kubectl describe node",
    "node.kubernetes.io/memory-pressure": "free memory on the host",
    "node.kubernetes.io/disk-pressure": "free disk space on the host",
    "node.kubernetes.io/pid-pressure": "end processes on the host",
    "node.kubernetes.io/unschedulable": "",  # told by NodeUnschedulable
}
_EASY, _MIDDLE, _HARD = 1.0, 3.0, 10.0
"""A label or a toleration; other pods or the pod's own size; a host that does not work, or is too small."""

Told = Iterator[tuple[str, str, float]]
"""(says, fix, effort)"""


def obstacles(rule: Filter, reasons: Sequence[str], task: Task, snapshot: Snapshot, slot: int) -> list[Obstacle]:
    """Of a node that fails a rule for reasons of the scheduler's."""
    node = snapshot.nodes[slot]
    assert node is not None
    if ENFORCED in reasons:
        fix = "use another schedulerName, or change addedAffinity in the scheduler's configuration"
        return [Obstacle(rule.name, "the scheduler's profile asks for other nodes (addedAffinity)", fix, _HARD)]
    tell = _TELLERS.get(rule.name)
    details = list(tell(rule, task, snapshot, node, slot, reasons)) if tell is not None else []
    return [Obstacle(rule.name, *one) for one in details or ((one, _FIXES.get(one, ""), _HARD) for one in reasons)]


_FIXES = {
    "node(s) didn't match PersistentVolume's node affinity": "its volume is on another node: let the pod go there",
    "node(s) had no available volume zone": "its volume is in another zone: let the pod go there",
    "node(s) didn't find available persistent volumes to bind": (
        "make a PersistentVolume that this node reaches, or use a class that makes volumes here"
    ),
    "node(s) exceed max volume count": "end pods with such volumes there",
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)": "its volume is gone: make a new claim",
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode": (
        "end the pod that uses the claim"
    ),
}


def _unschedulable(rule: Filter, task: Task, snapshot: Snapshot, node: Node, slot: int, reasons: Sequence[str]) -> Told:
    yield "it is cordoned", f"kubectl uncordon {node.name}", _EASY


def _named(rule: Filter, task: Task, snapshot: Snapshot, node: Node, slot: int, reasons: Sequence[str]) -> Told:
    yield "the pod asks for another node by name", "take spec.nodeName away", _MIDDLE


def _taints(rule: Filter, task: Task, snapshot: Snapshot, node: Node, slot: int, reasons: Sequence[str]) -> Told:
    for taint in untolerated(task.shape.tolerations, node):
        own = _OWN_TAINTS.get(taint["key"])
        if own == "":
            continue
        value = f"={taint['value']}" if taint.get("value") else ""
        text = f"{taint['key']}{value}:{taint['effect']}"
        fix = own or f"tolerate the taint {text}, or: kubectl taint nodes {node.name} {text}-"
        yield f"its taint {text} is not tolerated", fix, _HARD if own else _EASY


def _affinity(rule: Filter, task: Task, snapshot: Snapshot, node: Node, slot: int, reasons: Sequence[str]) -> Told:
    for one in task.shape.selector:
        if not one.matches(node.labels):
            wanted = next(iter(one.values))
            has = node.labels.get(one.key)
            found = "none" if has is None else f"{one.key}={has}"
            says = f"the pod wants the label {one.key}={wanted}, the node has {found}"
            overwrite = "" if has is None else " --overwrite"
            yield says, f"kubectl label node {node.name} {one.key}={wanted}{overwrite}", _EASY
    terms = task.shape.required_nodes
    if terms is None or any(term.matches(node.name, node.labels) for term in terms):
        return
    # Any of the terms would do: the nearest one tells what is missing.
    missing = []
    for term in terms:
        unmet = [one for one in term.labels if not one.matches(node.labels)]
        fields = [str(one) for one in term.fields if not one.matches({"metadata.name": node.name})]
        missing.append((len(unmet) + 2 * len(fields), unmet, fields))
    if not missing:
        yield "required node affinity: it has no term, so no node meets it", "give the affinity a term", _MIDDLE
        return
    _, unmet, fields = min(missing, key=lambda one: one[0])
    says = f"required node affinity: not {', '.join([*map(str, unmet), *fields]) or 'an empty term'}"
    labels = [_label_for(one) for one in unmet]
    if unmet and not fields and all(labels):
        replaced = " --overwrite" if any(one.key in node.labels for one in unmet) else ""
        yield says, f"kubectl label node {node.name} {' '.join(labels)}{replaced}", _EASY * len(labels)
    else:
        yield says, "label the node, or widen the affinity", _MIDDLE


def _label_for(one: Requirement) -> str:
    """The argument of ``kubectl label`` that meets a requirement; "" when no one value does."""
    if one.operator == "in" and one.values:
        return f"{one.key}={min(one.values)}"
    return {"exists": f"{one.key}=", "!": f"{one.key}-", "notin": f"{one.key}-"}.get(one.operator, "")


def _ports(rule: Filter, task: Task, snapshot: Snapshot, node: Node, slot: int, reasons: Sequence[str]) -> Told:
    for wanted in task.shape.ports:
        for placed in snapshot.by_node.get(node.name, {}).values():
            if any(clash(wanted, taken) for taken in placed.shape.ports):
                says = f"host port {wanted[2]}/{wanted[1]} is pod {placed.key}'s"
                yield says, f"use another hostPort, or a Service; or end pod {placed.key}", _MIDDLE


def _resources(rule: Filter, task: Task, snapshot: Snapshot, node: Node, slot: int, reasons: Sequence[str]) -> Told:
    if snapshot.used[slot, PODS] + 1 > snapshot.allocatable[slot, PODS]:
        most = int(snapshot.allocatable[slot, PODS])
        yield f"it has all {most} pods it may have", "end a pod there, or raise maxPods of its agent", _MIDDLE
    for resource, amount in task.shape.requests.items():
        if f"Insufficient {resource}" not in reasons:
            continue  # there is enough, or the profile does not care
        column = snapshot.column(resource)
        whole, used = int(snapshot.allocatable[slot, column]), int(snapshot.used[slot, column])
        short = used + amount - whole
        if short <= 0:
            continue
        free = max(whole - used, 0)
        asked, left, total, missing = (shown(resource, one) for one in (amount, free, whole, short))
        says = f"{resource}: asks for {asked}, {left} of {total} are free: {missing} short"
        if not whole and resource not in ("cpu", "memory", "ephemeral-storage"):
            yield f"it has no {resource}: asks for {asked}", f"use a node that offers {resource}", _HARD
            continue
        fixes = [f"lower requests.{resource} from {asked} to {left}"] if free else []
        if amount <= whole and (victim := _smallest(snapshot, node, column, short)) is not None:
            fixes.append(f"free {missing} there (pod {victim[0]} asks for {shown(resource, victim[1])})")
        elif amount <= whole:
            fixes.append(f"free {missing} there")
        elif not free:
            fixes.append(f"lower requests.{resource} from {asked} to {total} at most, and free that there")
        # The less the pod has to give up, the smaller the change; a node that is too small even when empty is no hope.
        share = short / amount
        yield says, ", or ".join(fixes), (_MIDDLE if amount <= whole else _HARD / 2) + 4 * share


def _smallest(snapshot: Snapshot, node: Node, column: int, short: int) -> tuple[str, int] | None:
    """The pod there that asks for the least that would be enough: (its key, how much)."""
    found: list[tuple[int, str]] = []
    for placed in snapshot.by_node.get(node.name, {}).values():
        asks = _asks(snapshot, placed, column)
        if asks >= short:
            found.append((asks, placed.key))
    if not found:
        return None
    asks, key = min(found)
    return key, asks


def _asks(snapshot: Snapshot, placed: Placed, column: int) -> int:
    return sum(amount for name, amount in placed.shape.requests.items() if snapshot.column(name) == column)


def _spread(rule: Filter, task: Task, snapshot: Snapshot, node: Node, slot: int, reasons: Sequence[str]) -> Told:
    constraints = rule.constraints(task) if isinstance(rule, PodTopologySpread) else task.shape.spread
    for constraint in constraints:
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
            fix = (
                f"raise maxSkew from {constraint.max_skew} to {would - least}, or use whenUnsatisfiable: ScheduleAnyway"
            )
            yield says, fix, _MIDDLE


def _other_pods(rule: Filter, task: Task, snapshot: Snapshot, node: Node, slot: int, reasons: Sequence[str]) -> Told:
    for term in task.shape.affinity:
        domain = snapshot.topology(term.topology_key).domain
        if domain[slot] < 0:
            fix = f"kubectl label node {node.name} {term.topology_key}=…"
            yield f"pod affinity: the node has no label {term.topology_key}", fix, _EASY
            continue
        if not any(
            meets(snapshot, term, placed) and _same(snapshot, domain, placed.node, slot)
            for placed in snapshot.placed.values()
        ):
            says = f"pod affinity: no pod with {term.selector} is in its {term.topology_key}"
            yield says, "start such a pod there, or make the affinity preferred", _MIDDLE
    for term in task.shape.anti_affinity:
        domain = snapshot.topology(term.topology_key).domain
        for placed in snapshot.placed.values():
            if meets(snapshot, term, placed) and _same(snapshot, domain, placed.node, slot):
                says = f"pod anti-affinity: pod {placed.key} with {term.selector} is in its {term.topology_key}"
                yield says, "add a host, or make the anti-affinity preferred", _MIDDLE
                break
    for placed in snapshot.placed.values():
        for term in placed.shape.anti_affinity:
            domain = snapshot.topology(term.topology_key).domain
            if (
                snapshot.concerns(term, task.namespace)
                and term.selector.matches(task.labels)
                and _same(snapshot, domain, placed.node, slot)
            ):
                says = f"pod {placed.key} there wants no pod with {term.selector} in its {term.topology_key}"
                yield says, f"change the anti-affinity of pod {placed.key}", _MIDDLE
                return


def _same(snapshot: Snapshot, domain: np.ndarray[tuple[int], np.dtype[np.int64]], other: str, slot: int) -> bool:
    there = snapshot.slots.get(other)
    return there is not None and domain[there] >= 0 and bool(domain[there] == domain[slot])


_TELLERS: dict[str, Callable[[Filter, Task, Snapshot, Node, int, Sequence[str]], Told]] = {
    "NodeUnschedulable": _unschedulable,
    "NodeName": _named,
    "TaintToleration": _taints,
    "NodeAffinity": _affinity,
    "NodePorts": _ports,
    "NodeResourcesFit": _resources,
    "PodTopologySpread": _spread,
    "InterPodAffinity": _other_pods,
}
