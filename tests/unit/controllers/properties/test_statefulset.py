"""StatefulSets: never two pods of one ordinal, order and limits kept, and every ordinal there in the end."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca.api.objects import Obj, is_terminating, name, uid
from orca.controllers import podstate
from orca.controllers.deployment.sizes import resolve
from orca.controllers.statefulset.identity import make_pod, ordinal_of, ordinals, revision_of
from orca.controllers.statefulset.plan import Revisions, new_status, plan
from tests.unit.controllers.properties.world import QUICK, Story, World, stories
from tests.unit.controllers.support import template

MIN_READY = 9


@st.composite
def sets(draw: st.DrawFn) -> Obj:
    rolling: Obj = {"partition": draw(st.integers(0, 4))}
    if draw(st.booleans()):
        rolling["maxUnavailable"] = draw(st.one_of(st.integers(1, 3), st.sampled_from(["10%", "50%", "100%"])))
    strategies = [{"type": "RollingUpdate", "rollingUpdate": rolling}] * 2 + [{"type": "OnDelete"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "default", "uid": "sts-uid", "generation": 1},
        "spec": {
            "replicas": draw(st.integers(0, 5)),
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "minReadySeconds": draw(st.sampled_from([0, MIN_READY])),
            "podManagementPolicy": draw(st.sampled_from(["OrderedReady", "Parallel"])),
            "updateStrategy": draw(st.sampled_from(strategies)),
            "ordinals": {"start": draw(st.integers(0, 2))},
        },
    }


class Members(World):
    """A StatefulSet in the world; templates are named r0, r1, …"""

    def __init__(self, statefulset: Obj) -> None:
        super().__init__()
        self.set = statefulset
        self.revisions = Revisions("r0", "r0")

    def edit(self, **spec: Any) -> None:
        self.set = {**self.set, "spec": {**self.set["spec"], **spec}}

    def step(self, what: str, number: int) -> None:
        match what:
            case "sync":
                self.sync()
            case "update":
                self.revisions = Revisions(self.revisions.current, f"r{number % 3}")
            case "scale":
                self.edit(replicas=number % 6)
            case "shift":
                self.edit(ordinals={"start": number % 3})
            case _:
                self.happen(what, number)

    def serves(self, pod: Obj | None) -> bool:
        if pod is None or is_terminating(pod) or podstate.phase(pod) != "Running":
            return False
        return podstate.available_in(pod, self.set["spec"]["minReadySeconds"], self.now) == 0

    def sync(self) -> bool:
        """One look, checked; answers whether it wanted anything."""
        view = self.view()
        seen = {ordinal_of(self.set, name(pod)): pod for pod in view}
        wanted, spec = ordinals(self.set), self.set["spec"]
        todo = plan(self.set, view, self.revisions, self.now)
        self._check_creations(todo.create, seen)
        self._check_deletions(todo.delete, seen)
        if spec["podManagementPolicy"] == "OrderedReady":
            assert len(todo.create) <= 1
        for pod in todo.delete:
            self.delete(pod)
        for ordinal, revision in todo.create:
            # The API server takes no second pod of a name; the world says so loudly where the cache knew better.
            if all(name(one) != f"web-{ordinal}" for one in self.pods.values()):
                self.create(make_pod(self.set, spec["template"], ordinal, revision))
        status = new_status(self.set, view, self.revisions, self.now)
        self.set = {**self.set, "status": status}
        self.revisions = Revisions(status["currentRevision"], self.revisions.update)
        assert status["replicas"] >= status["availableReplicas"]
        assert status.get("readyReplicas", 0) >= status["availableReplicas"]
        names = [name(pod) for pod in self.pods.values()]
        assert len(names) == len(set(names))
        assert all(ordinal in wanted for ordinal, _ in todo.create)
        return bool(todo.create or todo.delete)

    def _check_creations(self, create: list[tuple[int, str]], seen: dict[int | None, Obj]) -> None:
        strategy = self.set["spec"]["updateStrategy"]
        for ordinal, revision in create:
            assert ordinal not in seen
            if self.set["spec"]["podManagementPolicy"] == "OrderedReady":
                assert all(self.serves(seen.get(lower)) for lower in ordinals(self.set) if lower < ordinal)
            kept = ordinal < ordinals(self.set).start + strategy.get("rollingUpdate", {}).get("partition", 0)
            assert revision == (self.revisions.current if kept else self.revisions.update)

    def _check_deletions(self, delete: list[Obj], seen: dict[int | None, Obj]) -> None:
        wanted, strategy = ordinals(self.set), self.set["spec"]["updateStrategy"]
        rolling = strategy.get("rollingUpdate", {})
        updated = []
        for pod in delete:
            ordinal = ordinal_of(self.set, name(pod))
            assert not is_terminating(pod)
            if ordinal not in wanted or podstate.is_finished(pod):
                continue
            assert strategy["type"] == "RollingUpdate"
            assert revision_of(pod) != self.revisions.update
            assert ordinal is not None
            assert ordinal >= wanted.start + rolling["partition"]
            updated.append(pod)
        serving = [pod for pod in updated if self.serves(pod)]
        missing = sum(not self.serves(seen.get(ordinal)) for ordinal in wanted)
        most = max(resolve(rolling.get("maxUnavailable", 1), len(wanted), up=True), 1)
        assert not serving or len(serving) + missing <= most
        if self.set["spec"]["podManagementPolicy"] == "OrderedReady":
            condemned = [pod for pod in delete if ordinal_of(self.set, name(pod)) not in wanted]
            assert len(condemned) <= 1
            assert not condemned or not updated

    def converge(self) -> None:
        quiet = 0
        for _ in range(80):
            self.settle()
            quiet = 0 if self.sync() else quiet + 1
            if quiet == 2:
                return
        raise AssertionError("it never comes to rest")


@QUICK
@given(sets(), stories("update", "scale", "shift", longest=40))
def test_ordinals_are_unique_and_all_there_in_the_end(wanted: Obj, story: Story) -> None:
    world = Members(wanted)
    for what, number in story:
        world.step(what, number)
    world.converge()
    there = {ordinal_of(world.set, name(pod)): pod for pod in world.pods.values()}
    assert set(there) == set(ordinals(world.set))
    status, size = world.set["status"], len(ordinals(world.set))
    assert [status.get(part, 0) for part in ("replicas", "readyReplicas", "availableReplicas")] == [size] * 3
    strategy = world.set["spec"]["updateStrategy"]
    if strategy["type"] == "RollingUpdate":
        first = ordinals(world.set).start + strategy["rollingUpdate"]["partition"]
        late = [pod for ordinal, pod in there.items() if ordinal is not None and ordinal >= first]
        assert {revision_of(pod) for pod in late} <= {world.revisions.update}
        if first == ordinals(world.set).start and size:
            assert status["currentRevision"] == status["updateRevision"] == world.revisions.update
            assert status["updatedReplicas"] == status["currentReplicas"] == size


@QUICK
@given(sets(), stories(troubles=(), longest=40))
def test_an_update_alone_leaves_enough_available(wanted: Obj, story: Story) -> None:
    world = Members(wanted)
    world.converge()
    world.revisions = Revisions("r0", "r1")
    rolling = wanted["spec"]["updateStrategy"].get("rollingUpdate", {})
    size = len(ordinals(wanted))
    most = max(resolve(rolling.get("maxUnavailable", 1), size, up=True), 1)
    for what, number in story:
        world.step(what, number)
        assert sum(map(world.serves, world.pods.values())) >= size - most


@QUICK
@given(sets(), stories("update"), st.integers(0, 5))
def test_a_pod_that_was_replaced_is_another_one(wanted: Obj, story: Story, size: int) -> None:
    """However stale the view: a pod is only ever deleted by its uid, so its successor survives."""
    world = Members(wanted)
    world.converge()
    world.edit(replicas=size)
    for what, number in story:
        before = {one for one, pod in world.pods.items() if one not in world.seen and not is_terminating(pod)}
        world.step(what, number)
        if what == "sync":
            assert all(one in world.pods and not is_terminating(world.pods[one]) for one in before)
    assert len({uid(pod) for pod in world.pods.values()}) == len(world.pods)
