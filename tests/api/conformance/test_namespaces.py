"""sig-api-machinery: namespaces, and what a ResourceQuota makes of the life of each kind."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conformance.cases import gone, ok, pod, put, template, watching, when
from tests.api.conformance.host import Host
from tests.api.server.api import Api


async def test_patch_update_status_and_finalizer_of_a_namespace(api: Api) -> None:
    path = "/api/v1/namespaces"
    ok(await api.post(path, {"metadata": {"name": "nspatch"}}), 201)
    one = f"{path}/nspatch"
    patched = ok(await api.patch(one, {"metadata": {"labels": {"testLabel": "testValue"}}}, "strategic"))
    assert patched["metadata"]["labels"]["testLabel"] == "testValue"
    assert patched["metadata"]["labels"]["kubernetes.io/metadata.name"] == "nspatch"
    read = ok(await api.get(one))
    assert read["status"]["phase"] == "Active"
    condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by an e2e test"}
    body = {"metadata": {"annotations": {"e2e-patched-ns-status": "x"}}, "status": {"conditions": [condition]}}
    patched = ok(await api.patch(f"{one}/status", body))
    assert patched["metadata"]["annotations"] == {"e2e-patched-ns-status": "x"}
    assert patched["status"]["conditions"][0]["reason"] == "E2E"
    patched["status"]["conditions"].append({**condition, "type": "StatusUpdate"})
    updated = ok(await put(api, f"{one}/status", patched))
    assert [each["type"] for each in updated["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]
    updated["metadata"]["labels"]["testing"] = "updated"
    assert ok(await put(api, one, updated))["metadata"]["labels"]["testing"] == "updated"

    read = ok(await api.get(one))
    read["spec"]["finalizers"].append("e2e.example.com/fakeFinalizer")
    held = ok(await put(api, f"{one}/finalize", read))
    assert held["spec"]["finalizers"] == ["kubernetes", "e2e.example.com/fakeFinalizer"]
    refused = await api.put(f"{one}/finalize", {**held, "spec": {"finalizers": ["kubernetes", "bad"]}})
    text = "name is neither a standard finalizer name nor is it fully qualified"
    assert refused.status == 422
    assert refused.failure[2].endswith(f'is invalid: spec.finalizers[1]: Invalid value: "bad": {text}')
    held["spec"]["finalizers"].pop()
    held["metadata"]["labels"]["testing"] = "finalized"
    held["status"] = {"phase": "Terminating"}
    ended = ok(await put(api, f"{one}/finalize", held))
    assert ended["spec"]["finalizers"] == ["kubernetes"]
    assert ended["metadata"]["labels"]["testing"] == "finalized"
    assert ended["status"]["phase"] == "Active"
    ok(await api.delete(one))
    await gone(api, one)


async def test_pods_and_services_go_with_their_namespace(api: Api, space: str, running: Host) -> None:
    root = f"/api/v1/namespaces/{space}"
    ok(await api.post(f"{root}/pods", pod("one")), 201)
    service = {"metadata": {"name": "one"}, "spec": {"ports": [{"port": 80, "targetPort": 80}], "selector": {"a": "b"}}}
    ok(await api.post(f"{root}/services", service), 201)
    await when(api, f"{root}/pods/one", lambda one: one["status"]["phase"] == "Running")
    ok(await api.delete(root))
    await gone(api, root)
    ok(await api.post("/api/v1/namespaces", {"metadata": {"name": space}}), 201)
    assert ok(await api.get(f"{root}/pods"))["items"] == []
    assert ok(await api.get(f"{root}/services"))["items"] == []


# -- ResourceQuota


def quota(name: str, scopes: list[str] | None = None, **hard: str) -> dict[str, Any]:
    named = {key.replace("__", ".").replace("_", "/"): value for key, value in hard.items()}
    return {"metadata": {"name": name}, "spec": {"hard": named, **({"scopes": scopes} if scopes else {})}}


async def used(api: Api, space: str, name: str = "q", **wanted: str) -> Any:
    """The quota when its use is as wanted."""
    named = {key.replace("__", ".").replace("_", "/"): value for key, value in wanted.items()}

    def good(one: Any) -> bool:
        found = one.get("status", {}).get("used", {})
        return all(found.get(key) == value for key, value in named.items())

    return await when(api, f"/api/v1/namespaces/{space}/resourcequotas/{name}", good)


def limited(name: str, **spec: Any) -> dict[str, Any]:
    made = pod(name, **spec)
    resources = {"cpu": "500m", "memory": "200Mi"}
    made["spec"]["containers"][0]["resources"] = {"requests": resources, "limits": resources}
    return made


SERVICE = {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}
SET = {"spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template({"a": "b"})}}
CONTROLLER = {"spec": {"replicas": 0, "selector": {"a": "b"}, "template": template({"a": "b"})}}
CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}


@pytest.mark.parametrize(
    ("resource", "path", "body", "base"),
    [
        ("configmaps", "/api/v1", {"data": {"a": "b"}}, 1),
        ("secrets", "/api/v1", {"data": {}}, 0),
        ("services", "/api/v1", SERVICE, 0),
        ("replicationcontrollers", "/api/v1", CONTROLLER, 0),
        ("count/replicasets.apps", "/apis/apps/v1", SET, 0),
        ("persistentvolumeclaims", "/api/v1", CLAIM, 0),
    ],
)
async def test_a_quota_captures_the_life_of(
    api: Api, space: str, resource: str, path: str, body: Any, base: int
) -> None:
    if resource == "configmaps":
        await when(api, f"/api/v1/namespaces/{space}/configmaps/kube-root-ca.crt", bool)
    plural = resource.removeprefix("count/").split(".", maxsplit=1)[0]
    quotas = f"/api/v1/namespaces/{space}/resourcequotas"
    hard = {resource: str(base + 2), "resourcequotas": "1"}
    ok(await api.post(quotas, {"metadata": {"name": "q"}, "spec": {"hard": hard}}), 201)

    async def shows(count: int) -> Any:
        return await when(api, f"{quotas}/q", lambda q: q.get("status", {}).get("used", {}).get(resource) == str(count))

    found = await shows(base)
    assert found["status"]["hard"] == hard
    assert found["status"]["used"]["resourcequotas"] == "1"
    ok(await api.post(f"{path}/namespaces/{space}/{plural}", {"metadata": {"name": "one"}, **body}), 201)
    await shows(base + 1)
    ok(await api.delete(f"{path}/namespaces/{space}/{plural}/one"))
    await shows(base)


async def test_a_quota_captures_services_by_type(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/services"
    hard = {"services": "10", "services__nodeports": "1", "services__loadbalancers": "1"}
    ok(await api.post(f"/api/v1/namespaces/{space}/resourcequotas", quota("q", **hard)), 201)
    await used(api, space, services="0")
    for name, kind in (("a", "ClusterIP"), ("b", "NodePort")):
        body = {"metadata": {"name": name}, "spec": {**SERVICE["spec"], "type": kind}}
        ok(await api.post(path, body), 201)
    balanced = {**SERVICE["spec"], "type": "LoadBalancer"}
    refused = await api.post(path, {"metadata": {"name": "c"}, "spec": balanced})
    assert refused.failure[0] == 403
    assert "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1" in refused.failure[2]
    await used(api, space, services="2", services__nodeports="1", services__loadbalancers="0")
    for name in ("a", "b"):
        ok(await api.delete(f"{path}/{name}"))
    await used(api, space, services="0", services__nodeports="0")


async def test_a_quota_captures_the_life_of_a_pod(api: Api, space: str) -> None:
    extended = "example.com/dongle"
    path = f"/api/v1/namespaces/{space}/pods"
    hard = {"pods": "5", "cpu": "1", "memory": "500Mi", "ephemeral-storage": "50Gi", f"requests.{extended}": "3"}
    body = {"metadata": {"name": "q"}, "spec": {"hard": hard}}
    ok(await api.post(f"/api/v1/namespaces/{space}/resourcequotas", body), 201)
    await used(api, space, pods="0")

    def asking(name: str, **requests: str) -> Any:
        made = pod(name)
        limits = {key: value for key, value in requests.items() if "/" in key}
        made["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": limits}
        return made

    first = asking("one", **{"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", extended: "2"})
    ok(await api.post(path, first), 201)
    found = await used(api, space, pods="1", cpu="500m", memory="252Mi")
    assert found["status"]["used"]["ephemeral-storage"] == "30Gi"
    assert found["status"]["used"][f"requests.{extended}"] == "2"
    for requests in (
        {"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"},
        {"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "1Gi", extended: "2"},
    ):
        refused = await api.post(path, asking("two", **requests))
        assert refused.failure[:2] == (403, "Forbidden")
        assert "exceeded quota: q" in refused.failure[2]
    read = ok(await api.get(f"{path}/one"))
    read["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100m"
    assert (await put(api, f"{path}/one", read)).failure[:2] == (422, "Invalid")
    ok(await api.delete(f"{path}/one", {"gracePeriodSeconds": 0}))
    await used(api, space, pods="0", cpu="0", memory="0")


async def test_quotas_with_terminating_scopes(api: Api, space: str) -> None:
    quotas, pods = f"/api/v1/namespaces/{space}/resourcequotas", f"/api/v1/namespaces/{space}/pods"
    hard = {"pods": "5", "requests__cpu": "1", "requests__memory": "500Mi", "limits__cpu": "2", "limits__memory": "1Gi"}
    ok(await api.post(quotas, quota("ends", ["Terminating"], **hard)), 201)
    ok(await api.post(quotas, quota("stays", ["NotTerminating"], **hard)), 201)
    none = {"pods": "0", "requests__cpu": "0", "limits__memory": "0"}
    one = {"pods": "1", "requests__cpu": "500m", "limits__cpu": "500m", "requests__memory": "200Mi"}
    await used(api, space, "ends", **none)
    await used(api, space, "stays", **none)
    for spec, holds, other in (({}, "stays", "ends"), ({"activeDeadlineSeconds": 3600}, "ends", "stays")):
        ok(await api.post(pods, limited("one", **spec)), 201)
        await used(api, space, holds, **one)
        await used(api, space, other, **none)
        ok(await api.delete(f"{pods}/one", {"gracePeriodSeconds": 0}))
        await used(api, space, holds, **none)


async def test_quotas_with_best_effort_scopes(api: Api, space: str) -> None:
    quotas, pods = f"/api/v1/namespaces/{space}/resourcequotas", f"/api/v1/namespaces/{space}/pods"
    ok(await api.post(quotas, quota("best", ["BestEffort"], pods="5")), 201)
    ok(await api.post(quotas, quota("not-best", ["NotBestEffort"], pods="5")), 201)
    for made, holds, other in ((pod("one"), "best", "not-best"), (limited("one"), "not-best", "best")):
        await used(api, space, "best", pods="0")
        ok(await api.post(pods, made), 201)
        await used(api, space, holds, pods="1")
        await used(api, space, other, pods="0")
        ok(await api.delete(f"{pods}/one", {"gracePeriodSeconds": 0}))
        await used(api, space, holds, pods="0")


async def test_a_quota_captures_custom_resources(api: Api, space: str) -> None:
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {
        "group": "quota.example.com",
        "scope": "Namespaced",
        "names": {"plural": "counted", "kind": "Counted"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    ok(await api.post(definitions, {"metadata": {"name": "counted.quota.example.com"}, "spec": spec}), 201)
    resource = "count/counted.quota.example.com"
    quotas, path = (
        f"/api/v1/namespaces/{space}/resourcequotas",
        f"/apis/quota.example.com/v1/namespaces/{space}/counted",
    )
    ok(await api.post(quotas, {"metadata": {"name": "q"}, "spec": {"hard": {resource: "1"}}}), 201)

    async def shows(count: str) -> None:
        await when(api, f"{quotas}/q", lambda q: q.get("status", {}).get("used", {}).get(resource) == count)

    kind = {"apiVersion": "quota.example.com/v1", "kind": "Counted"}
    try:
        await shows("0")
        ok(await api.post(path, {**kind, "metadata": {"name": "a"}}), 201)
        await shows("1")
        assert (await api.post(path, {**kind, "metadata": {"name": "b"}})).failure[0] == 403
        ok(await api.delete(f"{path}/a"))
        await shows("0")
    finally:
        ok(await api.delete(f"{definitions}/counted.quota.example.com"))


async def test_the_lifecycle_and_status_of_a_quota(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/resourcequotas"
    body = quota("e2e", cpu="1", memory="500Mi")
    body["metadata"]["labels"] = {"e2e": space}
    ok(await api.post(path, body), 201)
    await when(api, f"{path}/e2e", lambda q: q.get("status", {}).get("hard") == {"cpu": "1", "memory": "500Mi"})
    found = ok(await api.get(f"/api/v1/resourcequotas?labelSelector=e2e={space}"))["items"]
    assert [one["metadata"]["name"] for one in found] == ["e2e"]
    async with watching(api, f"{path}?labelSelector=e2e={space}") as seen:
        read = ok(await api.get(f"{path}/e2e"))
        read["status"]["hard"] = {"cpu": "500m", "memory": "500Mi"}
        assert ok(await put(api, f"{path}/e2e/status", read))["status"]["hard"]["cpu"] == "500m"
        await seen.saw("MODIFIED", lambda q: q["status"]["hard"]["cpu"] == "1")  # the controller sets it right
        ok(await api.patch(f"{path}/e2e", {"spec": {"hard": {"cpu": "1500m", "memory": "1Gi"}}}))
        await seen.saw("MODIFIED", lambda q: q["status"]["hard"]["cpu"] == "1500m")
        body = {"metadata": {"annotations": {"x": "y"}}, "status": {"hard": {"cpu": "250m"}}}
        patched = ok(await api.patch(f"{path}/e2e/status", body))
        assert patched["status"]["hard"]["cpu"] == "250m"
        assert patched["spec"]["hard"] == {"cpu": "1500m", "memory": "1Gi"}
        await seen.saw("MODIFIED", lambda q: q["status"]["hard"]["cpu"] == "250m")
        ok(await api.delete(f"{path}?labelSelector=e2e={space}"))
        await seen.saw("DELETED")
