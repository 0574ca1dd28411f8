"""Whatever the cluster looks like: a chosen node can take the pod, and a pod stays pending only when none can."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some

from orca.api.objects import Obj
from orca.scheduler.snapshot import Snapshot
from tests.unit.scheduler.things import choose, node, pod

TAINTS = [{"key": key, "value": "v", "effect": "NoSchedule"} for key in ("red", "blue")]

nodes = some.builds(
    lambda cpu, pods, disk, taints, cordoned: {
        "cpu": str(cpu),
        "pods": pods,
        "labels": {"disk": disk},
        "taints": taints,
        "unschedulable": cordoned,
    },
    some.integers(1, 4),
    some.integers(1, 4),
    some.sampled_from(("ssd", "hdd")),
    some.lists(some.sampled_from(TAINTS), max_size=1),
    some.booleans(),
)
pods = some.fixed_dictionaries(
    {"cpu": some.sampled_from(("", "500m", "1", "3"))},
    optional={
        "ports": some.sampled_from(((80,), (81,), (80, 81))),
        "nodeSelector": some.sampled_from(({"disk": "ssd"}, {"disk": "hdd"})),
        "tolerations": some.lists(some.sampled_from([{"key": "red", "operator": "Exists"}, {"operator": "Exists"}])),
    },
)


def milli(one: Obj) -> int:
    text = one["spec"]["containers"][0]["resources"]["requests"].get("cpu", "0")
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def allowed(target: Obj, there: list[Obj], wanted: Obj) -> bool:
    """The rules in the plainest words."""
    spec = target["spec"]
    tolerations = wanted["spec"].get("tolerations") or []
    everything = any("key" not in one for one in tolerations)
    if spec["unschedulable"] and not everything:
        return False
    if any(not everything and taint["key"] not in [one.get("key") for one in tolerations] for taint in spec["taints"]):
        return False
    labels = target["metadata"]["labels"]
    if any(labels.get(key) != value for key, value in wanted["spec"].get("nodeSelector", {}).items()):
        return False
    used = {port["hostPort"] for one in there for port in one["spec"]["containers"][0]["ports"]}
    if used & {port["hostPort"] for port in wanted["spec"]["containers"][0]["ports"]}:
        return False
    allocatable = target["status"]["allocatable"]
    if len(there) + 1 > int(allocatable["pods"]):
        return False
    return not milli(wanted) or sum(map(milli, there)) + milli(wanted) <= int(allocatable["cpu"]) * 1000


@settings(max_examples=150, deadline=None)
@given(shapes=some.lists(nodes, max_size=5), wishes=some.lists(some.tuples(pods, some.integers(0, 9)), max_size=14))
def test_placements_are_valid(shapes: list[Obj], wishes: list[tuple[Obj, int]]) -> None:
    targets = {f"n{number}": node(f"n{number}", **shape) for number, shape in enumerate(shapes)}
    there: dict[str, list[Obj]] = {name: [] for name in targets}
    snapshot = Snapshot()
    for target in targets.values():
        snapshot.set_node(target)
    for number, (wish, turn) in enumerate(wishes):
        wanted = pod(f"p{number}", **wish)
        possible = {name for name, target in targets.items() if allowed(target, there[name], wanted)}
        decision = choose(snapshot, wanted, turn)
        assert bool(decision.node) == bool(possible)
        if decision.node:
            assert decision.node in possible
            snapshot.place(wanted, decision.node)
            there[decision.node].append(wanted)
        else:
            assert set(decision.reasons) == set(targets)
        if turn == 0 and there and (busy := next((name for name in there if there[name]), None)):
            snapshot.remove(there[busy].pop()["metadata"]["uid"])
        if turn == 1 and targets:
            # A node that goes and comes back has the same pods.
            first = next(iter(targets))
            snapshot.remove_node(first)
            snapshot.set_node(targets[first])
    for name, slot in snapshot.slots.items():
        assert snapshot.used[slot, 0] == sum(map(milli, there[name]))
        assert snapshot.used[slot, 3] == len(there[name])
