"""PodTopologySpread for constraints that only prefer, and kube-scheduler's defaults for pods that name none.

Defaults: siblings (same service or same controller) over hosts with maxSkew 3 and over zones with maxSkew 5.
"""

from __future__ import annotations

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.filters.pod_topology_spread import counted_nodes, per_domain
from orca.scheduler.scores.base import BEST
from orca.scheduler.shape import Spread
from orca.scheduler.snapshot import HOSTNAME, Floats, Rows, Snapshot

ZONE = "topology.kubernetes.io/zone"


def topology_spread(task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
    """The fewer siblings in a node's domains the better; domains weigh by the logarithm of how many there are."""
    constraints = [one for one in task.shape.spread if not one.hard]
    required = bool(constraints)
    if not task.shape.spread and task.default_selector is not None:
        selector = task.default_selector
        constraints = [Spread(HOSTNAME, 3, selector, False), Spread(ZONE, 5, selector, False)]
    if not constraints:
        return None
    cost = np.zeros(snapshot.size)
    unlabelled = np.zeros(snapshot.size, dtype=bool)
    for constraint in constraints:
        counts = snapshot.matching(task.namespace, constraint.selector)
        if constraint.topology_key == HOSTNAME:
            cost += counts * np.log(len(rows) + 2) + (constraint.max_skew - 1)
            continue
        topology = snapshot.topology(constraint.topology_key)
        labelled = topology.domain >= 0
        unlabelled |= ~labelled
        if not topology.size:
            continue
        counted = counted_nodes(task, snapshot, constraint)
        totals = per_domain(topology.domain, topology.size, counted, counts)
        weight = np.log(len(np.unique(topology.domain[rows][labelled[rows]])) + 2)
        cost += np.where(labelled, totals[topology.domain] * weight + (constraint.max_skew - 1), 0.0)
    chosen = cost[rows]
    most, least = chosen.max(initial=0), chosen.min(initial=0 if not len(chosen) else np.inf)
    if most <= 0:
        return None
    rated = BEST * (most + least - chosen) / most
    if required:
        rated = np.where(unlabelled[rows], 0.0, rated)
    return rated
