"""Making room for a pod by ending pods of lower priority, as few and as unimportant as possible.

Reference: kube-scheduler's DefaultPreemption (facts). Pure: the snapshot is changed to see what would be, and is as
before when `find` returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from orca.scheduler.decision import Decision
from orca.scheduler.filters import FILTERS, Task
from orca.scheduler.snapshot import Placed, Snapshot

HELPLESS = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER = "not eligible due to preemptionPolicy=Never."
CANDIDATES = 50

Protected = Callable[[Placed], bool]
"""Whether ending a pod would violate a disruption budget."""


@dataclass(frozen=True, slots=True)
class Preemption:
    """`node` and `victims` when room can be made, else `message`: why not."""

    node: str = ""
    victims: tuple[Placed, ...] = field(default_factory=tuple)
    message: str = ""


def find(task: Task, snapshot: Snapshot, decision: Decision, protected: Protected) -> Preemption:
    """The node where making room hurts least, for a pod that `decision` found no node for."""
    if not decision.nodes:
        return Preemption()
    if task.pod["spec"].get("preemptionPolicy") == "Never":
        return Preemption(message=NEVER)
    reasons: Counter[str] = Counter()
    reasons[HELPLESS] = len(decision.final)
    priority = int(task.pod["spec"].get("priority") or 0)
    best: tuple[tuple[object, ...], str, tuple[Placed, ...]] | None = None
    tried = 0
    for node in decision.reasons:
        if node in decision.final:
            continue
        lower = [placed for placed in snapshot.by_node.get(node, {}).values() if placed.priority < priority]
        if not lower or tried >= CANDIDATES:
            reasons[NO_VICTIMS] += 1
            continue
        tried += 1
        victims = _victims(task, snapshot, node, lower, protected)
        if victims is None:
            reasons[NO_VICTIMS] += 1
            continue
        cost = _cost(victims, protected)
        if best is None or cost < best[0]:
            best = (cost, node, victims)
    if best is not None:
        return Preemption(best[1], best[2])
    listed = sorted(f"{count} {reason}" for reason, count in reasons.items() if count)
    return Preemption(message=f"0/{decision.nodes} nodes are available: {', '.join(listed)}.")


def _victims(
    task: Task, snapshot: Snapshot, node: str, lower: list[Placed], protected: Protected
) -> tuple[Placed, ...] | None:
    """Those of `lower` that must go; None when the pod would not fit even without all of them."""
    for placed in lower:
        snapshot.remove(placed.uid)
    victims: list[Placed] = []
    try:
        if not _fits(task, snapshot, node):
            victims = list(lower)
            return None
        # Spare the protected first, then the important and long running.
        for placed in sorted(lower, key=lambda one: (not protected(one), -one.priority, one.started, one.key)):
            snapshot.put(placed)
            if not _fits(task, snapshot, node):
                snapshot.remove(placed.uid)
                victims.append(placed)
        return tuple(victims)
    finally:
        for placed in victims:
            snapshot.put(placed)


def _fits(task: Task, snapshot: Snapshot, node: str) -> bool:
    only = np.zeros(snapshot.size, dtype=bool)
    slot = snapshot.slots[node]
    only[slot] = True
    return not any(failure.nodes[slot] for rule in FILTERS for failure in rule.check(task, snapshot, only))


def _cost(victims: tuple[Placed, ...], protected: Protected) -> tuple[object, ...]:
    """Smaller is better: budgets violated, the highest priority lost, all priority lost, pods lost."""
    priorities = [placed.priority for placed in victims]
    violations = sum(1 for placed in victims if protected(placed))
    return (violations, max(priorities, default=-(2**31)), sum(one + 2**31 for one in priorities), len(victims))
