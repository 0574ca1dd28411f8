"""Whole plans for a Deployment, carried out by a simulation that answers as the cluster would."""

import copy
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api.objects import Obj, annotations, name, uid
from orca.controllers import conditions
from orca.controllers.deployment import revisions, sizes, status
from orca.controllers.deployment.plan import plan
from tests.unit.controllers.support import NOW, deployment, pod, replicaset, template


class World:
    """A Deployment, its ReplicaSets and their available pods, as many as the sets' status tells."""

    def __init__(self, wanted: Obj) -> None:
        self.deployment = wanted
        self.deployment["metadata"] |= {"uid": "d-uid", "generation": 1}
        self.sets: dict[str, Obj] = {}
        self.now: datetime = NOW
        self.steps = 0

    def step(self) -> bool:
        """One look; True when something was done."""
        todo = plan(self.deployment, list(self.sets.values()), self.pods, self.now)
        self.steps += 1
        if todo.create is not None:
            made = copy.deepcopy(todo.create)
            assert name(made) not in self.sets
            made["metadata"] |= {"uid": f"uid-{name(made)}", "creationTimestamp": f"2026-01-01T00:{self.steps:02d}:00Z"}
            made["metadata"]["generation"] = 1
            self.sets[name(made)] = made
        for scaled in todo.update:
            self.sets[name(scaled.replicaset)] = scaled.replicaset
        for gone in todo.delete:
            assert not gone["spec"]["replicas"]
            assert not (gone.get("status") or {}).get("replicas")
            del self.sets[name(gone)]
        if todo.revision:
            found = {**annotations(self.deployment), revisions.REVISION: todo.revision}
            self.deployment["metadata"]["annotations"] = found
        changed = todo.status != self.deployment.get("status")
        self.deployment["status"] = todo.status
        return bool(todo.create or todo.update or todo.delete or todo.revision or changed)

    def run_pods(self, image_works: dict[str, bool]) -> None:
        """Every ReplicaSet gets its size; pods of images that work become available."""
        for found in self.sets.values():
            image = found["spec"]["template"]["spec"]["containers"][0]["image"]
            wanted = found["spec"]["replicas"]
            works = image_works.get(image, True)
            found["status"] = {
                "replicas": wanted,
                "readyReplicas": wanted if works else 0,
                "availableReplicas": wanted if works else 0,
                "observedGeneration": found["metadata"]["generation"],
            }

    @property
    def pods(self) -> list[Obj]:
        """Those that are available."""
        return [
            pod(f"{name(found)}-{number}", owner=uid(found))
            for found in self.sets.values()
            for number in range((found.get("status") or {}).get("availableReplicas", 0))
        ]

    @property
    def total(self) -> int:
        return sum(found["spec"]["replicas"] for found in self.sets.values())

    @property
    def available(self) -> int:
        """What would still be available: a set that shrinks gives up its unavailable pods first."""
        return sum(
            min((found.get("status") or {}).get("availableReplicas", 0), found["spec"]["replicas"])
            for found in self.sets.values()
        )


numbers = st.one_of(st.integers(0, 6), st.integers(0, 100).map(lambda value: f"{value}%"))
changes = st.one_of(
    st.tuples(st.just("image"), st.sampled_from(["nginx:1", "nginx:2", "nginx:3", "broken"])),
    st.tuples(st.just("scale"), st.integers(0, 12)),
    st.tuples(st.just("pods"), st.none()),
    st.tuples(st.just("pause"), st.booleans()),
)


@given(st.integers(0, 8), numbers, numbers, st.lists(changes, max_size=15))
@settings(deadline=None, max_examples=150)
def test_any_history_is_safe_and_converges(
    replicas: int, surge: int | str, unavailable: int | str, history: list[tuple[str, object]]
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    world = World(deployment(replicas, strategy=strategy))
    works = {"broken": False}
    spec = world.deployment["spec"]
    for what, value in history:
        before_total, before_available = world.total, world.available
        rescaled = False
        if what == "image":
            spec["template"] = template(str(value))
        elif what == "scale":
            rescaled = spec["replicas"] != value
            spec["replicas"] = value
        elif what == "pause":
            spec["paused"] = value
        else:
            world.run_pods(works)
            before_available = world.available
        world.step()
        limits = sizes.limits_of(world.deployment)
        if not rescaled:
            assert world.total <= max(limits.most, before_total)
            assert world.available >= min(limits.fewest, before_available)
    spec["paused"] = False
    spec["template"] = template("nginx:final")
    for _ in range(150):
        world.run_pods(works)
        if not world.step():
            break
    else:
        raise AssertionError("does not come to rest")
    found = [rs for rs in world.sets.values() if rs["spec"]["replicas"]]
    assert world.total == spec["replicas"]
    assert all(rs["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:final" for rs in found)
    progressing = conditions.find(world.deployment["status"]["conditions"], "Progressing")
    assert progressing is not None
    assert progressing["reason"] == status.AVAILABLE


def test_the_deadline_counts_from_the_last_progress() -> None:
    world = World(deployment(2))
    world.step()
    for _ in range(5):
        world.run_pods({"nginx:1": False})
        world.step()
    world.now += timedelta(seconds=599)
    world.step()
    assert plan(world.deployment, list(world.sets.values()), world.pods, world.now).after == 2
    world.now += timedelta(seconds=2)
    world.step()
    progressing = conditions.find(world.deployment["status"]["conditions"], "Progressing")
    assert progressing is not None
    assert progressing["reason"] == status.TIMED_OUT
    assert "has timed out progressing" in progressing["message"]


def test_nothing_is_given_up_for_pods_that_only_an_old_status_tells_of() -> None:
    world = World(deployment(4, strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}))
    world.step()
    world.run_pods({})
    [old] = map(uid, world.sets.values())
    world.deployment["spec"]["template"] = template("nginx:2")
    world.step()
    world.run_pods({})
    sets, there = list(world.sets.values()), world.pods
    of_old = [one for one in there if one["metadata"]["ownerReferences"][0]["uid"] == old]
    lost = plan(world.deployment, sets, of_old, world.now)
    assert not any(scaled.after < scaled.before for scaled in lost.update)
    assert lost.after == 1
    assert any(scaled.after < scaled.before for scaled in plan(world.deployment, sets, there, world.now).update)


def test_an_adopted_set_waits_for_its_pods_as_it_did_before() -> None:
    """Upstream's conformance test of a rollover: what was there before the Deployment has no minReadySeconds."""
    world = World(deployment(1, minReadySeconds=10, strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}))
    before = replicaset(1, template=template("nginx:0"))
    before["metadata"] |= {"name": "before", "uid": "uid-before", "creationTimestamp": "2026-01-01T00:00:00Z"}
    world.sets["before"] = before
    world.run_pods({})
    world.step()
    world.run_pods({"nginx:1": False})
    world.deployment["spec"]["template"] = template("nginx:2")
    world.step()
    world.run_pods({"nginx:1": False})
    world.step()
    sizes_of = {
        found["spec"]["template"]["spec"]["containers"][0]["image"]: found["spec"]["replicas"]
        for found in world.sets.values()
    }
    assert sizes_of["nginx:0"] == 1
    assert sizes_of["nginx:1"] == 0


def test_hashes_are_stable_and_collisions_give_others() -> None:
    one = revisions.template_hash(template(), None)
    assert one == revisions.template_hash(copy.deepcopy(template()), 0)
    assert one != revisions.template_hash(template(), 1)
    assert one != revisions.template_hash(template("nginx:2"), None)
    assert len(one) == 10


def test_annotations_follow_the_deployment_but_not_its_own_ones() -> None:
    wanted = deployment(2)
    wanted["metadata"] |= {
        "uid": "d-uid",
        "annotations": {"kubernetes.io/change-cause": "first", "kubectl.kubernetes.io/last-applied-configuration": "x"},
    }
    todo = plan(wanted, [], [], NOW)
    assert todo.create is not None
    assert annotations(todo.create) == {
        "kubernetes.io/change-cause": "first",
        revisions.REVISION: "1",
        revisions.DESIRED: "2",
        revisions.LARGEST: "3",
    }
    assert uid(wanted) == todo.create["metadata"]["ownerReferences"][0]["uid"]
