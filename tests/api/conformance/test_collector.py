"""sig-api-machinery: the garbage collector."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conformance.cases import eventually, gone, ok, pod, template, when
from tests.api.conformance.host import Host
from tests.api.server.api import Api


def controller(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": labels, "template": template(labels)},
    }


async def pods_of(api: Api, space: str, label: str) -> list[Any]:
    found: list[Any] = ok(await api.get(f"/api/v1/namespaces/{space}/pods?labelSelector=app={label}"))["items"]
    return found


async def deleting(api: Api, path: str, **options: Any) -> None:
    uid = ok(await api.get(path))["metadata"]["uid"]
    assert (await api.delete(path, {"preconditions": {"uid": uid}, **options})).status == 200


@pytest.mark.parametrize("policy", ["Background", "Orphan"])
async def test_pods_of_a_controller(api: Api, space: str, running: Host, policy: str) -> None:
    path = f"/api/v1/namespaces/{space}/replicationcontrollers"
    ok(await api.post(path, controller("rc", 5)), 201)
    await when(api, f"{path}/rc", lambda rc: rc["status"].get("readyReplicas") == 5)
    await deleting(api, f"{path}/rc", propagationPolicy=policy)
    await gone(api, f"{path}/rc")
    if policy == "Background":
        await eventually(lambda: pods_of(api, space, "rc"), lambda found: not found)
        return
    await asyncio.sleep(1)
    left = await pods_of(api, space, "rc")
    assert len(left) == 5
    assert not any(one["metadata"].get("ownerReferences") for one in left)


async def test_orphan_dependents_of_old_clients(api: Api, space: str, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/replicationcontrollers"
    ok(await api.post(path, controller("rc", 2)), 201)
    await when(api, f"{path}/rc", lambda rc: rc["status"].get("replicas") == 2)
    await deleting(api, f"{path}/rc")  # neither option: the default of this kind leaves its pods
    await gone(api, f"{path}/rc")
    await asyncio.sleep(0.5)
    assert len(await pods_of(api, space, "rc")) == 2


@pytest.mark.parametrize("policy", ["Background", "Orphan"])
async def test_replicasets_of_a_deployment(api: Api, space: str, running: Host, policy: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}"
    labels = {"app": "d"}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template(labels)}
    ok(await api.post(f"{path}/deployments", {"metadata": {"name": "d"}, "spec": spec}), 201)
    await when(api, f"{path}/deployments/d", lambda d: d["status"].get("readyReplicas") == 2)
    await deleting(api, f"{path}/deployments/d", propagationPolicy=policy)
    await gone(api, f"{path}/deployments/d")

    async def sets() -> list[Any]:
        found: list[Any] = ok(await api.get(f"{path}/replicasets"))["items"]
        return found

    if policy == "Background":
        await eventually(sets, lambda found: not found)
        await eventually(lambda: pods_of(api, space, "d"), lambda found: not found)
        return
    await asyncio.sleep(1)
    (left,) = await sets()
    assert "ownerReferences" not in left["metadata"]
    assert len(await pods_of(api, space, "d")) == 2


async def test_a_controller_stays_until_its_pods_are_gone(api: Api, space: str, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/replicationcontrollers"
    body = controller("rc", 6)
    body["spec"]["template"]["metadata"]["finalizers"] = ["example.com/hold"]
    ok(await api.post(path, body), 201)
    await when(api, f"{path}/rc", lambda rc: rc["status"].get("replicas") == 6)
    await deleting(api, f"{path}/rc", propagationPolicy="Foreground")
    held = await eventually(
        lambda: pods_of(api, space, "rc"), lambda found: all("deletionTimestamp" in one["metadata"] for one in found)
    )
    assert len(held) == 6
    waiting = ok(await api.get(f"{path}/rc"))
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    for one in held:
        name = one["metadata"]["name"]
        ok(await api.patch(f"/api/v1/namespaces/{space}/pods/{name}", {"metadata": {"finalizers": None}}))
    await gone(api, f"{path}/rc")
    assert await pods_of(api, space, "rc") == []


async def test_dependents_with_another_living_owner_stay(api: Api, space: str, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/replicationcontrollers"
    ok(await api.post(path, controller("gone", 6)), 201)
    stays = ok(await api.post(path, controller("stays", 0)), 201)
    await when(api, f"{path}/gone", lambda rc: rc["status"].get("replicas") == 6)
    kept = [one["metadata"]["name"] for one in await pods_of(api, space, "gone")][:3]
    reference = {"apiVersion": "v1", "kind": "ReplicationController", "name": "stays", "uid": stays["metadata"]["uid"]}
    for name in kept:
        body = {"metadata": {"ownerReferences": [reference]}}
        patched = ok(await api.patch(f"/api/v1/namespaces/{space}/pods/{name}", body, "strategic"))
        assert len(patched["metadata"]["ownerReferences"]) == 2
    await deleting(api, f"{path}/gone", propagationPolicy="Foreground")
    await gone(api, f"{path}/gone")
    left = await pods_of(api, space, "gone")
    assert sorted(one["metadata"]["name"] for one in left) == sorted(kept)
    for one in left:
        assert "deletionTimestamp" not in one["metadata"]
        assert [owner["name"] for owner in one["metadata"]["ownerReferences"]] == ["stays"]


async def test_a_circle_of_owners_is_collected(api: Api, space: str, running: Host) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    made = [ok(await api.post(path, pod(f"pod{i}")), 201) for i in (1, 2, 3)]
    for one, owner in ((made[0], made[2]), (made[1], made[0]), (made[2], made[1])):
        reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        name = one["metadata"]["name"]
        ok(await api.patch(f"{path}/{name}", {"metadata": {"ownerReferences": [reference]}}, "strategic"))
    await deleting(api, f"{path}/pod1", propagationPolicy="Foreground")
    for i in (1, 2, 3):
        await gone(api, f"{path}/pod{i}")
