"""Preferred node affinity and preferred (anti-)affinity to other pods."""

from __future__ import annotations

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.filters.inter_pod_affinity import carrying
from orca.scheduler.scores.base import scaled, stretched
from orca.scheduler.shape import NodeTerm
from orca.scheduler.snapshot import PREFERRED, REQUIRED, Floats, Ints, Rows, Snapshot


def node_affinity(
    task: Task, snapshot: Snapshot, rows: Rows, added: tuple[tuple[int, NodeTerm], ...] = ()
) -> Floats | None:
    """Sum of the weights of preferred terms a node meets, the pod's and those that the profile adds."""
    preferred = task.shape.preferred_nodes + added
    if not preferred:
        return None

    def answer() -> Floats:
        sums = np.zeros(snapshot.size)
        for slot, node in enumerate(snapshot.nodes):
            if node is not None:
                sums[slot] = sum(weight for weight, term in preferred if term.matches(node.name, node.labels))
        return sums

    return scaled(snapshot.remembered(task.shape, f"preferred nodes {hash(added) if added else 0}", answer)[rows])


def is_drawn(task: Task, snapshot: Snapshot) -> bool:
    """Whether the pod, or one that is there, would like to have something near or far."""
    if task.shape.preferred_affinity:
        return True
    kinds = (PREFERRED, REQUIRED)
    return any(snapshot.terms_about(kind, task.namespace, task.labels) for kind in kinds)


def pod_affinity(
    task: Task, snapshot: Snapshot, rows: Rows, hard_weight: int = 1, ignore_existing: bool = False
) -> Floats | None:
    """Sum of weight times pods in the node's domain; anti-affinity weighs negative.

    Pods that are there have a say, too: those that would like this one near or far, and those that required such ones
    near (`hard_weight` each). `ignore_existing`: not for pods without wishes of their own.
    """
    own = task.shape.preferred_affinity
    weighed: list[tuple[int, str, Ints]] = [(term.weight, term.topology_key, carrying(snapshot, term)) for term in own]
    if own or not ignore_existing:
        for carried in snapshot.terms_about(PREFERRED, task.namespace, task.labels):
            weighed.append((carried[1].weight, carried[1].topology_key, snapshot.carried(carried)))
        if hard_weight:
            for carried in snapshot.terms_about(REQUIRED, task.namespace, task.labels):
                weighed.append((hard_weight, carried[1].topology_key, snapshot.carried(carried)))
    if not weighed:
        return None
    sums = np.zeros(len(rows))
    for weight, key, counts in weighed:
        topology = snapshot.topology(key)
        if not topology.size:
            continue
        labelled = topology.domain >= 0
        totals = np.bincount(topology.domain[labelled], weights=counts[labelled], minlength=topology.size)
        domain = topology.domain[rows]
        sums += np.where(domain >= 0, weight * totals[domain], 0.0)
    return stretched(sums)
