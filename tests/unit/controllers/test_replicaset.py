"""Planning for a ReplicaSet: how many pods, which go, what the status says."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import PODS, REPLICASETS, REPLICATIONCONTROLLERS
from orca.api.errors import conflict, service_unavailable
from orca.api.objects import Obj, name, uid
from orca.api.selectors import from_label_selector
from orca.controllers import podstate
from orca.controllers.claims import decide
from orca.controllers.replicaset import (
    ReplicaSetController,
    ReplicationControllerController,
    new_status,
    next_look,
    plan,
)
from tests.unit.controllers.support import NOW, Cluster, pod, replicaset, running_one, template

LATER = NOW + timedelta(hours=1)


@st.composite
def pods(draw: st.DrawFn) -> list[Obj]:
    found = []
    for index in range(draw(st.integers(0, 12))):
        metadata = {}
        if draw(st.booleans()):
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        found.append(
            pod(
                f"p{index}",
                ready=draw(st.sampled_from([True, False, None])),
                phase=draw(st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"])),
                node=draw(st.sampled_from(["", "a", "b"])),
                owner="rs-uid",
                **metadata,
            )
        )
    return found


@given(st.integers(0, 12), pods())
def test_reaches_the_size_in_one_step_and_never_touches_inactive_pods(replicas: int, found: list[Obj]) -> None:
    todo = plan(replicaset(replicas), found, {}, LATER)
    active = [one for one in found if podstate.is_active(one)]
    assert len(active) + todo.create - len(todo.delete) == replicas
    assert not (todo.create and todo.delete)
    assert all(podstate.is_active(one) for one in todo.delete)
    assert set(map(uid, todo.delete)) <= set(map(uid, active))
    if any(_is_good(one) for one in todo.delete):
        # A pod that serves only goes when nothing worse is left.
        assert all(_is_good(one) for one in active if one not in todo.delete)


def _is_good(one: Obj) -> bool:
    return podstate.is_ready(one) and bool(one["spec"].get("nodeName")) and podstate.phase(one) == "Running"


def _first_victim(*found: Obj, crowd: dict[str, int] | None = None) -> str:
    return name(podstate.deletion_order(found, crowd or {}, LATER)[0])


def test_deletion_order() -> None:
    good = pod("good")
    assert _first_victim(good, pod("bad", node="")) == "bad"
    assert _first_victim(good, pod("bad", phase="Pending", ready=None)) == "bad"
    assert _first_victim(good, pod("bad", ready=False)) == "bad"
    cheap = {"controller.kubernetes.io/pod-deletion-cost": "-5"}
    assert _first_victim(good, pod("bad", annotations=cheap)) == "bad"
    assert _first_victim(good, pod("bad", node="crowded"), crowd={"crowded": 3, "host-1": 1}) == "bad"
    assert _first_victim(good, pod("bad", since=LATER - timedelta(seconds=5))) == "bad"
    restarted = pod("bad")
    restarted["status"]["containerStatuses"] = [{"restartCount": 4}]
    assert _first_victim(good, restarted) == "bad"
    assert _first_victim(good, pod("bad", creationTimestamp="2026-01-01T00:59:00Z")) == "bad"


def test_status_counts() -> None:
    found = [
        pod("a"),
        pod("b", ready=False),
        pod("c", labels={"app": "web", "extra": "1"}, since=LATER - timedelta(seconds=3)),
        pod("d", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("e", phase="Failed", ready=False),
    ]
    status = new_status(replicaset(3, minReadySeconds=10), found, None, LATER)
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "terminatingReplicas": 1,
        "observedGeneration": 1,
    }
    assert next_look(replicaset(3, minReadySeconds=10), found, LATER) == 7


owners = st.sampled_from(["", "rs-uid", "other"])


@given(st.lists(st.tuples(owners, st.booleans(), st.booleans()), max_size=10), st.booleans())
def test_claims_never_touch_what_belongs_to_others(found: list[tuple[str, bool, bool]], deleting: bool) -> None:
    owner = replicaset()
    if deleting:
        owner["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    candidates = []
    for index, (owned_by, matching, going) in enumerate(found):
        metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {}
        candidates.append(pod(f"p{index}", owner=owned_by, labels={"app": "web" if matching else "x"}, **metadata))
    claims = decide(owner, candidates, from_label_selector({"matchLabels": {"app": "web"}}), podstate.is_active)
    touched = {uid(one) for one in [*claims.owned, *claims.adopt, *claims.release]}
    for candidate, (owned_by, matching, going) in zip(candidates, found, strict=True):
        if owned_by == "other":
            assert uid(candidate) not in touched
        if owned_by == "":
            assert (candidate in claims.adopt) == (matching and not going and not deleting)
        if owned_by == "rs-uid":
            assert (candidate in claims.release) == (not matching and not deleting)


async def test_creates_in_growing_batches_and_stops_at_a_failure() -> None:
    cluster = Cluster()
    attempts = []

    def refuse(verb: str, resource: object, *_: object) -> None:
        if verb == "create" and resource == PODS:
            attempts.append(1)
            raise service_unavailable("down")

    cluster.api.intercepts.append(refuse)
    async with running_one(ReplicaSetController, cluster=cluster):
        cluster.api.seed(REPLICASETS, replicaset(100))
        await cluster.settle()
        # One, and one more because the failure in its own status was news.
        assert len(attempts) == 2
        cluster.api.intercepts.clear()
        await cluster.settle(60)
        assert len(cluster.pods()) == 100


async def test_an_answer_that_is_ahead_of_the_watch_creates_nothing_twice() -> None:
    cluster = Cluster()
    async with running_one(ReplicaSetController, cluster=cluster) as (_, controller):
        cluster.api.seed(REPLICASETS, replicaset(5))
        await cluster.settle()
        cluster.api.drop_watches()  # the caches now stand still until they come back
        created = [await cluster.api.get(REPLICASETS, "web", "default")]
        assert created
        for _ in range(3):
            controller.queue.add("default/web")
            await cluster.clock.settle()
        await cluster.settle(10)
        assert len(cluster.api.objects(PODS)) == 5


async def test_conflicts_are_retried() -> None:
    cluster = Cluster()
    fails = [2]

    def refuse(verb: str, resource: object, key: str, subresource: str) -> None:
        if verb == "update" and subresource == "status" and fails[0]:
            fails[0] -= 1
            raise conflict(REPLICASETS, key)

    cluster.api.intercepts.append(refuse)
    async with running_one(ReplicaSetController, cluster=cluster):
        cluster.api.seed(REPLICASETS, replicaset(2))
        await cluster.settle(5)
        found = await cluster.api.get(REPLICASETS, "web", "default")
        assert found["status"]["replicas"] == 2


async def test_replication_controllers_work_alike() -> None:
    cluster = Cluster()
    async with running_one(ReplicationControllerController, cluster=cluster):
        made = {
            "metadata": {"name": "old", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"app": "web"}, "template": template()},
        }
        cluster.api.seed(REPLICATIONCONTROLLERS, made)
        await cluster.settle(1)
        assert len(cluster.pods()) == 2
        found = await cluster.api.get(REPLICATIONCONTROLLERS, "old", "default")
        assert found["status"] == {"replicas": 2, "fullyLabeledReplicas": 2, "observedGeneration": 1}
