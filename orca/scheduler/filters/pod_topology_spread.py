"""PodTopologySpread, constraints with DoNotSchedule: no domain may have `maxSkew` pods more than the emptiest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from orca.scheduler.filters.base import Failure, Filter, Task
from orca.scheduler.filters.node_affinity import wanted_nodes
from orca.scheduler.filters.taint_toleration import tolerated_nodes
from orca.scheduler.shape import Spread
from orca.scheduler.snapshot import HOSTNAME, Ints, Mask, Snapshot

ZONE = "topology.kubernetes.io/zone"
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
    # Rows without the label are -1: theirs is the sum that is left out.
    return np.bincount(domain + 1, weights=counts * counted, minlength=size + 1)[1:].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Defaults:
    """A profile's constraints for pods that name none: (topology key, maxSkew, whether hard) each. `system`:
    kube-scheduler's own, for which a node without the label is as good as any."""

    constraints: tuple[tuple[str, int, bool], ...] = ((HOSTNAME, 3, False), (ZONE, 5, False))
    system: bool = True

    def of(self, task: Task) -> tuple[Spread, ...]:
        """The constraints that hold for a pod."""
        if task.shape.spread or task.default_selector is None:
            return task.shape.spread
        selector = task.default_selector
        return tuple(Spread(topology, skew, selector, hard) for topology, skew, hard in self.constraints)


SYSTEM = Defaults()


class PodTopologySpread(Filter):
    name = "PodTopologySpread"

    def __init__(self, defaults: Defaults = SYSTEM) -> None:
        self._defaults = defaults
        self._hard_defaults = any(hard for _, _, hard in defaults.constraints)

    def constraints(self, task: Task) -> list[Spread]:
        """Those that a node must not violate."""
        if not task.shape.spread and not self._hard_defaults:
            return []
        return [one for one in self._defaults.of(task) if one.hard]

    def concerns(self, task: Task, snapshot: Snapshot) -> bool:
        return bool(self.constraints(task))

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        return not self.constraints(task) or super().allows(task, snapshot, slot)

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        constraints = self.constraints(task)
        if not constraints:
            return
        topologies = [snapshot.topology(one.topology_key) for one in constraints]
        labelled = snapshot.alive.copy()
        for topology in topologies:
            labelled &= topology.domain >= 0
        yield Failure(among & ~labelled, f"{REASON} (missing required label)", final=True)
        failed = np.zeros(snapshot.size, dtype=bool)
        for constraint, topology in zip(constraints, topologies, strict=True):
            if not topology.size:
                continue
            counted = counted_nodes(task, snapshot, constraint) & labelled
            counts = snapshot.matching(task.namespace, constraint.selector)
            domains = topology.domain[counted]
            totals = np.bincount(domains, weights=counts[counted], minlength=topology.size)
            present = np.bincount(domains, minlength=topology.size) > 0
            enough = np.count_nonzero(present) >= max(constraint.min_domains, 1)
            least = totals[present].min() if enough else 0
            itself = int(constraint.selector.matches(task.labels))
            failed |= (totals + itself - least > constraint.max_skew)[topology.domain]
        yield Failure(failed & among & labelled, REASON, final=False)
