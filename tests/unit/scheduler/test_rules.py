"""All rules together against an independent judge: what is placed is valid, what stays pending fits nowhere."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some

from orca.api.objects import Obj
from orca.scheduler.decision import decide
from orca.scheduler.filters import Task
from orca.scheduler.hints import Hints
from orca.scheduler.profile import DEFAULT, DEFAULT_NAME
from orca.scheduler.snapshot import Snapshot
from tests.support.placements import broken_by, violations
from tests.unit.scheduler.things import node, pod

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
COLOURS = ("red", "blue")

nodes = some.fixed_dictionaries(
    {"cpu": some.sampled_from(("1", "2", "4")), "pods": some.integers(1, 4)},
    optional={
        "labels": some.sampled_from(({ZONE: "a"}, {ZONE: "b"}, {ZONE: "b", "disk": "ssd"})),
        "taints": some.just([{"key": "k", "value": "v", "effect": "NoSchedule"}]),
        "unschedulable": some.just(True),
    },
)
selectors = some.sampled_from([{"matchLabels": {"colour": colour}} for colour in COLOURS] + [{}])
terms = some.lists(
    some.fixed_dictionaries({"labelSelector": selectors, "topologyKey": some.sampled_from((ZONE, HOST))}),
    min_size=1,
    max_size=2,
).map(lambda found: {"requiredDuringSchedulingIgnoredDuringExecution": found})
spreads = some.lists(
    some.fixed_dictionaries(
        {
            "maxSkew": some.integers(1, 2),
            "topologyKey": some.sampled_from((ZONE, HOST)),
            "whenUnsatisfiable": some.just("DoNotSchedule"),
            "labelSelector": selectors,
        },
        optional={
            "minDomains": some.integers(1, 3),
            "nodeAffinityPolicy": some.sampled_from(("Honor", "Ignore")),
            "nodeTaintsPolicy": some.sampled_from(("Honor", "Ignore")),
        },
    ),
    min_size=1,
    max_size=2,
)
pods = some.fixed_dictionaries(
    {
        "cpu": some.sampled_from(("", "300m", "1")),
        "labels": some.sampled_from([{"colour": colour} for colour in COLOURS]),
    },
    optional={
        "affinity": some.fixed_dictionaries({}, optional={"podAffinity": terms, "podAntiAffinity": terms}),
        "topologySpreadConstraints": spreads,
        "nodeSelector": some.just({"disk": "ssd"}),
        "tolerations": some.just([{"key": "k", "operator": "Exists"}]),
        "ports": some.just((80,)),
        "namespace": some.sampled_from(("default", "other")),
    },
)


@settings(max_examples=250, deadline=None)
@given(shapes=some.lists(nodes, min_size=1, max_size=5), wishes=some.lists(pods, max_size=9))
def test_the_judge_agrees(shapes: list[Obj], wishes: list[Obj]) -> None:
    targets = {f"n{number}": node(f"n{number}", **dict(shape)) for number, shape in enumerate(shapes)}
    snapshot = Snapshot()
    for target in targets.values():
        snapshot.set_node(target)
    there: dict[str, list[Obj]] = {name: [] for name in targets}
    for number, wish in enumerate(wishes):
        wanted = pod(f"p{number}", **dict(wish))
        judged = {name: broken_by(wanted, target, (targets, there)) for name, target in targets.items()}
        decision = decide(Task.of(wanted), snapshot, number)
        if decision.node:
            assert judged[decision.node] == []
            assert set(decision.reasons) == {name for name, broken in judged.items() if broken}
            snapshot.place(wanted, decision.node)
            there[decision.node].append({**wanted, "spec": {**wanted["spec"], "nodeName": decision.node}})
        else:
            assert all(judged.values())
        # One node alone is judged as all at once.
        task = Task.of(wanted)
        placed_here = {decision.node} - {""}
        for name in set(targets) - placed_here if not decision.node else ():
            allowed = all(rule.allows(task, snapshot, snapshot.slots[name]) for rule in DEFAULT.filters)
            assert allowed == (not judged[name])


@settings(max_examples=200, deadline=None)
@given(
    shapes=some.lists(nodes, min_size=1, max_size=4),
    wishes=some.lists(pods, min_size=2, max_size=9),
    leaver=some.integers(0, 8),
)
def test_who_can_run_now_is_told(shapes: list[Obj], wishes: list[Obj], leaver: int) -> None:
    """Hints are never too gloomy: a pod that fits after another has gone was told to try again."""
    snapshot = Snapshot()
    for number, shape in enumerate(shapes):
        snapshot.set_node(node(f"n{number}", **dict(shape)))
    pending = []
    for number, wish in enumerate(wishes):
        wanted = pod(f"p{number}", **dict(wish))
        decision = decide(Task.of(wanted), snapshot, number)
        if decision.node:
            snapshot.place(wanted, decision.node)
        else:
            pending.append(wanted)
    hints = Hints(snapshot, {DEFAULT_NAME: DEFAULT})
    still = [(one, decide(Task.of(one), snapshot)) for one in pending]
    still = [(one, decision) for one, decision in still if not decision.node]
    uids = list(snapshot.placed)
    if not uids:
        return
    gone = snapshot.remove(uids[leaver % len(uids)])
    assert gone is not None
    for one, before in still:
        if decide(Task.of(one), snapshot).node:
            assert hints.gone(one, frozenset(before.rules), gone)


def test_the_judge_sees_what_is_wrong() -> None:
    apart = {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}, "topologyKey": HOST}]}
    wrong = [
        pod("a", cpu="3", nodeName="n"),
        pod("b", cpu="3", nodeName="n"),
        pod("c", nodeName="gone"),
        pod("d", nodeName="n", affinity={"podAntiAffinity": apart}),
        pod("e", nodeName="n", nodeSelector={"disk": "ssd"}),
    ]
    found = "\n".join(violations([node("n")], wrong))
    for what in ("too little cpu", "c on gone: no such node", "d on n: pod anti-affinity", "e on n: node affinity"):
        assert what in found
    assert violations([node("n")], [pod("a", nodeName="n")]) == []
