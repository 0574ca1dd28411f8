"""ResourceQuota status follows what exists."""

from typing import Any

import pytest

from orca.api.builtin import BUILTIN, CONFIGMAPS, DEPLOYMENTS, PERSISTENTVOLUMECLAIMS, PODS, RESOURCEQUOTAS, SERVICES
from orca.api.objects import Obj
from orca.api.quota.usage import counted_by
from orca.controllers.resourcequota import ResourceQuotaController, new_status
from tests.unit.controllers.support import Cluster, deployment, pod, running_one


def quota(hard: dict[str, str], **spec: Any) -> Obj:
    return {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard, **spec}}


def asking(pod_name: str, cpu: str, memory: str, **more: Any) -> Obj:
    made = pod(pod_name, **more)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu, "memory": memory}}
    return made


async def used(cluster: Cluster) -> dict[str, str]:
    status = (await cluster.api.get(RESOURCEQUOTAS, "q", "default"))["status"]
    found: dict[str, str] = status["used"]
    return found


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("pods", PODS),
        ("cpu", PODS),
        ("requests.memory", PODS),
        ("limits.cpu", PODS),
        ("requests.example.com/gpu", PODS),
        ("requests.storage", PERSISTENTVOLUMECLAIMS),
        ("gold.storageclass.storage.k8s.io/requests.storage", PERSISTENTVOLUMECLAIMS),
        ("persistentvolumeclaims", PERSISTENTVOLUMECLAIMS),
        ("services.nodeports", SERVICES),
        ("configmaps", CONFIGMAPS),
        ("count/deployments.apps", DEPLOYMENTS),
        ("count/unknown.example.com", None),
        ("count/nodes", None),
        ("example.com/thing", None),
    ],
)
def test_what_a_name_counts(name: str, resource: object) -> None:
    assert counted_by(name, BUILTIN) is resource


def test_scopes_and_names_that_count_nothing() -> None:
    short = asking("short", "1", "1Gi")
    short["spec"]["activeDeadlineSeconds"] = 5
    scoped = quota({"pods": "5", "example.com/thing": "3"}, scopes=["Terminating"])
    scoped["status"] = {"used": {"example.com/thing": "2", "gone": "1"}}
    assert new_status(scoped, {"pods": (PODS, [short, asking("long", "1", "1Gi")])}) == {
        "hard": {"pods": "5", "example.com/thing": "3"},
        "used": {"pods": "1", "example.com/thing": "2"},
    }


def test_claims_by_their_class_of_attributes() -> None:
    def claim(size: str, spec: str = "", current: str = "", **status: Any) -> Obj:
        wanted = {"resources": {"requests": {"storage": size}}, "volumeAttributesClassName": spec or None}
        return {"spec": wanted, "status": {"currentVolumeAttributesClassName": current or None, **status}}

    claims = [
        claim("1Gi"),
        claim("2Gi", "gold"),
        claim("4Gi", "silver", "gold"),
        claim("8Gi", "silver", allocatedResources={"storage": "16Gi"}),
    ]
    hard = {"persistentvolumeclaims": "9", "requests.storage": "99Gi"}

    def used(operator: str, *values: str) -> tuple[str, str]:
        one = {
            "scopeName": "VolumeAttributesClass",
            "operator": operator,
            **({"values": list(values)} if values else {}),
        }
        made = quota(hard, scopeSelector={"matchExpressions": [one]})
        found = new_status(made, dict.fromkeys(hard, (PERSISTENTVOLUMECLAIMS, claims)))["used"]
        return found["persistentvolumeclaims"], found["requests.storage"]

    assert used("In", "gold") == ("2", "6Gi")
    assert used("NotIn", "gold") == ("3", "21Gi")
    assert used("Exists") == ("3", "22Gi")
    assert used("DoesNotExist") == ("1", "1Gi")
    # Of a scope for pods a claim is nothing, and pods are nothing of this one.
    assert new_status(quota(hard, scopes=["BestEffort"]), {"requests.storage": (PERSISTENTVOLUMECLAIMS, claims)}) == {
        "hard": hard,
        "used": {"requests.storage": "0"},
    }


async def test_status_follows_what_exists() -> None:
    async with running_one(ResourceQuotaController) as (cluster, _):
        hard = {"pods": "10", "requests.cpu": "4", "memory": "4Gi", "count/deployments.apps": "2", "configmaps": "9"}
        cluster.api.seed(RESOURCEQUOTAS, quota(hard))
        await cluster.settle(1)
        assert await used(cluster) == dict.fromkeys(hard, "0")
        assert (await cluster.api.get(RESOURCEQUOTAS, "q", "default"))["status"]["hard"] == hard
        cluster.api.seed(PODS, asking("a", "500m", "128Mi"))
        cluster.api.seed(PODS, asking("b", "750m", "128Mi"))
        cluster.api.seed(PODS, asking("c", "1", "1Gi", namespace="other"))
        cluster.api.seed(DEPLOYMENTS, deployment())
        cluster.api.seed(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}})
        await cluster.settle(1)
        assert await used(cluster) == {
            "pods": "2",
            "requests.cpu": "1250m",
            "memory": "256Mi",
            "count/deployments.apps": "1",
            "configmaps": "1",
        }
        await cluster.api.patch(PODS, "b", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
        await cluster.api.delete(CONFIGMAPS, "c", "default")
        await cluster.settle(1)
        found = await used(cluster)
        assert (found["pods"], found["requests.cpu"], found["configmaps"]) == ("1", "500m", "0")
        await cluster.api.patch(RESOURCEQUOTAS, "q", {"spec": {"hard": {"memory": None}}}, "default")
        await cluster.settle(1)
        assert "memory" not in await used(cluster)


async def test_many_changes_are_counted_together() -> None:
    async with running_one(ResourceQuotaController) as (cluster, _):
        cluster.api.seed(RESOURCEQUOTAS, quota({"pods": "500"}))
        await cluster.settle(1)
        before = len(cluster.api.calls)
        for index in range(100):
            cluster.api.seed(PODS, pod(f"p{index}"))
            await cluster.settle(0.001)
        await cluster.settle(1)
        assert await used(cluster) == {"pods": "100"}
        assert len(cluster.api.calls) - before <= 3
