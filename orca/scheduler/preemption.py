"""Making room for a pod by ending pods of lower priority, as few and as unimportant as possible.

Reference: kube-scheduler's DefaultPreemption (facts). Pure: the snapshot is changed to see what would be, and is as
before when `find` returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from orca.api.times import parse_time
from orca.scheduler.decision import Decision
from orca.scheduler.filters import Task
from orca.scheduler.profile import DEFAULT, TRIED, Profile
from orca.scheduler.shape import Shape
from orca.scheduler.snapshot import Placed, Rows, Snapshot

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


@dataclass(frozen=True, slots=True)
class _Victims:
    """`violations`: how many of them a budget protects."""

    pods: tuple[Placed, ...]
    violations: int
    cost: tuple[float, ...]
    """Smaller is better."""


Known = dict[int, tuple[int, _Victims | None]]
"""Row -> (its generation, who would go there)."""
Answers = dict[tuple[Shape, int, Profile], Known]
"""Of pods that look at nothing but the node itself, by shape, priority and profile: a pod after pod of the same shape
is then compared without trying every node again."""


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
    known: Known = {}
    if answers is not None and _is_local(task, snapshot, profile):
        if len(answers) >= ANSWERS:
            answers.clear()
        known = answers.setdefault((task.shape, priority, profile), known)
    generation, names = snapshot.generation, decision.names
    best: _Victims | None = None
    where = ""
    found = 0
    for slot in _in_turn(hopeful, turn, 2 * wanted):
        answer = known.get(slot)
        if answer is None or answer[0] != generation[slot]:
            made = _victims(task, snapshot, names[slot], priority, violating, profile)
            # Trying took pods away and put them back: the row has a new generation and the same pods.
            answer = known[slot] = (generation[slot], made)
        victims = answer[1]
        if victims is None:
            continue
        if best is None or victims.cost < best.cost:
            best, where = victims, names[slot]
        found += 1
        if found >= wanted and not best.violations:
            break
    if best is not None:
        return Preemption(where, best.pods)
    reasons = Counter({HELPLESS: decision.nodes - len(hopeful), NO_VICTIMS: len(hopeful)})
    listed = sorted(f"{count} {reason}" for reason, count in reasons.items() if count)
    return Preemption(message=f"0/{decision.nodes} nodes are available: {', '.join(listed)}.")


def _is_local(task: Task, snapshot: Snapshot, profile: Profile) -> bool:
    """Whether what runs on other nodes is nothing to the pod."""
    rules, _ = profile.around
    return not any(rule.concerns(task, snapshot) for rule in rules)


def _in_turn(rows: Rows, turn: int, at_first: int) -> Iterator[int]:
    """All rows, beginning with another one each turn; those after the first so many are only made when needed."""
    turned = np.roll(rows, -(turn % max(len(rows), 1)))
    yield from turned[:at_first].tolist()
    yield from turned[at_first:].tolist()


def _victims(
    task: Task, snapshot: Snapshot, node: str, priority: int, violating: Violating, profile: Profile
) -> _Victims | None:
    """Who must go; None when nobody can, or the pod would not fit even without them."""
    there = snapshot.by_node.get(node)
    if not there:
        return None
    lower = [placed for placed in there.values() if placed.priority < priority and not placed.awaited]
    if not lower:
        return None
    slot = snapshot.slots[node]
    for placed in lower:
        snapshot.remove(placed.uid)
    victims: list[Placed] = []
    spared: list[Placed] = []
    try:
        if not _fits(task, snapshot, slot, profile):
            victims = list(lower)
            return None
        # Spare the protected first, then the important and long running.
        lower.sort(key=importance)
        protected = violating(lower)
        for placed in sorted(lower, key=lambda one: one.uid not in protected):
            snapshot.put(placed)
            if _fits(task, snapshot, slot, profile):
                spared.append(placed)
            else:
                snapshot.remove(placed.uid)
                victims.append(placed)
        victims.sort(key=importance)
        violations = sum(1 for placed in victims if placed.uid in protected)
        return _Victims(tuple(victims), violations, _cost(victims, violations))
    finally:
        for placed in victims:
            snapshot.put(placed)


def importance(placed: Placed) -> tuple[int, str, str]:
    """Sorts the most important first: by priority, then who runs longest; who has not started comes last."""
    return (-placed.priority, placed.started or "~", placed.key)


def _fits(task: Task, snapshot: Snapshot, slot: int, profile: Profile) -> bool:
    return all(rule.allows(task, snapshot, slot) for rule in profile.filters)


def _cost(victims: list[Placed], violations: int) -> tuple[float, ...]:
    """Budgets violated, the highest priority lost, all priority lost, pods lost, and then who of the most important has
    run longest (the later it started the better)."""
    priorities = [placed.priority for placed in victims]
    highest = max(priorities, default=-(2**31))
    total = sum(one + 2**31 for one in priorities)
    started = [placed.started for placed in victims if placed.priority == highest and placed.started]
    earliest = parse_time(min(started)).timestamp() if started else float("inf")
    return (violations, highest, total, len(victims), -earliest)
