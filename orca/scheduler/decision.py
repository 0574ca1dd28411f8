"""One decision: which node, or why none. Pure: a snapshot and a pod in, an explanation out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from orca.scheduler.filters import FILTERS, Task
from orca.scheduler.scores import SCORES
from orca.scheduler.snapshot import Floats, Rows, Snapshot

NO_NODES = "no nodes available to schedule pods"


@dataclass(slots=True)
class Decision:
    """`node` is "" when none fits. `reasons`: node -> why it failed; `scores`: rule -> node -> 0 to 100, of nodes that
    fit; `rules` names the filters that failed any node; `whole`: the reason when it is the pod's and no node's."""

    pod: str
    nodes: int
    node: str = ""
    at: datetime | None = None
    reasons: dict[str, list[str]] = field(default_factory=dict)
    final: set[str] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    preemption: str = ""
    whole: str = ""

    def message(self) -> str:
        """As kube-scheduler tells it."""
        if not self.nodes:
            return NO_NODES
        counts = Counter(reason for reasons in self.reasons.values() for reason in reasons)
        listed = [self.whole] if self.whole else sorted(f"{count} {reason}" for reason, count in counts.items())
        text = f"0/{self.nodes} nodes are available: {', '.join(listed)}."
        # Upstream's plugin for dynamic resources speaks first, also where nothing asks for any.
        return f"{text} no new claims to deallocate, preemption: {self.preemption}" if self.preemption else text


def decide(task: Task, snapshot: Snapshot, turn: int = 0) -> Decision:
    """The best node, without removing anybody. Among equals the choice rotates with `turn`: none is always first."""
    decision = Decision(task.key, len(snapshot.slots))
    fits = snapshot.alive.copy()
    for rule in FILTERS:
        failed = np.zeros(snapshot.size, dtype=bool)
        for failure in rule.check(task, snapshot, fits):
            if not failure.nodes.any():
                continue
            failed |= failure.nodes
            decision.rules.add(rule.name)
            if failure.whole:
                decision.whole = failure.reason
            for slot in np.flatnonzero(failure.nodes):
                node = snapshot.nodes[slot]
                assert node is not None
                decision.reasons.setdefault(node.name, []).append(failure.reason)
                if failure.final:
                    decision.final.add(node.name)
        fits &= ~failed
        if not fits.any():
            return decision
    rows = np.flatnonzero(fits)
    decision.node = _best(task, snapshot, rows, turn, decision)
    return decision


def _best(task: Task, snapshot: Snapshot, rows: Rows, turn: int, decision: Decision) -> str:
    totals: Floats = np.zeros(len(rows))
    if len(rows) > 1:
        for score in SCORES:
            rated = score.rate(task, snapshot, rows)
            if rated is None:
                continue
            # Whole points, as kube-scheduler counts them: nodes that differ by less are equals.
            rated = np.floor(rated)
            totals += score.weight * rated
            if len(rows) <= EXPLAINED:
                decision.scores[score.name] = {_name(snapshot, slot): float(one) for slot, one in zip(rows, rated)}  # noqa: B905
    equals = np.flatnonzero(totals == totals.max())
    return _name(snapshot, rows[equals[turn % len(equals)]])


EXPLAINED = 20
"""With more nodes than this the scores of a success are not kept."""


def _name(snapshot: Snapshot, slot: int) -> str:
    node = snapshot.nodes[slot]
    assert node is not None
    return node.name
