"""Deployments and ReplicaSets over the fake API in virtual time: what kubectl's users see."""

import pytest

from orca.api.builtin import DEPLOYMENTS, EVENTS, PODS, REPLICASETS
from orca.api.errors import forbidden
from orca.api.objects import annotations, controller_of, name
from orca.controllers import conditions
from orca.controllers.deployment import revisions
from tests.unit.controllers.support import Cluster, deployment, pod, running


async def _ready(cluster: Cluster, replicas: int = 3, **spec: object) -> None:
    cluster.api.seed(DEPLOYMENTS, deployment(replicas, **spec))
    await cluster.settle(5)


async def test_creates_pods_and_reports_completion() -> None:
    async with running() as cluster:
        await _ready(cluster)
        assert len(cluster.pods()) == 3
        found = await cluster.deployment()
        status = found["status"]
        for part in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"):
            assert status[part] == 3
        assert "unavailableReplicas" not in status
        progressing = conditions.find(status["conditions"], "Progressing")
        assert progressing is not None
        assert progressing["reason"] == "NewReplicaSetAvailable"
        (replicaset,) = cluster.api.objects(REPLICASETS)
        assert progressing["message"] == f'ReplicaSet "{name(replicaset)}" has successfully progressed.'
        available = conditions.find(status["conditions"], "Available")
        assert available is not None
        assert available["reason"] == "MinimumReplicasAvailable"
        assert annotations(found)[revisions.REVISION] == "1"
        messages = {event["message"] for event in cluster.api.objects(EVENTS)}
        assert f"Scaled up replica set {name(replicaset)} from 0 to 3" in messages


async def test_rests_when_nothing_changes() -> None:
    async with running() as cluster:
        await _ready(cluster)
        before = len(cluster.api.calls)
        await cluster.settle(3600)
        assert [call for call in cluster.api.calls[before:] if call[1] != "leases"] == []


async def test_rolls_to_a_new_image_and_back() -> None:
    async with running() as cluster:
        await _ready(cluster, 4)
        await cluster.set_image("nginx:2")
        await cluster.settle(30)
        assert cluster.images() == ["nginx:2"] * 4
        assert cluster.sets() == {"nginx:1": 0, "nginx:2": 4}
        await cluster.set_image("nginx:1")
        await cluster.settle(30)
        assert cluster.images() == ["nginx:1"] * 4
        first = next(rs for rs in cluster.api.objects(REPLICASETS) if rs["spec"]["replicas"])
        assert annotations(first)[revisions.REVISION] == "3"
        assert annotations(first)[revisions.REVISION_HISTORY] == "1"
        assert annotations(await cluster.deployment())[revisions.REVISION] == "3"


async def test_a_bad_image_leaves_enough_old_pods_and_times_out() -> None:
    async with running() as cluster:
        await _ready(cluster, 4)
        cluster.runs = lambda found: found["spec"]["containers"][0]["image"] != "broken"
        await cluster.set_image("broken")
        await cluster.settle(60)
        assert cluster.sets() == {"nginx:1": 3, "broken": 2}
        await cluster.settle(700)
        found = await cluster.deployment()
        progressing = conditions.find(found["status"]["conditions"], "Progressing")
        assert progressing is not None
        assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
        cluster.runs = lambda _: True
        await cluster.set_image("nginx:3")
        await cluster.settle(60)
        assert cluster.images() == ["nginx:3"] * 4
        progressing = conditions.find((await cluster.deployment())["status"]["conditions"], "Progressing")
        assert progressing is not None
        assert progressing["reason"] == "NewReplicaSetAvailable"


async def test_scale_up_and_down() -> None:
    async with running() as cluster:
        await _ready(cluster, 2)
        await cluster.change({"spec": {"replicas": 7}})
        await cluster.settle(5)
        assert len(cluster.pods()) == 7
        await cluster.change({"spec": {"replicas": 1}})
        await cluster.settle(5)
        assert len(cluster.pods()) == 1
        await cluster.change({"spec": {"replicas": 0}})
        await cluster.settle(5)
        assert cluster.pods() == []


async def test_scales_in_proportion_while_rolling() -> None:
    async with running() as cluster:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
        await _ready(cluster, 10, strategy=strategy)
        cluster.runs = lambda found: found["spec"]["containers"][0]["image"] != "broken"
        await cluster.set_image("broken")
        await cluster.settle(5)
        assert cluster.sets() == {"nginx:1": 8, "broken": 5}
        # The example of the Kubernetes documentation: 10 -> 15 gives 3 to the old and 2 to the new.
        await cluster.change({"spec": {"replicas": 15}})
        await cluster.settle(5)
        assert cluster.sets() == {"nginx:1": 11, "broken": 7}


async def test_pause_holds_a_rollout_and_resume_does_it_once() -> None:
    async with running() as cluster:
        await _ready(cluster)
        await cluster.change({"spec": {"paused": True}})
        await cluster.settle(1)
        await cluster.set_image("nginx:2")
        await cluster.settle(5)
        assert cluster.images() == ["nginx:1"] * 3
        progressing = conditions.find((await cluster.deployment())["status"]["conditions"], "Progressing")
        assert progressing is not None
        assert progressing["reason"] == "DeploymentPaused"
        await cluster.change({"spec": {"replicas": 5}})
        await cluster.settle(5)
        assert cluster.images() == ["nginx:1"] * 5
        await cluster.change({"spec": {"paused": None}})
        await cluster.settle(30)
        assert cluster.images() == ["nginx:2"] * 5


async def test_recreate_never_mixes_versions() -> None:
    async with running() as cluster:
        await _ready(cluster, 3, strategy={"type": "Recreate"})
        mixed = []

        def watch(verb: str, resource: object, *_: object) -> None:
            if verb == "create" and resource == PODS:
                mixed.append({p["spec"]["containers"][0]["image"] for p in cluster.api.objects(PODS)})

        cluster.api.intercepts.append(watch)
        await cluster.set_image("nginx:2")
        await cluster.settle(30)
        assert cluster.images() == ["nginx:2"] * 3
        assert all(images <= {"nginx:2"} for images in mixed)


async def test_history_limit() -> None:
    async with running() as cluster:
        await _ready(cluster, 1, revisionHistoryLimit=2)
        for number in range(2, 7):
            await cluster.set_image(f"nginx:{number}")
            await cluster.settle(20)
        assert set(cluster.sets()) == {"nginx:4", "nginx:5", "nginx:6"}


async def test_hash_collision_takes_another_name() -> None:
    async with running() as cluster:
        wanted = deployment(1)
        taken = revisions.build_new({**wanted, "metadata": {**wanted["metadata"], "uid": "x"}}, 1, 1, _limits())
        taken["metadata"]["ownerReferences"][0]["uid"] = "someone-else"
        taken["spec"]["selector"]["matchLabels"] = taken["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
        cluster.api.seed(REPLICASETS, taken)
        await _ready(cluster, 1)
        found = await cluster.deployment()
        assert found["status"]["collisionCount"] == 1
        assert found["status"]["availableReplicas"] == 1


def _limits() -> object:
    from orca.controllers.deployment.sizes import Limits

    return Limits(1, 1, 0)


async def test_min_ready_seconds_delays_availability() -> None:
    async with running() as cluster:
        await _ready(cluster, 2, minReadySeconds=30)
        found = (await cluster.deployment())["status"]
        assert found["readyReplicas"] == 2
        assert "availableReplicas" not in found
        await cluster.settle(31)
        assert (await cluster.deployment())["status"]["availableReplicas"] == 2


async def test_quota_shows_as_replica_failure_and_is_retried() -> None:
    async with running() as cluster:

        def refuse(verb: str, resource: object, *_: object) -> None:
            if verb == "create" and resource == PODS and len(cluster.pods()) >= 2:
                raise forbidden(PODS, "", "exceeded quota: small")

        cluster.api.intercepts.append(refuse)
        await _ready(cluster, 4)
        assert len(cluster.pods()) == 2
        failure = conditions.find((await cluster.deployment())["status"]["conditions"], "ReplicaFailure")
        assert failure is not None
        assert failure["reason"] == "FailedCreate"
        assert "exceeded quota" in failure["message"]
        cluster.api.intercepts.clear()
        await cluster.settle(120)
        assert len(cluster.pods()) == 4
        assert conditions.find((await cluster.deployment())["status"]["conditions"], "ReplicaFailure") is None


async def test_adopts_matching_orphans_and_releases_relabelled_pods() -> None:
    async with running() as cluster:
        cluster.api.seed(PODS, pod("stray", owner="", ip="10.0.0.9"))
        wanted = deployment(2)
        await _ready(cluster, 2)
        assert wanted["spec"]["replicas"] == 2
        # The ReplicaSet selects the hash as well: a pod without it is left alone.
        (stray,) = [found for found in cluster.pods() if name(found) == "stray"]
        assert controller_of(stray) is None
        one = next(found for found in cluster.pods() if name(found) != "stray")
        await cluster.api.patch(PODS, name(one), {"metadata": {"labels": {"app": "debug"}}}, "default")
        await cluster.settle(5)
        released = await cluster.api.get(PODS, name(one), "default")
        assert controller_of(released) is None
        owned = [found for found in cluster.pods() if controller_of(found)]
        assert len(owned) == 2


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.5, 3.0])
async def test_restart_at_any_moment_converges_without_surplus(moment: float) -> None:
    cluster = Cluster()
    async with running(cluster=cluster):
        cluster.api.seed(DEPLOYMENTS, deployment(5))
        await cluster.settle(moment)
    async with running(cluster=cluster):
        await cluster.settle(10)
        assert len(cluster.api.objects(PODS)) == 5
        assert len(cluster.api.objects(REPLICASETS)) == 1
