"""`pods/resize` of a pod that has a node: what may change, and which rules of the namespace it meets."""

from __future__ import annotations

from typing import Any

from tests.api.server.api import Api
from tests.api.server.story import ok


def sizes(cpu: str, memory: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "1", "memory": "1Gi"}}


def change(resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "resources": resources, **more}]}}


async def placed(api: Api, space: str, name: str = "p") -> str:
    """The path of a pod with a node, which nobody runs."""
    path = f"/api/v1/namespaces/{space}/pods"
    spec = {"nodeName": "nowhere", "containers": [{"name": "c", "image": "i:1", "resources": sizes("100m", "64Mi")}]}
    ok(await api.post(path, {"metadata": {"name": name}, "spec": spec}), 201)
    return f"{path}/{name}"


async def test_a_placed_pod_is_resized_and_nothing_else_of_it(api: Api, space: str) -> None:
    one = await placed(api, space)
    before = ok(await api.get(one))
    resized = ok(
        await api.patch(f"{one}/resize", change(sizes("200m", "64Mi"), image="j:2"), "strategic", User_Agent="kubectl")
    )
    assert resized["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert resized["spec"]["containers"][0]["resources"] == sizes("200m", "64Mi")
    assert resized["spec"]["containers"][0]["image"] == "i:1"
    assert any(entry.get("subresource") == "resize" for entry in resized["metadata"]["managedFields"])
    same = ok(await api.patch(f"{one}/resize", change(sizes("200m", "64Mi")), "strategic"))
    assert same["metadata"]["generation"] == resized["metadata"]["generation"]
    code, _, message = (await api.patch(one, change(sizes("300m", "64Mi")), "strategic")).failure
    assert code == 422, "only the subresource resizes"
    assert "pod updates may not change fields other than" in message


async def test_bounds_of_the_namespace(api: Api, space: str) -> None:
    one = await placed(api, space)
    root = f"/api/v1/namespaces/{space}"
    limits = {"limits": [{"type": "Container", "min": {"cpu": "50m"}, "max": {"memory": "1Gi"}}]}
    ok(await api.post(f"{root}/limitranges", {"metadata": {"name": "range"}, "spec": limits}), 201)
    quota = {"metadata": {"name": "quota"}, "spec": {"hard": {"requests.memory": "128Mi"}}}
    ok(await api.post(f"{root}/resourcequotas", quota), 201)
    small = await api.patch(f"{one}/resize", change(sizes("10m", "64Mi")), "strategic")
    assert small.failure[:2] == (403, "Forbidden")
    assert "minimum cpu usage per Container is 50m, but request is 10m" in small.failure[2]
    large = await api.patch(f"{one}/resize", change(sizes("100m", "256Mi")), "strategic")
    assert large.failure[:2] == (403, "Forbidden")
    assert "exceeded quota: quota, requested: requests.memory=192Mi, used: requests.memory=64Mi" in large.failure[2]
    ok(await api.patch(f"{one}/resize", change(sizes("100m", "128Mi")), "strategic"))
    used = ok(await api.get(f"{root}/resourcequotas/quota"))["status"]["used"]
    assert used == {"requests.memory": "128Mi"}
    # What the node still holds counts until it has let go.
    told = {"name": "c", "image": "i:1", "imageID": "", "ready": True, "restartCount": 0}
    told |= {"resources": sizes("100m", "128Mi"), "allocatedResources": {"cpu": "100m", "memory": "128Mi"}}
    ok(await api.patch(f"{one}/status", {"status": {"containerStatuses": [told]}}, "strategic"))
    ok(await api.patch(f"{one}/resize", change(sizes("100m", "32Mi")), "strategic"))
    other = {"containers": [{"name": "c", "image": "i", "resources": sizes("100m", "64Mi")}]}
    full = await api.post(f"{root}/pods", {"metadata": {"name": "other"}, "spec": other})
    assert "exceeded quota: quota, requested: requests.memory=64Mi, used: requests.memory=128Mi" in full.failure[2]
