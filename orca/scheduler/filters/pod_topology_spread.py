"""PodTopologySpread, constraints with DoNotSchedule: no domain may have `maxSkew` pods more than the emptiest."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orca.scheduler.filters.base import Failure, Task
from orca.scheduler.filters.node_affinity import wanted_nodes
from orca.scheduler.filters.taint_toleration import tolerated_nodes
from orca.scheduler.shape import Spread
from orca.scheduler.snapshot import Ints, Mask, Snapshot

REASON = "node(s) didn't match pod topology spread constraints"


def counted_nodes(task: Task, snapshot: Snapshot, constraint: Spread) -> Mask:
    """Rows whose pods count for a constraint."""
    counted = snapshot.alive.copy()
    if constraint.honor_affinity:
        counted &= wanted_nodes(task.shape, snapshot)
    if constraint.honor_taints:
        counted &= tolerated_nodes(task, snapshot)
    return counted


def per_domain(domain: Ints, size: int, counted: Mask, counts: Ints) -> Ints:
    """Sum of `counts` over the counted rows of each domain."""
    rows = counted & (domain >= 0)
    return np.bincount(domain[rows], weights=counts[rows], minlength=size).astype(np.int64)


class PodTopologySpread:
    name = "PodTopologySpread"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        constraints = [one for one in task.shape.spread if one.hard]
        if not constraints:
            return
        topologies = [snapshot.topology(one.topology_key) for one in constraints]
        labelled = snapshot.alive.copy()
        for topology in topologies:
            labelled &= topology.domain >= 0
        yield Failure(among & ~labelled, f"{REASON} (missing required label)", final=True)
        failed = np.zeros(snapshot.size, dtype=bool)
        for constraint, topology in zip(constraints, topologies, strict=True):
            counted = counted_nodes(task, snapshot, constraint) & labelled
            counts = snapshot.matching(task.namespace, constraint.selector)
            totals = per_domain(topology.domain, topology.size, counted, counts)
            present = np.unique(topology.domain[counted])
            least = int(totals[present].min()) if len(present) >= constraint.min_domains and len(present) else 0
            itself = int(constraint.selector.matches(task.labels))
            if topology.size:
                failed |= totals[topology.domain] + itself - least > constraint.max_skew
        yield Failure(failed & among & labelled, REASON, final=False)
