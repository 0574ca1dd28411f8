"""Deletion: grace, finalizers, preconditions, propagation; namespaces; eviction."""

from __future__ import annotations

from typing import Any

from tests.api.server.api import Api

POD = {"containers": [{"name": "main", "image": "busybox:1"}]}


async def made(api: Api, path: str, **body: Any) -> dict[str, Any]:
    answer = await api.post(path, body)
    assert answer.status == 201, answer.raw
    found: dict[str, Any] = answer.json
    return found


async def test_a_pod_without_a_node_goes_at_once(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    await made(api, path, metadata={"name": "p"}, spec=POD)
    gone = await api.delete(f"{path}/p")
    assert (gone.status, gone.json["kind"]) == (200, "Pod")
    assert (await api.get(f"{path}/p")).status == 404


async def test_a_bound_pod_gets_its_grace_period(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    await made(api, path, metadata={"name": "p"}, spec={**POD, "terminationGracePeriodSeconds": 20})
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "somewhere"}}
    assert (await api.post(f"{path}/p/binding", binding)).status == 201
    again = await api.post(f"{path}/p/binding", binding)
    assert again.failure[:2] == (409, "Conflict")
    bound = (await api.get(f"{path}/p")).json
    assert bound["spec"]["nodeName"] == "somewhere"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"

    marked = (await api.delete(f"{path}/p")).json
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 20
    first = marked["metadata"]["deletionTimestamp"]
    # asking again, or for longer, changes nothing; for shorter does
    longer = (await api.delete(f"{path}/p", {"gracePeriodSeconds": 60})).json
    assert longer["metadata"]["deletionTimestamp"] == first
    shorter = (await api.delete(f"{path}/p", {"gracePeriodSeconds": 5})).json
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    assert shorter["metadata"]["deletionTimestamp"] < first
    assert (await api.delete(f"{path}/p?gracePeriodSeconds=0")).status == 200
    assert (await api.get(f"{path}/p")).status == 404


async def test_finalizers_hold_an_object(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    await made(api, path, metadata={"name": "c", "finalizers": ["example.com/hold"]})
    held = await api.delete(f"{path}/c")
    assert held.json["metadata"]["deletionTimestamp"]
    added = await api.patch(f"{path}/c", {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})
    assert added.failure[:2] == (422, "Invalid")
    events = await api.get(f"{path}/c")
    since = events.json["metadata"]["resourceVersion"]
    let_go = await api.patch(f"{path}/c", {"metadata": {"finalizers": None}})
    assert let_go.status == 200
    assert "finalizers" not in let_go.json["metadata"]
    assert (await api.get(f"{path}/c")).status == 404
    seen = await api.events(f"{path}?watch=1&resourceVersion={since}", 1)
    assert seen[0]["type"] == "DELETED"


async def test_propagation_sets_the_collectors_finalizers(api: Api, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/replicasets"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    for name, policy, finalizer in (("o", "Orphan", "orphan"), ("f", "Foreground", "foregroundDeletion")):
        await made(api, path, metadata={"name": name}, spec=spec)
        kept = (await api.delete(f"{path}/{name}", {"propagationPolicy": policy})).json
        assert kept["metadata"]["finalizers"] == [finalizer]
        assert kept["metadata"]["deletionTimestamp"]
    await made(api, path, metadata={"name": "b"}, spec=spec)
    gone = (await api.delete(f"{path}/b", {"propagationPolicy": "Background"})).json
    assert (gone["kind"], gone["status"]) == ("Status", "Success")
    assert gone["details"] == {"name": "b", "group": "apps", "kind": "replicasets", "uid": gone["details"]["uid"]}
    assert (await api.delete(f"{path}/o", {"propagationPolicy": "Sideways"})).failure[:2] == (422, "Invalid")


async def test_preconditions(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    metadata = (await made(api, path, metadata={"name": "c"}))["metadata"]
    wrong = await api.delete(f"{path}/c", {"preconditions": {"resourceVersion": "1"}})
    assert wrong.failure[:2] == (409, "Conflict")
    right = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    assert (await api.delete(f"{path}/c", {"preconditions": right})).status == 200


async def test_a_namespace_ends_through_finalize(api: Api) -> None:
    await made(api, "/api/v1/namespaces", metadata={"name": "ending"})
    going = (await api.delete("/api/v1/namespaces/ending")).json
    assert going["status"]["phase"] == "Terminating"
    refused = await api.post("/api/v1/namespaces/ending/configmaps", {"metadata": {"name": "late"}})
    assert refused.failure[:2] == (403, "Forbidden")
    assert refused.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    going["spec"]["finalizers"] = []
    ended = await api.put("/api/v1/namespaces/ending/finalize", going)
    assert ended.status == 200
    assert ended.json["metadata"]["uid"] == going["metadata"]["uid"]
    assert "finalizers" not in ended.json["spec"]
    assert (await api.get("/api/v1/namespaces/ending")).status == 404


async def test_eviction_honours_the_budget(api: Api, space: str) -> None:
    pods = f"/api/v1/namespaces/{space}/pods"
    budgets = f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets"
    for name in ("one", "two"):
        await made(api, pods, metadata={"name": name, "labels": {"app": "x"}}, spec={**POD, "nodeName": "somewhere"})
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await api.patch(f"{pods}/{name}/status", {"status": ready})
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}
    budget = await made(api, budgets, metadata={"name": "b"}, spec=spec)
    status = {
        "observedGeneration": budget["metadata"]["generation"],
        "disruptionsAllowed": 1,
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "expectedPods": 2,
    }
    assert (await api.patch(f"{budgets}/b/status", {"status": status})).status == 200

    def eviction(name: str) -> dict[str, Any]:
        return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}

    assert (await api.post(f"{pods}/one/eviction", eviction("one"))).status == 201
    evicted = (await api.get(f"{pods}/one")).json
    assert evicted["metadata"]["deletionTimestamp"]
    why = {one["type"]: one for one in evicted["status"]["conditions"]}["DisruptionTarget"]
    assert (why["status"], why["reason"], why["message"], why["observedGeneration"]) == (
        *("True", "EvictionByEvictionAPI", "Eviction API: evicting"),
        1,
    )
    left = (await api.get(f"{budgets}/b")).json["status"]
    assert left["disruptionsAllowed"] == 0
    assert list(left["disruptedPods"]) == ["one"]
    refused = await api.post(f"{pods}/two/eviction", eviction("two"))
    assert refused.failure == (
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
    )
    assert refused.json["details"]["causes"][0]["reason"] == "DisruptionBudget"


async def test_a_grace_period_longer_than_time(api: Api, space: str) -> None:
    """Else nobody could delete the pod in the usual way, and its namespace would stay for ever."""
    path = f"/api/v1/namespaces/{space}/pods"
    most = (1 << 63) - 1
    spec = {**POD, "terminationGracePeriodSeconds": most, "nodeName": "somewhere"}
    for number, query in enumerate(("", f"?gracePeriodSeconds={most}", "?gracePeriodSeconds=9999999999999")):
        await made(api, path, metadata={"name": f"p{number}"}, spec=spec)
        marked = await api.delete(f"{path}/p{number}{query}")
        assert marked.status == 200, marked.raw
        assert marked.json["metadata"]["deletionGracePeriodSeconds"] == 1 << 31
        assert (await api.delete(f"{path}/p{number}?gracePeriodSeconds=5")).status == 200
        assert (await api.delete(f"{path}/p{number}?gracePeriodSeconds=0")).status == 200
        assert (await api.get(f"{path}/p{number}")).status == 404


async def test_versions_that_are_none(api: Api, space: str) -> None:
    for version in ("9" * 5000, "²", "-1"):
        path = f"/api/v1/namespaces/{space}/pods?watch=1&timeoutSeconds=1&resourceVersion={version}"
        assert (await api.get(path)).status in (400, 422)
