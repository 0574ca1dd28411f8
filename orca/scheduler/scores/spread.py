"""PodTopologySpread for constraints that only prefer, and kube-scheduler's defaults for pods that name none.

Defaults: siblings (same service or same controller) over hosts with maxSkew 3 and over zones with maxSkew 5.
"""

from __future__ import annotations

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.filters.pod_topology_spread import SYSTEM, Defaults, counted_nodes, per_domain
from orca.scheduler.scores.base import BEST
from orca.scheduler.shape import Spread
from orca.scheduler.snapshot import HOSTNAME, Floats, Rows, Snapshot


def spreads(task: Task, snapshot: Snapshot) -> bool:
    """Whether the pod may have constraints, its own or a profile's."""
    return bool(task.shape.spread) or task.default_selector is not None


def topology_spread(task: Task, snapshot: Snapshot, rows: Rows, defaults: Defaults = SYSTEM) -> Floats | None:
    """The fewer siblings in a node's domains the better; domains weigh by the logarithm of how many there are."""
    constraints = [one for one in defaults.of(task) if not one.hard]
    required = bool(task.shape.spread) or not defaults.system
    if not constraints:
        return None
    if len(constraints) == 1 and constraints[0].topology_key != HOSTNAME:
        rated = _over_one(task, snapshot, rows, constraints[0])
        if rated is not None:
            return rated
    cost = np.zeros(len(rows))
    unlabelled = np.zeros(len(rows), dtype=bool)
    for constraint in constraints:
        counts = snapshot.matching(task.namespace, constraint.selector)
        topology = snapshot.topology(constraint.topology_key)
        domain = topology.domain[rows]
        labelled = domain >= 0
        everywhere = bool(labelled.all())
        if not everywhere:
            unlabelled |= ~labelled
        if not topology.size:
            continue
        if constraint.topology_key == HOSTNAME:
            found = counts[rows] * np.log(len(rows) + 2) + (constraint.max_skew - 1)
        else:
            counted = counted_nodes(task, snapshot, constraint)
            totals = per_domain(topology.domain, topology.size, counted, counts)
            seen = np.bincount(domain if everywhere else domain[labelled], minlength=topology.size)
            weight = np.log(np.count_nonzero(seen) + 2)
            found = (totals * weight + (constraint.max_skew - 1))[domain]
        cost += found if everywhere else np.where(labelled, found, 0.0)
    # Nodes that lack a label of the pod's own constraints are worst, and no measure for the others.
    ignored = unlabelled if required else None
    chosen = cost if ignored is None else cost[~ignored]
    if not len(chosen):
        return None
    cost = np.floor(cost + 0.5)
    chosen = np.floor(chosen + 0.5)
    most, least = chosen.max(), chosen.min()
    rated = np.full(len(rows), BEST) if most <= 0 else BEST * (most + least - cost) / most
    return rated if ignored is None else np.where(ignored, 0.0, rated)


def _over_one(task: Task, snapshot: Snapshot, rows: Rows, constraint: Spread) -> Floats | None:
    """The same over domains that all nodes are in, of which there are mostly few: what is said of one holds for all its
    nodes. None where some node is in none."""
    topology = snapshot.topology(constraint.topology_key)
    domain = topology.domain[rows]
    if not topology.size or domain.min(initial=0) < 0:
        return None
    counts = snapshot.matching(task.namespace, constraint.selector)
    totals = per_domain(topology.domain, topology.size, counted_nodes(task, snapshot, constraint), counts)
    seen = np.bincount(domain, minlength=topology.size) > 0
    weight = np.log(np.count_nonzero(seen) + 2)
    cost = np.floor(totals * weight + (constraint.max_skew - 1) + 0.5)
    most, least = cost[seen].max(), cost[seen].min()
    rated: Floats = np.full(topology.size, BEST) if most <= 0 else BEST * (most + least - cost) / most
    return rated[domain]
