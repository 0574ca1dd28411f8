"""Of many nodes the one that room is made on is the same whichever way it is looked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some

from orca.scheduler.candidates import Candidates, Victims
from orca.scheduler.filters import Task
from orca.scheduler.preemption import _by_sums, _by_trying, _choice
from orca.scheduler.profile import DEFAULT
from orca.scheduler.snapshot import Placed
from tests.unit.scheduler.things import cluster, node, pod

COST = some.tuples(*(some.integers(0, 2).map(float) for _ in range(5)))


def one_by_one(costs: list[tuple[float, ...] | None], wanted: int) -> int:
    """As kube-scheduler goes through the nodes."""
    best, found = -1, 0
    for row, cost in enumerate(costs):
        if cost is None:
            continue
        found += 1
        if best < 0 or cost < (costs[best] or ()):
            best = row
        if found >= wanted and not (costs[best] or (0,))[0]:
            break
    return best


@given(some.lists(some.none() | COST, max_size=200), some.integers(1, 30), some.data())
def test_columns_find_what_a_look_at_each_finds(
    costs: list[tuple[float, ...] | None], wanted: int, data: some.DataObject
) -> None:
    generation = np.zeros(len(costs), dtype=np.int64)
    known = Candidates(len(costs))
    tried: list[int] = []

    def find() -> int:
        def look(row: int) -> Victims | None:
            tried.append(row)
            cost = costs[row]
            return None if cost is None else Victims((), cost)

        return known.best(np.arange(len(costs)), wanted, generation, look)

    assert find() == one_by_one(costs, wanted)
    assert len(tried) == len(set(tried))
    if costs:
        row = data.draw(some.integers(0, len(costs) - 1))
        costs[row] = data.draw(some.none() | COST)
        generation[row] += 1
        before = len(tried)
        assert find() == one_by_one(costs, wanted)
        assert set(tried[before:]) <= {row} | (set(range(len(costs))) - set(tried[:before]))


@settings(max_examples=150)
@given(
    some.lists(
        some.tuples(
            some.sampled_from(["", "500m", "1", "2"]), some.sampled_from(["", "1Gi", "3Gi"]), some.integers(0, 3)
        ),
        min_size=1,
        max_size=6,
    ),
    some.tuples(some.sampled_from(["", "1", "3"]), some.sampled_from(["", "2Gi", "6Gi"])),
    some.integers(2, 6),
    some.sets(some.integers(0, 5)),
)
def test_sums_name_the_same_victims_as_trying(
    running: list[tuple[str, str, int]], asked: tuple[str, str], most: int, protected: set[int]
) -> None:
    there = [pod(f"p{at}", cpu=cpu, memory=memory, priority=rank) for at, (cpu, memory, rank) in enumerate(running)]
    snapshot = cluster(node("a", pods=most), pods={"a": there})
    task = Task.of(pod("vip", cpu=asked[0], memory=asked[1], priority=2))

    def violating(pods: Iterable[Placed]) -> set[str]:
        return {one.uid for one in pods if one.uid in {f"uid-default-p{at}" for at in protected}}

    choose = _choice(task, snapshot, DEFAULT)
    assert isinstance(choose, partial)
    assert choose.func is _by_sums
    lower = [one for one in snapshot.by_node["a"].values() if one.priority < 2]
    before = snapshot.used.copy()
    by_sums = choose([*lower], 0, violating)
    assert by_sums == _by_trying(task, snapshot, DEFAULT, [*lower], 0, violating)
    assert (snapshot.used == before).all()
