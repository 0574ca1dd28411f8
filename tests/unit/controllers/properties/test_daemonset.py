"""DaemonSets: one pod a node, two only while it surges, limits of updates kept, and every node served in the end."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import DAEMONSETS
from orca.api.objects import Obj, is_terminating, labels, uid
from orca.controllers import podstate
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.daemonset.backoff import FailureBackoff
from orca.controllers.daemonset.placement import aimed_at, target_of
from orca.controllers.daemonset.plan import new_status, plan, rolling_of
from orca.controllers.podcontrol import pod_from_template
from tests.unit.controllers.properties.world import NOW, QUICK, Story, World, stories
from tests.unit.controllers.support import template

NODES = ("n0", "n1", "n2", "n3", "n4")
TAINTS = ("", "NoSchedule", "NoExecute")


@st.composite
def sets(draw: st.DrawFn) -> Obj:
    surge = draw(st.sampled_from([0, 0, 1, 2, "50%"]))
    unavailable = 0 if surge else draw(st.sampled_from([1, 2, "50%"]))
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "web", "namespace": "default", "uid": "ds-uid", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "minReadySeconds": draw(st.sampled_from([0, 9])),
            "updateStrategy": draw(st.sampled_from([rolling, rolling, {"type": "OnDelete"}])),
        },
    }


class Daemons(World):
    """A DaemonSet on a few nodes that come, go and are tainted."""

    def __init__(self, daemonset: Obj) -> None:
        super().__init__()
        self.set = daemonset
        self.revision = "r0"
        self.nodes = dict.fromkeys(NODES[:3], "")

    def node_objects(self) -> list[Obj]:
        taints = {one: [{"key": "k", "effect": effect}] if effect else [] for one, effect in self.nodes.items()}
        return [{"metadata": {"name": one}, "spec": {"taints": found}} for one, found in taints.items()]

    def step(self, what: str, number: int) -> None:
        node = NODES[number % len(NODES)]
        match what:
            case "sync":
                self.sync()
            case "update":
                self.revision = f"r{number % 3}"
            case "node":
                if self.nodes.pop(node, None) is None:
                    self.nodes[node] = ""
            case "taint" if node in self.nodes:
                self.nodes[node] = TAINTS[number % len(TAINTS)]
            case "taint":
                pass
            case _:
                self.happen(what, number)

    def serves(self, pod: Obj) -> bool:
        if not podstate.is_active(pod):
            return False
        return podstate.available_in(pod, self.set["spec"]["minReadySeconds"], self.now) == 0

    def served(self) -> int:
        """Nodes with a pod that is available."""
        return len({target_of(pod) for pod in self.pods.values() if self.serves(pod)})

    def sync(self) -> bool:
        """One look, checked; answers whether it wanted anything."""
        view, nodes = self.view(), self.node_objects()
        todo = plan(self.set, nodes, view, self.revision, self.now)
        runs = {one for one, effect in self.nodes.items() if not effect}
        rolling = rolling_of(self.set, len(runs))
        assert set(todo.create) <= runs
        assert len(todo.create) == len(set(todo.create))
        assert {uid(pod) for pod in todo.delete} <= {uid(pod) for pod in view if not is_terminating(pod)}
        self._check_update(todo.delete, view, runs)
        self._check_surge(todo.create, view, rolling.surge)
        for pod in todo.delete:
            self.delete(pod)
        for node in todo.create:
            pod = pod_from_template(DAEMONSETS, self.set, self.set["spec"]["template"])
            pod["spec"] = aimed_at(pod["spec"], node)
            pod["metadata"]["labels"] = {**pod["metadata"]["labels"], HASH_LABEL: self.revision}
            self.create(pod)
            # A pod that is on its way out may still be there beside the two of a surge.
            beside = [one for one in self.active() if target_of(one) == node]
            assert len(beside) <= (2 if rolling.surge else 1)
            assert len({labels(one)[HASH_LABEL] for one in beside}) == len(beside)
        status = new_status(self.set, nodes, view, self.revision, self.now)
        assert status["desiredNumberScheduled"] == len(runs)
        assert status.get("numberAvailable", 0) + status.get("numberUnavailable", 0) == len(runs)
        self.set = {**self.set, "status": status}
        return bool(todo.create or todo.delete)

    def _check_update(self, delete: list[Obj], view: list[Obj], runs: set[str]) -> None:
        """Of nodes that were served no more than allowed are without now, and none while it surges."""
        gone = {uid(pod) for pod in delete}
        before = {target_of(pod) for pod in view if self.serves(pod)} & runs
        after = {target_of(pod) for pod in view if self.serves(pod) and uid(pod) not in gone} & runs
        rolling = rolling_of(self.set, len(runs))
        if before != after:
            assert len(runs) - len(after) <= rolling.unavailable
        if self.set["spec"]["updateStrategy"]["type"] == "OnDelete":
            kept = {target_of(pod) for pod in view if podstate.is_active(pod) and uid(pod) not in gone}
            assert kept >= {target_of(pod) for pod in view if podstate.is_active(pod)} & runs

    def _check_surge(self, create: list[str], view: list[Obj], most: int) -> None:
        """Nodes where a new pod is to come or is coming beside an old one that serves."""
        old = {target_of(pod) for pod in view if self.serves(pod) and labels(pod)[HASH_LABEL] != self.revision}
        new = {target_of(pod) for pod in view if podstate.is_active(pod) and labels(pod)[HASH_LABEL] == self.revision}
        new -= {target_of(pod) for pod in view if self.serves(pod) and labels(pod)[HASH_LABEL] == self.revision}
        assert not set(create) & old or len((set(create) | new) & old) <= most

    def converge(self, **kept: Any) -> None:
        quiet = 0
        for _ in range(80):
            self.settle(**kept)
            quiet = 0 if self.sync() else quiet + 1
            if quiet == 2:
                return
        raise AssertionError("it never comes to rest")


@QUICK
@given(sets(), stories("update", "update", "node", "taint", longest=40))
def test_every_node_is_served_once_in_the_end(wanted: Obj, story: Story) -> None:
    world = Daemons(wanted)
    for what, number in story:
        world.step(what, number)
    world.converge()
    runs = {one for one, effect in world.nodes.items() if not effect}
    where = [target_of(pod) for pod in world.pods.values()]
    assert len(where) == len(set(where))
    assert runs <= set(where) <= {one for one, effect in world.nodes.items() if effect != "NoExecute"}
    status = world.set["status"]
    assert status["currentNumberScheduled"] == status["numberReady"] == status.get("numberAvailable", 0) == len(runs)
    assert status["numberMisscheduled"] == len(where) - len(runs)
    if world.set["spec"]["updateStrategy"]["type"] == "RollingUpdate":
        assert {labels(pod)[HASH_LABEL] for pod in world.pods.values()} <= {world.revision}


@QUICK
@given(sets(), stories(troubles=(), longest=40))
def test_an_update_alone_leaves_enough_nodes_served(wanted: Obj, story: Story) -> None:
    world = Daemons(wanted)
    world.converge()
    world.revision = "r1"
    fewest = len(world.nodes) - rolling_of(wanted, len(world.nodes)).unavailable
    if wanted["spec"]["updateStrategy"]["type"] == "OnDelete":
        fewest = len(world.nodes)
    for what, number in story:
        world.step(what, number)
        assert world.served() >= fewest


@QUICK
@given(st.lists(st.integers(0, 40), max_size=30))
def test_a_host_that_refuses_every_pod_is_asked_ever_less_often(pauses: list[int]) -> None:
    backoff, daemonset, now = FailureBackoff(), {"metadata": {"uid": "ds-uid"}, "status": {}}, NOW
    expected = 1.0
    for pause in pauses:
        assert backoff.waits(daemonset, now) == {}
        backoff.note(daemonset, "n0", now)
        assert backoff.waits(daemonset, now) == {"n0": expected}
        now += timedelta(seconds=expected + pause)
        expected = min(2 * expected, 900.0)
    backoff.note(daemonset, "n0", now)
    assert backoff.waits({**daemonset, "status": {"observedGeneration": 1}}, now) == {}
    assert not backoff.waits(daemonset, now + timedelta(seconds=900))


@QUICK
@given(sets(), st.sets(st.integers(0, 2), min_size=1))
def test_a_good_template_gets_through_although_a_bad_one_is_stuck(wanted: Obj, broken: set[int]) -> None:
    """Pods of the first update never become ready; those of the next do."""
    if wanted["spec"]["updateStrategy"]["type"] == "OnDelete":
        return
    world = Daemons(wanted)
    world.converge()
    world.revision = "r1"
    for _ in range(6):
        world.sync()
        for number in range(12):
            world.happen("remove", number)
            world.happen("start", number)
        world.happen("see all", 0)
    for pod in world.active():
        if int(target_of(pod)[1:]) in broken and labels(pod)[HASH_LABEL] == "r0":
            world.become(pod, "Running", ready=False)
    world.seen = dict(world.pods)
    world.revision = "r2"
    for _ in range(30):
        world.sync()
        for pod in list(world.pods.values()):
            if is_terminating(pod):
                world.end(pod)
            elif labels(pod)[HASH_LABEL] == "r2":
                world.become(pod, "Running", ready=True)
        world.happen("tick", 4)
        world.happen("see all", 0)
    assert {labels(pod)[HASH_LABEL] for pod in world.pods.values()} == {"r2"}
    assert world.served() == len(world.nodes)
