"""Mirrored Endpoints, aggregated roles, Jobs that expire."""

import pytest

from orca.api.builtin import (
    CLUSTERROLES,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    JOBS,
    SERVICES,
)
from orca.api.objects import Obj, name
from orca.controllers.clusterroles import ClusterRoleAggregationController
from orca.controllers.endpoints import EndpointSliceMirroringController
from orca.controllers.ttlafterfinished import TTLAfterFinishedController
from tests.unit.controllers.support import running_one
from tests.unit.controllers.test_endpoints import service


def endpoints(*addresses: str, **metadata: object) -> Obj:
    return {
        "metadata": {"name": "web", "namespace": "default", **metadata},
        "subsets": [{"addresses": [{"ip": one} for one in addresses], "ports": [{"port": 5432}]}],
    }


async def test_hand_made_endpoints_become_slices() -> None:
    async with running_one(EndpointSliceMirroringController) as (cluster, _):
        cluster.api.seed(SERVICES, service(selector=None))
        cluster.api.seed(ENDPOINTS, endpoints("192.0.2.1", "2001:db8::1"))
        await cluster.settle(1)
        found = {one["addressType"]: one for one in cluster.api.objects(ENDPOINTSLICES)}
        assert found["IPv4"]["endpoints"] == [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}]
        assert found["IPv6"]["endpoints"][0]["addresses"] == ["2001:db8::1"]
        assert found["IPv4"]["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
        assert found["IPv4"]["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
        await cluster.api.patch(ENDPOINTS, "web", {"subsets": endpoints("192.0.2.9")["subsets"]}, "default")
        await cluster.settle(1)
        (left,) = cluster.api.objects(ENDPOINTSLICES)
        assert left["endpoints"][0]["addresses"] == ["192.0.2.9"]
        await cluster.api.delete(SERVICES, "web", "default")
        await cluster.settle(1)
        assert cluster.api.objects(ENDPOINTSLICES) == []


async def test_what_mirrored_slices_carry() -> None:
    async with running_one(EndpointSliceMirroringController) as (cluster, _):
        cluster.api.seed(SERVICES, service(selector=None))
        many = [f"192.0.{index // 250}.{index % 250 + 1}" for index in range(1010)]
        noted = {"team": "a", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
        cluster.api.seed(ENDPOINTS, endpoints(*many, annotations=noted, labels={"tier": "db"}))
        await cluster.settle(1)
        (made,) = cluster.api.objects(ENDPOINTSLICES)
        assert len(made["endpoints"]) == 1000
        assert made["metadata"]["annotations"] == {"team": "a"}
        assert made["metadata"]["labels"]["tier"] == "db"
        (told,) = cluster.api.objects(EVENTS)
        assert (told["type"], told["reason"]) == ("Warning", "TooManyAddressesToMirror")
        assert told["message"] == (
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 10 addresses were skipped"
        )
        await cluster.api.patch(ENDPOINTS, "web", {"metadata": {"annotations": {"team": None}}}, "default")
        await cluster.settle(1)
        (made,) = cluster.api.objects(ENDPOINTSLICES)
        assert "annotations" not in made["metadata"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        {"labels": {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}},
        {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}},
    ],
)
async def test_other_endpoints_are_not_mirrored(metadata: Obj) -> None:
    async with running_one(EndpointSliceMirroringController) as (cluster, _):
        cluster.api.seed(SERVICES, service(selector=None))
        cluster.api.seed(ENDPOINTS, endpoints("192.0.2.1", **metadata))
        await cluster.settle(1)
        assert cluster.api.objects(ENDPOINTSLICES) == []


async def test_roles_are_aggregated() -> None:
    async with running_one(ClusterRoleAggregationController) as (cluster, _):
        selector = {"matchLabels": {"to-view": "true"}}
        whole = {"metadata": {"name": "view"}, "aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": []}
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
        cluster.api.seed(CLUSTERROLES, whole)
        cluster.api.seed(CLUSTERROLES, {"metadata": {"name": "a", "labels": {"to-view": "true"}}, "rules": [rule]})
        cluster.api.seed(CLUSTERROLES, {"metadata": {"name": "b"}, "rules": [{**rule, "verbs": ["delete"]}]})
        await cluster.settle(1)
        assert (await cluster.api.get(CLUSTERROLES, "view"))["rules"] == [rule]
        await cluster.api.delete(CLUSTERROLES, "a")
        await cluster.settle(1)
        assert (await cluster.api.get(CLUSTERROLES, "view"))["rules"] == []


async def test_finished_jobs_expire() -> None:
    async with running_one(TTLAfterFinishedController) as (cluster, _):
        done = [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        for index, conditions in enumerate((done, [])):
            made = {"metadata": {"name": f"j{index}", "namespace": "default"}, "spec": {"ttlSecondsAfterFinished": 100}}
            cluster.api.seed(JOBS, {**made, "status": {"conditions": conditions}})
        await cluster.settle(99)
        assert len(cluster.api.objects(JOBS)) == 2
        await cluster.settle(2)
        gone = [one for one in cluster.api.objects(JOBS) if "deletionTimestamp" in one["metadata"]]
        assert [name(one) for one in gone] == ["j0"]
