"""InterPodAffinity: required affinity and anti-affinity to other pods, in both directions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orca.scheduler.filters.base import Failure, Task
from orca.scheduler.shape import PodTerm
from orca.scheduler.snapshot import Ints, Mask, Placed, Snapshot, Topology


class InterPodAffinity:
    name = "InterPodAffinity"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        if task.shape.affinity:
            allowed = self._affinity(task, snapshot)
            yield Failure(among & ~allowed, "node(s) didn't match pod affinity rules", final=True)
            among = among & allowed
        refused = np.zeros(snapshot.size, dtype=bool)
        for term in task.shape.anti_affinity:
            counts = snapshot.counts(("one", term), lambda placed, term=term: meets(snapshot, term, placed))  # type: ignore[misc]
            refused |= occupied(snapshot.topology(term.topology_key), counts)
        if task.shape.anti_affinity:
            yield Failure(among & refused, "node(s) didn't match pod anti-affinity rules", final=False)
            among = among & ~refused
        if snapshot.anti:
            refused = self._refused_by_others(task, snapshot)
            yield Failure(among & refused, "node(s) didn't satisfy existing pods anti-affinity rules", final=False)

    def _affinity(self, task: Task, snapshot: Snapshot) -> Mask:
        terms = task.shape.affinity

        def asks(placed: Placed) -> bool:
            return all(meets(snapshot, term, placed) for term in terms)

        counts = snapshot.counts(("all", terms), asks)
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

    def _refused_by_others(self, task: Task, snapshot: Snapshot) -> Mask:
        refused = np.zeros(snapshot.size, dtype=bool)
        for term, space in snapshot.anti:
            if not snapshot.concerns(term, task.namespace) or not term.selector.matches(task.labels):
                continue

            def asks(placed: Placed, term: PodTerm = term, space: str = space) -> bool:
                return placed.namespace == space and term in placed.shape.anti_affinity

            refused |= occupied(snapshot.topology(term.topology_key), snapshot.counts(("anti", term, space), asks))
        return refused


def meets(snapshot: Snapshot, term: PodTerm, placed: Placed) -> bool:
    """Whether a placed pod is one the term is about."""
    return term.selector.matches(placed.labels) and snapshot.concerns(term, placed.namespace)


def occupied(topology: Topology, counts: Ints) -> Mask:
    """Rows in a domain that has at least one counted pod."""
    labelled = topology.domain >= 0
    if not topology.size:
        return labelled
    totals = np.bincount(topology.domain[labelled], weights=counts[labelled], minlength=topology.size)
    return labelled & (totals[topology.domain] > 0)
