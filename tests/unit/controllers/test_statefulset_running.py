"""StatefulSets over the fake API in virtual time: order, updates, claims."""

from orca.api.builtin import CONTROLLERREVISIONS, EVENTS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from orca.api.errors import forbidden
from orca.api.objects import Obj, is_terminating, labels, name
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.statefulset import StatefulSetController
from orca.controllers.statefulset.identity import NAME_LABEL
from tests.unit.controllers.statefulsets import CLAIM, rolling, statefulset
from tests.unit.controllers.support import Cluster, pod, running_one


async def _host(cluster: Cluster) -> None:
    """The scheduler's and hosts' part, once: what is there becomes ready, what leaves is gone."""
    for found in cluster.api.objects(PODS):
        if is_terminating(found):
            await cluster.api.delete(PODS, name(found), "default", grace_seconds=0)
        elif not found.get("status", {}).get("conditions"):
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            status = {"phase": "Running", "conditions": [ready]}
            await cluster.api.patch(PODS, name(found), {"status": status}, "default", subresource="status")
    await cluster.settle(1)


async def _until_quiet(cluster: Cluster) -> list[str]:
    """Lets hosts work until nothing changes; answers what was created and deleted since it last did, in order."""
    for _ in range(60):
        before = [(name(found), found["metadata"]["resourceVersion"]) for found in cluster.api.objects(PODS)]
        await _host(cluster)
        if before == [(name(found), found["metadata"]["resourceVersion"]) for found in cluster.api.objects(PODS)]:
            break
    seen: list[str] = []
    for verb, plural, object_key in cluster.api.calls:
        step = f"{verb} {object_key.removeprefix('default/')}"
        if plural == "pods" and verb in ("create", "delete") and step not in seen[-1:]:
            seen.append(step)
    cluster.api.calls.clear()
    return seen


async def _change(cluster: Cluster, patch: Obj) -> None:
    await cluster.api.patch(STATEFULSETS, "web", patch, "default")
    await cluster.settle(1)


def _image(image: str) -> Obj:
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}


def _names(cluster: Cluster) -> list[str]:
    return sorted(name(found) for found in cluster.pods())


async def test_a_life_in_order() -> None:
    async with running_one(StatefulSetController) as (cluster, _):
        cluster.api.seed(STATEFULSETS, statefulset(revisionHistoryLimit=1))
        await cluster.settle(1)
        assert _names(cluster) == ["web-0"]
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0", "web-1", "web-2"]
        first = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert first["readyReplicas"] == first["currentReplicas"] == first["availableReplicas"] == 3
        assert first["currentRevision"] == first["updateRevision"]
        assert {labels(found)[HASH_LABEL] for found in cluster.pods()} == {first["currentRevision"]}

        await _change(cluster, _image("nginx:2"))
        during = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert during["currentRevision"] == first["currentRevision"] != during["updateRevision"]
        deletions = [step for step in await _until_quiet(cluster) if step.startswith("delete")]
        assert deletions == ["delete web-2", "delete web-1", "delete web-0"]
        assert cluster.images() == ["nginx:2"] * 3
        second = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert second["currentRevision"] == second["updateRevision"] == during["updateRevision"]

        # As `kubectl rollout undo`: the old template again is the old revision with a new number.
        await _change(cluster, _image("nginx:1"))
        await _until_quiet(cluster)
        revisions = {name(found): found["revision"] for found in cluster.api.objects(CONTROLLERREVISIONS)}
        assert revisions == {first["currentRevision"]: 3, second["currentRevision"]: 2}
        for image in ("nginx:3", "nginx:4"):
            await _change(cluster, _image(image))
            await _until_quiet(cluster)
        assert sorted(found["revision"] for found in cluster.api.objects(CONTROLLERREVISIONS)) == [4, 5]

        await _change(cluster, {"spec": {"replicas": 1}})
        deletions = [step for step in await _until_quiet(cluster) if step.startswith("delete")]
        assert deletions == ["delete web-2", "delete web-1"]
        await _change(cluster, {"spec": {"ordinals": {"start": 5}}})
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-5"]
        messages = {found["message"] for found in cluster.api.objects(EVENTS)}
        assert "create Pod web-0 in StatefulSet web successful" in messages
        assert "delete Pod web-2 in StatefulSet web successful" in messages


async def test_partition_and_a_pod_lost_below_it_keeps_its_template() -> None:
    async with running_one(StatefulSetController) as (cluster, _):
        cluster.api.seed(STATEFULSETS, statefulset(updateStrategy=rolling(2)))
        await cluster.settle(1)
        await _until_quiet(cluster)
        await _change(cluster, _image("nginx:2"))
        await _until_quiet(cluster)
        assert cluster.images() == ["nginx:1", "nginx:1", "nginx:2"]
        await cluster.api.delete(PODS, "web-0", "default", grace_seconds=0)
        await cluster.settle(1)
        await _until_quiet(cluster)
        assert cluster.images() == ["nginx:1", "nginx:1", "nginx:2"]
        status = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert (status["currentReplicas"], status["updatedReplicas"]) == (2, 1)
        await _change(cluster, {"spec": {"updateStrategy": rolling(0)}})
        await _until_quiet(cluster)
        assert cluster.images() == ["nginx:2"] * 3


async def test_claims_stay_or_go_with_their_pod() -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    wanted = statefulset(2, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=policy)
    async with running_one(StatefulSetController) as (cluster, _):
        cluster.api.seed(STATEFULSETS, wanted)
        await cluster.settle(1)
        await _until_quiet(cluster)

        def owners() -> dict[str, list[str]]:
            return {
                name(found): [ref["kind"] for ref in found["metadata"].get("ownerReferences") or ()]
                for found in cluster.api.objects(PERSISTENTVOLUMECLAIMS)
            }

        assert owners() == {"data-web-0": ["StatefulSet"], "data-web-1": ["StatefulSet"]}
        await _change(cluster, {"spec": {"replicas": 1}})
        assert owners() == {"data-web-0": ["StatefulSet"], "data-web-1": ["Pod"]}
        await _until_quiet(cluster)
        # The garbage collector is not running here: the next web-1 has to wait until the old claim is gone.
        await _change(cluster, {"spec": {"replicas": 2}})
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0"]
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data-web-1", "default")
        await cluster.settle(2)
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0", "web-1"]
        assert owners()["data-web-1"] == ["StatefulSet"]
        keep = {"whenDeleted": "Retain", "whenScaled": "Retain"}
        await _change(cluster, {"spec": {"persistentVolumeClaimRetentionPolicy": keep}})
        assert owners() == {"data-web-0": [], "data-web-1": []}


async def test_ended_pods_are_replaced_and_others_left_alone() -> None:
    async with running_one(StatefulSetController) as (cluster, _):
        stranger = pod("web-9", labels={"app": "web"}, owner="someone-else")
        odd = pod("web-03", labels={"app": "web"})
        cluster.api.seed(PODS, stranger)
        cluster.api.seed(PODS, odd)
        cluster.api.seed(STATEFULSETS, statefulset(2, podManagementPolicy="Parallel"))
        await cluster.settle(1)
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0", "web-03", "web-1", "web-9"]
        before = (await cluster.api.get(PODS, "web-1", "default"))["metadata"]["uid"]
        await cluster.api.patch(PODS, "web-1", {"status": {"phase": "Failed"}}, "default", subresource="status")
        await cluster.settle(1)
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0", "web-03", "web-1", "web-9"]
        assert (await cluster.api.get(PODS, "web-1", "default"))["metadata"]["uid"] != before
        await cluster.api.patch(PODS, "web-0", {"metadata": {"labels": {NAME_LABEL: None}}}, "default")
        await cluster.settle(1)
        assert labels(await cluster.api.get(PODS, "web-0", "default"))[NAME_LABEL] == "web-0"
        assert not (await cluster.api.get(PODS, "web-03", "default"))["metadata"].get("ownerReferences")


async def test_a_refused_pod_is_told_and_tried_again() -> None:
    cluster = Cluster()
    refused = []

    def refuse(verb: str, resource: object, object_key: str, _: str) -> None:
        if verb == "create" and resource == PODS and len(refused) < 2:
            refused.append(object_key)
            raise forbidden(PODS, "web-0", "exceeded quota")

    cluster.api.intercepts.append(refuse)
    async with running_one(StatefulSetController, cluster=cluster):
        cluster.api.seed(STATEFULSETS, statefulset(1))
        await cluster.settle(2)
        assert refused == ["default/web-0"] * 2
        assert _names(cluster) == ["web-0"]
        failures = [found["message"] for found in cluster.api.objects(EVENTS) if found["reason"] == "FailedCreate"]
        assert failures
        assert failures[0].startswith("create Pod web-0 in StatefulSet web failed error: ")
        assert "exceeded quota" in failures[0]
