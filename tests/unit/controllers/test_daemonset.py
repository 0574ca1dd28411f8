"""DaemonSets: placement, one pod a node, rolling updates, history."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS, STATEFULSETS
from orca.api.objects import Obj, controller_of, is_terminating, labels, name
from orca.controllers import controllerrevisions
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.daemonset import DaemonSetController
from orca.controllers.daemonset.placement import Placement, aimed_at, place, target_of
from orca.controllers.daemonset.plan import new_status, plan
from tests.unit.controllers.support import NOW, Cluster, pod, running_one, template


def daemonset(**spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "web", "namespace": "default", "uid": "ds-uid", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template(), **spec},
    }


def node(node_name: str, *taints: Obj, **found: str) -> Obj:
    return {"metadata": {"name": node_name, "labels": found}, "spec": {"taints": list(taints)}}


def daemon(on: str, *, revision: str = "new", suffix: str = "", **more: Any) -> Obj:
    kind = "DaemonSet"
    return pod(f"{on}{suffix}", node=on, owner="ds-uid", kind=kind, labels={"app": "web", HASH_LABEL: revision}, **more)


def test_placement() -> None:
    plain: Obj = {"containers": []}
    taint = {"key": "team", "value": "a", "effect": "NoSchedule"}
    assert place(plain, node("a")) == Placement(True, True)
    assert place(plain, node("a", taint)) == Placement(False, True)
    assert place(plain, node("a", {**taint, "effect": "NoExecute"})) == Placement(False, False)
    assert place({**plain, "tolerations": [{"operator": "Exists"}]}, node("a", taint)) == Placement(True, True)
    trouble = [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
    ]
    assert place(plain, node("a", *trouble)) == Placement(True, True)
    assert place({**plain, "nodeSelector": {"disk": "ssd"}}, node("a")) == Placement(False, False)
    assert place({**plain, "nodeSelector": {"disk": "ssd"}}, node("a", disk="ssd")).start
    assert target_of({"spec": aimed_at(plain, "b")}) == "b"


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["old", "new"]), st.booleans(), st.booleans()), max_size=12),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_any_state_is_safe(found: list[tuple[int, str, bool, bool]], unavailable: int, surge: int) -> None:
    rolling = {"maxUnavailable": 0 if surge else unavailable, "maxSurge": surge}
    wanted = daemonset(updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling})
    nodes = [node(f"n{index}") for index in range(5)]
    pods = []
    for index, (where, revision, ready, going) in enumerate(found):
        more = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {}
        pods.append(daemon(f"n{where}", revision=revision, suffix=f"-{index}", ready=ready, **more))
    todo = plan(wanted, nodes, pods, "new", NOW)
    doomed = {name(one) for one in todo.delete}
    assert not any(is_terminating(one) for one in todo.delete)
    for where in {name(one) for one in nodes}:
        left = [p for p in pods if p["spec"]["nodeName"] == where and not is_terminating(p) and name(p) not in doomed]
        assert len(left) + todo.create.count(where) <= (2 if surge else 1)

    def covered(pods_left: list[Obj]) -> int:
        serving = {p["spec"]["nodeName"] for p in pods_left if not is_terminating(p)}
        ready = {
            p["spec"]["nodeName"]
            for p in pods_left
            if not is_terminating(p) and p["status"]["conditions"][0]["status"] == "True"
        }
        return len(serving & ready & {name(one) for one in nodes})

    single = [p for p in pods if sum(q["spec"]["nodeName"] == p["spec"]["nodeName"] for q in pods) == 1]
    if len(single) == len(pods):
        after = covered([p for p in pods if name(p) not in doomed])
        assert after >= min(covered(pods), 5 - (0 if surge else unavailable))


def test_status() -> None:
    nodes = [node("a"), node("b"), node("c", {"key": "x", "effect": "NoSchedule"})]
    pods = [daemon("a"), daemon("b", revision="old", ready=False), daemon("c")]
    assert new_status(daemonset(), nodes, pods, "new", NOW) == {
        "currentNumberScheduled": 2,
        "numberMisscheduled": 1,
        "desiredNumberScheduled": 2,
        "numberReady": 1,
        "observedGeneration": 1,
        "updatedNumberScheduled": 1,
        "numberAvailable": 1,
        "numberUnavailable": 1,
    }


async def _run(cluster: Cluster) -> None:
    """The scheduler's and hosts' part: bind by affinity, make ready."""
    for found in cluster.pods():
        if not found["spec"].get("nodeName"):
            target = {"target": {"name": target_of(found)}}
            await cluster.api.create_sub(PODS, name(found), "default", "binding", target)
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        status = {"phase": "Running", "conditions": [ready]}
        await cluster.api.patch(PODS, name(found), {"status": status}, "default", subresource="status")
    for found in cluster.api.objects(PODS):
        if is_terminating(found):
            await cluster.api.delete(PODS, name(found), "default", grace_seconds=0)
    await cluster.settle(1)


async def test_a_daemon_on_every_node_rolled_one_by_one_with_history() -> None:
    async with running_one(DaemonSetController) as (cluster, _):
        for index in range(3):
            cluster.api.seed(NODES, node(f"n{index}"))
        cluster.api.seed(DAEMONSETS, daemonset(revisionHistoryLimit=1))
        await cluster.settle(1)
        await _run(cluster)
        assert sorted(found["spec"]["nodeName"] for found in cluster.pods()) == ["n0", "n1", "n2"]
        cluster.api.seed(NODES, node("n3"))
        await cluster.settle(1)
        await _run(cluster)
        assert len(cluster.pods()) == 4
        for image in ("nginx:2", "nginx:3", "nginx:4"):
            change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}
            await cluster.api.patch(DAEMONSETS, "web", change, "default")
            await cluster.settle(1)
            for _ in range(12):
                assert sum(is_terminating(found) for found in cluster.api.objects(PODS)) <= 1
                await _run(cluster)
            assert cluster.images() == [image] * 4
        revisions = sorted(found["revision"] for found in cluster.api.objects(CONTROLLERREVISIONS))
        assert revisions == [3, 4]
        status = (await cluster.api.get(DAEMONSETS, "web", "default"))["status"]
        assert status["updatedNumberScheduled"] == status["numberAvailable"] == 4
        back = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "nginx:3"}]}}}}
        await cluster.api.patch(DAEMONSETS, "web", back, "default")
        await cluster.settle(1)
        assert sorted(found["revision"] for found in cluster.api.objects(CONTROLLERREVISIONS)) == [4, 5]


async def test_failed_daemons_are_replaced_and_misplaced_ones_go() -> None:
    async with running_one(DaemonSetController) as (cluster, _):
        cluster.api.seed(NODES, node("n0"))
        cluster.api.seed(NODES, node("n1"))
        cluster.api.seed(DAEMONSETS, daemonset())
        await cluster.settle(1)
        await _run(cluster)
        victim = next(found for found in cluster.pods() if found["spec"]["nodeName"] == "n0")
        await cluster.api.patch(PODS, name(victim), {"status": {"phase": "Failed"}}, "default", subresource="status")
        await cluster.settle(1)
        await _run(cluster)
        assert len(cluster.pods()) == 2
        assert name(victim) not in {name(found) for found in cluster.pods()}
        taint = {"key": "away", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
        await cluster.api.patch(NODES, "n1", {"spec": {"taints": [taint]}})
        await cluster.settle(1)
        await _run(cluster)
        assert [found["spec"]["nodeName"] for found in cluster.pods()] == ["n0"]
        assert all(labels(found)[HASH_LABEL] for found in cluster.pods())


async def test_a_revision_of_another_kinds_namesake_is_left_alone() -> None:
    """A StatefulSet of the same name and template has taken the name that the history would use."""
    wanted = daemonset()
    taken = controllerrevisions.build(
        STATEFULSETS, {**wanted, "metadata": {**wanted["metadata"], "uid": "other"}}, 1, None
    )
    async with running_one(DaemonSetController) as (cluster, _):
        cluster.api.seed(NODES, node("n0"))
        cluster.api.seed(CONTROLLERREVISIONS, taken)
        cluster.api.seed(DAEMONSETS, wanted)
        await cluster.settle(5)
        await _run(cluster)
        assert len(cluster.pods()) == 1
        assert (await cluster.api.get(DAEMONSETS, "web", "default"))["status"]["collisionCount"] == 1
        owners = {controller_of(found)["uid"]: name(found) for found in cluster.api.objects(CONTROLLERREVISIONS)}
        assert owners.keys() == {"other", "ds-uid"}
        assert owners["other"] == name(taken)


async def test_a_daemon_that_fails_at_once_is_replaced_later_each_time() -> None:
    cluster = Cluster()
    cluster.api.seed(NODES, node("n0"))
    cluster.api.seed(DAEMONSETS, daemonset(updateStrategy={"type": "RollingUpdate"}))
    async with running_one(DaemonSetController, cluster=cluster):
        made = set()
        for _ in range(60):
            for found in cluster.api.objects(PODS):
                made.add(found["metadata"]["uid"])
                change = {"status": {"phase": "Failed", "reason": "NodeAffinity"}}
                await cluster.api.patch(PODS, name(found), change, "default", subresource="status")
                if is_terminating(found):
                    await cluster.api.delete(PODS, name(found), "default", grace_seconds=0)
            await cluster.settle(0.5)
        # The first try, one at once, then after 1, 2, 4, 8 and 16 seconds.
        assert 4 <= len(made) <= 7
