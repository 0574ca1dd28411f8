"""StatefulSets, ReplicaSets and expiring Jobs in the particulars that users of kube-controller-manager know."""

from datetime import timedelta
from typing import Any

import pytest

from orca.api import errors
from orca.api.builtin import EVENTS, JOBS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from orca.api.objects import Obj, name
from orca.api.times import format_time
from orca.controllers import conditions, replicaset
from orca.controllers.podstate import deletion_order
from orca.controllers.statefulset import StatefulSetController
from orca.controllers.statefulset.plan import plan
from orca.controllers.ttlafterfinished import TTLAfterFinishedController
from tests.unit.controllers.statefulsets import OLD_NEW, member, statefulset
from tests.unit.controllers.support import NOW, Cluster, pod, running_one
from tests.unit.controllers.support import replicaset as one_replicaset


async def told(cluster: Cluster, controller: Any) -> list[tuple[str, str]]:
    await controller.recorder.flush()
    return [(event["reason"], event["message"]) for event in cluster.api.objects(EVENTS)]


@pytest.mark.parametrize(("limit", "expected"), [("50%", 2), ("10%", 1), ("100%", 5), (3, 3)])
def test_a_share_of_max_unavailable_is_rounded_down_to_one_at_least(limit: int | str, expected: int) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": limit}}
    wanted = statefulset(replicas=5, podManagementPolicy="Parallel", updateStrategy=rolling)
    todo = plan(wanted, [member(number, revision="old") for number in range(5)], OLD_NEW, NOW + timedelta(hours=1))
    assert len(todo.delete) == expected


async def test_one_on_its_way_out_still_counts_its_pods() -> None:
    async with running_one(StatefulSetController) as (cluster, _):
        leaving = statefulset()
        leaving["metadata"] |= {"deletionTimestamp": format_time(NOW), "finalizers": ["foregroundDeletion"]}
        leaving["metadata"]["generation"] = 4
        leaving["status"] = {"replicas": 3, "readyReplicas": 3, "currentRevision": "old", "updateRevision": "new"}
        cluster.api.seed(STATEFULSETS, leaving)
        cluster.api.seed(PODS, member(0))
        await cluster.settle(1)
        status = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert (status["replicas"], status["readyReplicas"], status["observedGeneration"]) == (1, 1, 4)
        assert len(cluster.pods()) == 1


async def test_a_claim_on_its_way_out_is_told_with_the_pod_that_waits_for_it() -> None:
    async with running_one(StatefulSetController) as (cluster, controller):
        wanted = statefulset(replicas=1, volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": {}}])
        claim: Obj = {
            "metadata": {
                "name": "data-web-0",
                "namespace": "default",
                "deletionTimestamp": format_time(NOW),
                "finalizers": ["kubernetes.io/pvc-protection"],
            }
        }
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim)
        cluster.api.seed(STATEFULSETS, wanted)
        await cluster.settle(3)
        assert not cluster.pods()
        text = "create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted"
        assert await told(cluster, controller) == [("FailedCreate", text)]


async def test_a_refused_claim_is_told_with_its_pod() -> None:
    async with running_one(StatefulSetController) as (cluster, controller):

        def refuse(verb: str, resource: Any, object_key: str, subresource: str) -> None:
            if (verb, resource) == ("create", PERSISTENTVOLUMECLAIMS):
                raise errors.ApiError(403, "Forbidden", "exceeded quota")

        cluster.api.intercepts.append(refuse)
        wanted = statefulset(replicas=1, volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": {}}])
        cluster.api.seed(STATEFULSETS, wanted)
        await cluster.settle(1)
        assert dict.fromkeys(text for _, text in await told(cluster, controller)) == dict.fromkeys(
            (
                "create Claim data-web-0 for Pod web-0 in StatefulSet web failed error: exceeded quota",
                "create Pod web-0 in StatefulSet web failed error: exceeded quota",
            )
        )


def test_the_first_failure_of_a_replicaset_is_shown_until_all_is_well() -> None:
    one = one_replicaset(3)
    first = replicaset.new_status(one, [], ("FailedCreate", "quota"), NOW)
    one["status"] = first
    second = replicaset.new_status(one, [], ("FailedDelete", "other"), NOW + timedelta(minutes=1))
    assert second["conditions"] == first["conditions"]
    assert conditions.find(replicaset.new_status(one, [], None, NOW).get("conditions"), "ReplicaFailure") is None


def test_sidecars_that_restart_more_often_go_before_others() -> None:
    pods = []
    for number, (regular, beside) in enumerate([(1, 0), (1, 3), (2, 0)]):
        made = pod(f"p{number}")
        made["spec"]["initContainers"] = [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}]
        made["status"]["containerStatuses"] = [{"name": "main", "restartCount": regular}]
        made["status"]["initContainerStatuses"] = [
            {"name": "side", "restartCount": beside},
            {"name": "init", "restartCount": 9},
        ]
        pods.append(made)
    assert [name(one) for one in deletion_order(pods, {}, NOW)] == ["p2", "p1", "p0"]


async def test_a_job_that_was_given_more_time_is_kept() -> None:
    cluster = Cluster()
    async with running_one(TTLAfterFinishedController, cluster=cluster) as (_, controller):
        stamp = format_time(cluster.clock.now())
        done = {"type": "Complete", "status": "True", "lastTransitionTime": stamp}
        made = {
            "metadata": {"name": "j", "namespace": "default"},
            "spec": {"ttlSecondsAfterFinished": 60},
            "status": {"conditions": [done]},
        }
        cluster.api.seed(JOBS, made)
        await cluster.settle(30)
        known = controller._jobs.get("default/j")
        await cluster.api.patch(JOBS, "j", {"spec": {"ttlSecondsAfterFinished": 600}}, "default")
        controller._jobs.get = lambda _: known  # the cache has not heard of it yet
        await cluster.settle(120)
        assert len(cluster.api.objects(JOBS)) == 1
        await cluster.settle(500)
        assert not [job for job in cluster.api.objects(JOBS) if not job["metadata"].get("deletionTimestamp")]
