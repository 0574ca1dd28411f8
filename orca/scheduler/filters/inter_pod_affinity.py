"""InterPodAffinity: required affinity and anti-affinity to other pods, in both directions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orca.scheduler.filters.base import Failure, Filter, Task
from orca.scheduler.shape import PodTerm
from orca.scheduler.snapshot import ANTI, Ints, Mask, Placed, Snapshot, Topology


class InterPodAffinity(Filter):
    name = "InterPodAffinity"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        if task.shape.affinity:
            allowed = self._affinity(task, snapshot)
            yield Failure(among & ~allowed, "node(s) didn't match pod affinity rules", final=True)
            among = among & allowed
        refused = np.zeros(snapshot.size, dtype=bool)
        for term in task.shape.anti_affinity:
            counts = carrying(snapshot, term)
            refused |= occupied(snapshot.topology(term.topology_key), counts)
        if task.shape.anti_affinity:
            yield Failure(among & refused, "node(s) didn't match pod anti-affinity rules", final=False)
            among = among & ~refused
        others = snapshot.terms_about(ANTI, task.namespace, task.labels)
        if others:
            refused = np.zeros(snapshot.size, dtype=bool)
            for carried in others:
                refused |= occupied(snapshot.topology(carried[1].topology_key), snapshot.carried(carried))
            yield Failure(among & refused, "node(s) didn't satisfy existing pods anti-affinity rules", final=False)

    def _affinity(self, task: Task, snapshot: Snapshot) -> Mask:
        terms = task.shape.affinity

        def asks(placed: Placed) -> bool:
            # One that is only awaited may never come.
            return not placed.awaited and all(meets(snapshot, term, placed) for term in terms)

        by_labels = any(term.namespace_selector is not None for term in terms)
        counts = snapshot.counts(("all", terms), terms[0].selector, asks, by_labels)
        topologies = [snapshot.topology(term.topology_key) for term in terms]
        allowed = snapshot.alive.copy()
        for topology in topologies:
            allowed &= topology.domain >= 0
        first_of_its_kind = not counts.any() and all(
            snapshot.concerns(term, task.namespace) and term.selector.matches(task.labels) for term in terms
        )
        if not first_of_its_kind:
            for topology in topologies:
                allowed &= occupied(topology, counts)
        return allowed

    def concerns(self, task: Task, snapshot: Snapshot) -> bool:
        shape = task.shape
        if shape.affinity or shape.anti_affinity:
            return True
        return bool(snapshot.terms_about(ANTI, task.namespace, task.labels))

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        return not self.concerns(task, snapshot) or super().allows(task, snapshot, slot)


def meets(snapshot: Snapshot, term: PodTerm, placed: Placed) -> bool:
    """Whether a placed pod is one the term is about."""
    return term.selector.matches(placed.labels) and snapshot.concerns(term, placed.namespace)


def carrying(snapshot: Snapshot, term: PodTerm) -> Ints:
    """Pods per row that a term is about."""

    def asks(placed: Placed) -> bool:
        return meets(snapshot, term, placed)

    return snapshot.counts(("one", term), term.selector, asks, term.namespace_selector is not None)


def occupied(topology: Topology, counts: Ints) -> Mask:
    """Rows in a domain that has at least one counted pod."""
    if not topology.size:
        return np.zeros(len(topology.domain), dtype=bool)
    # Few nodes have such a pod: to mark their domains takes less than to sum up all of them.
    taken: Mask = np.zeros(topology.size + 1, dtype=bool)
    taken[topology.domain[np.flatnonzero(counts)]] = True
    taken[-1] = False  # where -1, no domain, points to
    return taken[topology.domain]
