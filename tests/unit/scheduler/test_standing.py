"""What is kept of nodes says the same as all rules asked anew, whatever happened meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from orca.api.objects import Obj
from orca.scheduler import decision
from orca.scheduler.decision import decide
from orca.scheduler.filters import Task
from orca.scheduler.scores.resources import MOST, Allocation, BalancedAllocation, FitStrategy
from orca.scheduler.snapshot import Snapshot
from tests.unit.scheduler.things import node, pod

NODES = decision.EXPLAINED + 3
TAINT = {"key": "red", "value": "v", "effect": "NoSchedule"}
SOFT = {"key": "grey", "value": "v", "effect": "PreferNoSchedule"}

shapes = some.fixed_dictionaries(
    {"cpu": some.sampled_from(("1", "2", "3500m")), "pods": some.integers(1, 4)},
    optional={
        "labels": some.sampled_from(({"disk": "ssd"}, {"disk": "hdd", "zone": "a"}, {"zone": "b"})),
        "taints": some.lists(some.sampled_from((TAINT, SOFT)), max_size=1),
        "unschedulable": some.booleans(),
        "images": some.sampled_from(([], [{"names": ["nginx:latest"], "sizeBytes": 300_000_000}])),
    },
)


def _term(key: str) -> Obj:
    return {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key}


REQUIRED, PREFERRED = (f"{one}DuringSchedulingIgnoredDuringExecution" for one in ("required", "preferred"))
wishes = some.fixed_dictionaries(
    {"cpu": some.sampled_from(("", "300m", "1")), "memory": some.sampled_from(("", "1Gi"))},
    optional={
        "ports": some.sampled_from(((80,), (81,))),
        "nodeSelector": some.just({"disk": "ssd"}),
        "tolerations": some.just([{"key": "red", "operator": "Exists"}]),
        "affinity": some.sampled_from(
            (
                {"podAntiAffinity": {REQUIRED: [_term("kubernetes.io/hostname")]}},
                {"podAffinity": {REQUIRED: [_term("zone")]}},
                {"podAffinity": {PREFERRED: [{"weight": 5, "podAffinityTerm": _term("zone")}]}},
            )
        ),
        "topologySpreadConstraints": some.sampled_from(
            [
                [{**_term("zone"), "maxSkew": 1, "whenUnsatisfiable": action}]
                for action in ("DoNotSchedule", "ScheduleAnyway")
            ]
        ),
    },
)
steps = some.one_of(
    some.tuples(some.just("pod"), wishes, some.integers(0, 99)),
    some.tuples(some.just("node"), shapes, some.integers(0, NODES + 1)),
    some.tuples(some.just("gone"), some.none(), some.integers(0, 9)),
    some.tuples(some.just("lost"), some.none(), some.integers(0, NODES - 1)),
)


@settings(max_examples=60, deadline=None)
@given(at_first=some.lists(shapes, min_size=NODES, max_size=NODES), then=some.lists(steps, max_size=12))
def test_the_same_node_is_chosen(at_first: list[Obj], then: list[tuple[str, Obj, int]]) -> None:
    snapshot = Snapshot()
    for number, shape in enumerate(at_first):
        snapshot.set_node(node(f"n{number}", **shape))
    for number, (what, given_, at) in enumerate(then):
        if what == "node":
            snapshot.set_node(node(f"n{at}", **given_))
        elif what == "lost":
            snapshot.remove_node(f"n{at}")
        elif what == "gone":
            for known in list(snapshot.placed)[:at]:
                snapshot.remove(known)
        else:
            wanted = pod(f"p{number}", **given_)
            chosen = decide(Task.of(wanted), snapshot, at).node
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(decision, "EXPLAINED", 10**9)
                assert chosen == decide(Task.of(wanted), snapshot, at).node
            if chosen:
                snapshot.place(wanted, chosen)


@given(
    there=some.lists(some.tuples(some.integers(0, 5000), some.integers(0, 9)), max_size=4),
    cpu=some.integers(0, 4000),
    memory=some.integers(0, 8),
    weights=some.tuples(some.integers(1, 5), some.integers(1, 5)),
)
def test_one_row_is_rated_as_many_are(
    there: list[tuple[int, int]], cpu: int, memory: int, weights: tuple[int, int]
) -> None:
    snapshot = Snapshot()
    snapshot.set_node(node("n", cpu="4", memory="8Gi"))
    for number, (used, room) in enumerate(there):
        snapshot.place(pod(f"there-{number}", f"{used}m" if used else "", f"{room}Gi" if room else ""), "n")
    task = Task.of(pod("p", f"{cpu}m" if cpu else "", f"{memory}Gi" if memory else ""))
    resources = (("cpu", weights[0]), ("memory", weights[1]))
    rates = (
        Allocation(FitStrategy(resources=resources)),
        Allocation(FitStrategy(MOST, resources)),
        BalancedAllocation(resources),
    )
    for rate in rates:
        assert rate.row(task, snapshot, 0) == rate.rows(task, snapshot, np.array([0]))[0]
