"""Making room for a pod by ending pods of lower priority, as few and as unimportant as possible.

Reference: kube-scheduler's DefaultPreemption (facts). Pure: the snapshot is changed to see what would be, and is as
before when `find` returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from orca.scheduler.candidates import Candidates, Victims, importance, victims_of
from orca.scheduler.decision import Decision
from orca.scheduler.filters import Filter, Task
from orca.scheduler.filters.node_resources_fit import NodeResourcesFit
from orca.scheduler.profile import DEFAULT, TRIED, Profile
from orca.scheduler.shape import Requests, Shape
from orca.scheduler.snapshot import PODS, Placed, Snapshot

HELPLESS = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER = "not eligible due to preemptionPolicy=Never."
ANSWERS = 100
"""Shapes and priorities that are remembered."""

Violating = Callable[[Iterable[Placed]], set[str]]
"""Of pods that would all be ended, in this order, the uids of those whose end violates a disruption budget."""


@dataclass(frozen=True, slots=True)
class Preemption:
    """`node` and `victims` when room can be made, else `message`: why not."""

    node: str = ""
    victims: tuple[Placed, ...] = field(default_factory=tuple)
    message: str = ""


Answers = dict[tuple[Shape, int, Profile], Candidates]
"""Of pods that look at nothing but the node itself, by shape, priority and profile."""


def find(
    task: Task,
    snapshot: Snapshot,
    decision: Decision,
    violating: Violating,
    *,
    profile: Profile = DEFAULT,
    turn: int = 0,
    answers: Answers | None = None,
) -> Preemption:
    """The node where making room hurts least, for a pod that `decision` found no node for. With many nodes not all are
    tried; `turn` says where to begin. `answers` must be emptied when budgets change."""
    if not decision.nodes:
        return Preemption()
    if task.pod["spec"].get("preemptionPolicy") == "Never":
        return Preemption(message=NEVER)
    hopeful = np.flatnonzero(decision.hopeful())
    priority = int(task.pod["spec"].get("priority") or 0)
    args = profile.preemption or TRIED
    wanted = args.candidates(len(hopeful))
    known: Candidates | None = None
    if answers is not None and _is_local(task, snapshot, profile):
        if len(answers) >= ANSWERS:
            answers.clear()
        known = answers.get((task.shape, priority, profile))
        if known is None or len(known) != snapshot.size:
            known = answers[task.shape, priority, profile] = Candidates(snapshot.size)
    if known is None:
        known = Candidates(snapshot.size)
    names = decision.names
    turned = np.roll(hopeful, -(turn % max(len(hopeful), 1)))
    chosen = _choice(task, snapshot, profile)

    def tried(row: int) -> Victims | None:
        there = snapshot.by_node.get(names[row], {}).values()
        lower = [placed for placed in there if placed.priority < priority and not placed.awaited]
        return chosen(lower, row, violating) if lower else None

    best = known.best(turned, wanted, snapshot.generation, tried)
    if best >= 0:
        return Preemption(names[best], known.victims(best))
    reasons = Counter({HELPLESS: decision.nodes - len(hopeful), NO_VICTIMS: len(hopeful)})
    listed = sorted(f"{count} {reason}" for reason, count in reasons.items() if count)
    return Preemption(message=f"0/{decision.nodes} nodes are available: {', '.join(listed)}.")


def _is_local(task: Task, snapshot: Snapshot, profile: Profile) -> bool:
    """Whether what runs on other nodes is nothing to the pod."""
    rules, _ = profile.around
    return not any(rule.concerns(task, snapshot) for rule in rules)


Choose = Callable[[list[Placed], int, Violating], Victims | None]
"""(pods of lower priority on a row, the row, budgets) -> who must go; None when the pod would not fit even without any
of them."""


def _choice(task: Task, snapshot: Snapshot, profile: Profile) -> Choose:
    """Mostly a pod lacks nothing but resources, and then sums tell."""
    settled = [rule for rule in profile.filters if not rule.by_pods]
    moved = [rule for rule in profile.filters if rule.by_pods and rule.concerns(task, snapshot)]
    if not all(isinstance(rule, NodeResourcesFit) for rule in moved):
        return partial(_by_trying, task, snapshot, profile)
    asked: Requests = {}
    for rule in moved:
        assert isinstance(rule, NodeResourcesFit)
        asked |= rule.asked(task)
    return partial(_by_sums, task, snapshot, settled, asked if moved else None)


def _by_sums(
    task: Task,
    snapshot: Snapshot,
    settled: list[Filter],
    asked: Requests | None,
    lower: list[Placed],
    slot: int,
    violating: Violating,
) -> Victims | None:
    """`asked` None: nobody asks for resources."""
    if not all(rule.allows(task, snapshot, slot) for rule in settled):
        return None
    if asked is None:
        return victims_of([], 0)
    columns = [PODS, *(snapshot.column(resource) for resource in asked)]
    used, allocatable = snapshot.used[slot].tolist(), snapshot.allocatable[slot].tolist()
    wanted = [1, *asked.values()]
    spare = [allocatable[column] - used[column] - amount for column, amount in zip(columns, wanted, strict=True)]
    left = {placed.uid: [1, *(placed.shape.requests.get(resource, 0) for resource in asked)] for placed in lower}
    for amounts in left.values():
        spare = [has + more for has, more in zip(spare, amounts, strict=True)]
    if min(spare) < 0:
        return None
    victims: list[Placed] = []
    protected, order = _in_order(lower, violating)
    for placed in order:
        rest = [has - less for has, less in zip(spare, left[placed.uid], strict=True)]
        if min(rest) < 0:
            victims.append(placed)
        else:
            spare = rest
    return victims_of(victims, sum(1 for placed in victims if placed.uid in protected))


def _by_trying(
    task: Task, snapshot: Snapshot, profile: Profile, lower: list[Placed], slot: int, violating: Violating
) -> Victims | None:
    for placed in lower:
        snapshot.remove(placed.uid)
    victims: list[Placed] = []
    try:
        if not _fits(task, snapshot, slot, profile):
            victims = list(lower)
            return None
        protected, order = _in_order(lower, violating)
        for placed in order:
            snapshot.put(placed)
            if not _fits(task, snapshot, slot, profile):
                snapshot.remove(placed.uid)
                victims.append(placed)
        # A copy: it is put in order.
        return victims_of([*victims], sum(1 for placed in victims if placed.uid in protected))
    finally:
        for placed in victims:
            snapshot.put(placed)


def _in_order(lower: list[Placed], violating: Violating) -> tuple[set[str], list[Placed]]:
    """Whom budgets protect, and who is spared first: the protected, then the important and long running."""
    lower.sort(key=importance)
    protected = violating(lower)
    return protected, sorted(lower, key=lambda one: one.uid not in protected)


def _fits(task: Task, snapshot: Snapshot, slot: int, profile: Profile) -> bool:
    return all(rule.allows(task, snapshot, slot) for rule in profile.filters)
