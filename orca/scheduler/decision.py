"""One decision: which node, or why none. Pure: a snapshot and a pod in, an explanation out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from orca.scheduler.filters import Failure, Task
from orca.scheduler.profile import DEFAULT, Profile
from orca.scheduler.snapshot import Floats, Mask, Rows, Snapshot
from orca.scheduler.standing import NO, standing

NO_NODES = "no nodes available to schedule pods"
EXPLAINED = 20
"""With more nodes than this, scores and failures of a success are not kept."""


@dataclass(slots=True)
class Decision:
    """`node` is "" when none fits. `failures`: which rows failed which rule; `scores`: rule -> node -> 0 to 100, of
    nodes that fit; `rules` names the filters that failed any node; `whole`: the reason when it is the pod's and no
    node's. `names`: of the nodes by row, as they were."""

    pod: str
    nodes: int
    names: tuple[str, ...] = ()
    node: str = ""
    at: datetime | None = None
    failures: list[Failure] = field(default_factory=list)
    rules: set[str] = field(default_factory=set)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    preemption: str = ""
    whole: str = ""

    @property
    def reasons(self) -> dict[str, list[str]]:
        """Node -> why it failed."""
        found: dict[str, list[str]] = {}
        for failure in self.failures:
            for slot in np.flatnonzero(failure.nodes):
                found.setdefault(self.names[slot], []).append(failure.reason)
        return found

    @property
    def final(self) -> set[str]:
        """Nodes that ending other pods would not help."""
        return {
            self.names[slot] for failure in self.failures if failure.final for slot in np.flatnonzero(failure.nodes)
        }

    def hopeful(self) -> Mask:
        """Rows of nodes that failed, and that ending other pods might help."""
        hopeful: Mask = np.zeros(len(self.names), dtype=bool)
        for failure in self.failures:
            hopeful |= failure.nodes
        for failure in self.failures:
            if failure.final:
                hopeful &= ~failure.nodes
        return hopeful

    def message(self) -> str:
        """As kube-scheduler tells it."""
        if not self.nodes:
            return NO_NODES
        counts: Counter[str] = Counter()
        for failure in self.failures:
            counts[failure.reason] += int(np.count_nonzero(failure.nodes))
        listed = [self.whole] if self.whole else sorted(f"{count} {reason}" for reason, count in counts.items())
        text = f"0/{self.nodes} nodes are available: {', '.join(listed)}."
        # Upstream's plugin for dynamic resources speaks first, also where nothing asks for any.
        return f"{text} no new claims to deallocate, preemption: {self.preemption}" if self.preemption else text


def decide(task: Task, snapshot: Snapshot, turn: int = 0, profile: Profile = DEFAULT, preferred: str = "") -> Decision:
    """The best node, without removing anybody. Among equals the choice rotates with `turn`: none is always first.

    `preferred`: the node where room was made for the pod; it goes there when it fits, whatever the scores say.
    """
    decision = Decision(task.key, len(snapshot.slots), snapshot.names())
    wished = snapshot.slots.get(preferred)
    if wished is not None and all(rule.allows(task, snapshot, wished) for rule in profile.filters):
        decision.node = preferred
        return decision
    if decision.nodes > EXPLAINED and not profile.percentage:
        decision.node = _chosen(task, snapshot, turn, decision, profile)
        if decision.node:
            return decision
    fits = snapshot.alive.copy()
    for rule in profile.filters:
        failed: Mask | None = None
        for failure in rule.check(task, snapshot, fits):
            if not failure.nodes.any():
                continue
            failed = failure.nodes if failed is None else failed | failure.nodes
            decision.rules.add(rule.name)
            if failure.whole:
                decision.whole = failure.reason
            decision.failures.append(failure)
        if failed is not None:
            fits = fits & ~failed
            if not fits.any():
                return decision
    rows = np.flatnonzero(fits)
    if not len(rows):
        return decision
    enough = profile.enough(decision.nodes)
    if len(rows) > enough:
        rows = np.roll(rows, -(turn * enough) % len(rows))[:enough]
    decision.node = _best(task, snapshot, rows, turn, decision, profile)
    if decision.nodes > EXPLAINED:
        decision.failures = []
    return decision


def _chosen(task: Task, snapshot: Snapshot, turn: int, decision: Decision, profile: Profile) -> str:
    """The same node as by all rules one after the other, without what would explain it; "" when none fits."""
    points = standing(task, snapshot, profile)
    rules, rates = profile.around
    around = [rule for rule in rules if rule.concerns(task, snapshot)]
    scores = [score for score in rates if score.speaks is None or score.speaks(task, snapshot)]
    if not around and not scores:
        most = points.max(initial=NO)
        equals = np.flatnonzero(points == most)
        return decision.names[equals[turn % len(equals)]] if most > NO else ""
    fits = points > NO
    for rule in around:
        for failure in rule.check(task, snapshot, fits):
            fits = fits & ~failure.nodes
    rows = np.flatnonzero(fits)
    if not len(rows):
        return ""
    totals = points[rows]
    for score in scores:
        rated = score.rate(task, snapshot, rows)
        if rated is not None:
            totals += score.weight * np.floor(rated)
    equals = np.flatnonzero(totals == totals.max())
    return decision.names[rows[equals[turn % len(equals)]]]


def _best(task: Task, snapshot: Snapshot, rows: Rows, turn: int, decision: Decision, profile: Profile) -> str:
    if len(rows) == 1:
        return decision.names[rows[0]]
    totals: Floats = np.zeros(len(rows))
    for score in profile.scores:
        rated = score.rate(task, snapshot, rows)
        if rated is None:
            continue
        # Whole points, as kube-scheduler counts them: nodes that differ by less are equals.
        rated = np.floor(rated)
        totals += score.weight * rated
        if len(rows) <= EXPLAINED:
            named = (decision.names[slot] for slot in rows)
            decision.scores[score.name] = dict(zip(named, map(float, rated), strict=True))
    equals = np.flatnonzero(totals == totals.max())
    return decision.names[rows[equals[turn % len(equals)]]]
