"""Preferred node affinity and preferred (anti-)affinity to other pods."""

from __future__ import annotations

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.filters.inter_pod_affinity import meets
from orca.scheduler.scores.base import scaled, stretched
from orca.scheduler.snapshot import Floats, Placed, Rows, Snapshot


def node_affinity(task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
    """Sum of the weights of preferred terms a node meets."""
    preferred = task.shape.preferred_nodes
    if not preferred:
        return None

    def answer() -> Floats:
        sums = np.zeros(snapshot.size)
        for slot, node in enumerate(snapshot.nodes):
            if node is not None:
                sums[slot] = sum(weight for weight, term in preferred if term.matches(node.name, node.labels))
        return sums

    return scaled(snapshot.remembered(task.shape, "preferred nodes", answer)[rows])


def pod_affinity(task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
    """Sum of weight times pods in the node's domain; anti-affinity weighs negative."""
    terms = task.shape.preferred_affinity
    if not terms:
        return None
    sums = np.zeros(snapshot.size)
    for term in terms:

        def asks(placed: Placed, term=term) -> bool:  # type: ignore[no-untyped-def]
            return meets(snapshot, term, placed)

        counts = snapshot.counts(("one", term), asks)
        topology = snapshot.topology(term.topology_key)
        labelled = topology.domain >= 0
        if topology.size:
            totals = np.bincount(topology.domain[labelled], weights=counts[labelled], minlength=topology.size)
            sums[labelled] += term.weight * totals[topology.domain[labelled]]
    return stretched(sums[rows])
