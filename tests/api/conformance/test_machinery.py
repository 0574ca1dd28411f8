"""sig-api-machinery: watchers, chunks, tables, discovery, version."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conformance.cases import eventually, gone, ok, watching, when
from tests.api.server.api import Api

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def config_map(name: str, label: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"watch-this-configmap": label}}, "data": data}


# -- Watchers


async def test_watchers_observe_add_update_and_delete(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    a, b = f"{path}?labelSelector=watch-this-configmap=A", f"{path}?labelSelector=watch-this-configmap=B"
    both = f"{path}?labelSelector=watch-this-configmap+in+(A,B)"
    async with watching(api, a) as only_a, watching(api, b) as only_b, watching(api, both) as all_of_them:
        ok(await api.post(path, config_map("a", "A")), 201)
        ok(await api.put(f"{path}/a", config_map("a", "A", mutation="1")))
        ok(await api.put(f"{path}/a", config_map("a", "A", mutation="2")))
        ok(await api.delete(f"{path}/a"))
        ok(await api.post(path, config_map("b", "B")), 201)
        ok(await api.delete(f"{path}/b"))
        last = await all_of_them.saw("DELETED", lambda obj: obj["metadata"]["name"] == "b")
        await only_a.saw("DELETED")
        await only_b.saw("DELETED")
    assert only_a.types() == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert only_b.types() == ["ADDED", "DELETED"]
    assert all_of_them.types() == [*only_a.types(), *only_b.types()]
    assert only_a.events[-1]["object"]["data"] == {"mutation": "2"}
    assert int(last["metadata"]["resourceVersion"]) > int(only_b.events[0]["object"]["metadata"]["resourceVersion"])


async def test_watchers_start_from_a_version_and_restart_from_the_last_observed(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    ok(await api.post(path, config_map("c", "C")), 201)
    first = ok(await api.put(f"{path}/c", config_map("c", "C", mutation="1")))["metadata"]["resourceVersion"]
    ok(await api.put(f"{path}/c", config_map("c", "C", mutation="2")))
    ok(await api.delete(f"{path}/c"))
    selected = f"{path}?labelSelector=watch-this-configmap=C"
    async with watching(api, f"{selected}&resourceVersion={first}") as seen:
        await seen.saw("DELETED")
    assert seen.types() == ["MODIFIED", "DELETED"]
    assert seen.events[0]["object"]["data"] == {"mutation": "2"}
    last = seen.events[0]["object"]["metadata"]["resourceVersion"]
    async with watching(api, f"{selected}&resourceVersion={last}") as again:
        await again.saw("DELETED")
    assert again.types() == ["DELETED"]


async def test_an_object_that_stops_meeting_the_selector_is_deleted_to_its_watchers(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    async with watching(api, f"{path}?labelSelector=watch-this-configmap=D") as seen:
        ok(await api.post(path, config_map("d", "D")), 201)
        ok(await api.put(f"{path}/d", config_map("d", "D", mutation="1")))
        ok(await api.put(f"{path}/d", config_map("d", "wrong", mutation="1")))
        await seen.saw("DELETED")
        ok(await api.put(f"{path}/d", config_map("d", "wrong", mutation="2")))
        ok(await api.put(f"{path}/d", config_map("d", "D", mutation="2")))
        ok(await api.put(f"{path}/d", config_map("d", "D", mutation="3")))
        ok(await api.delete(f"{path}/d"))
        await seen.saw("DELETED", lambda obj: (obj.get("data") or {}).get("mutation") == "3")
    assert seen.types() == ["ADDED", "MODIFIED", "DELETED", "ADDED", "MODIFIED", "DELETED"]


async def test_concurrent_watches_see_events_in_the_same_order(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"

    async def write() -> None:
        for i in range(30):
            ok(await api.post(path, config_map(f"e{i}", "E")), 201)
            ok(await api.patch(f"{path}/e{i}", {"data": {"n": "1"}}))
            if i % 3 == 0:
                ok(await api.delete(f"{path}/e{i}"))

    selected = f"{path}?labelSelector=watch-this-configmap=E"
    async with watching(api, selected) as first:
        await write()
        await first.saw("MODIFIED", lambda obj: obj["metadata"]["name"] == "e29")

    async def versions_after(n: int) -> list[str]:
        since = first.events[n]["object"]["metadata"]["resourceVersion"]
        async with watching(api, f"{selected}&resourceVersion={since}") as later:
            await later.saw("MODIFIED", lambda obj: obj["metadata"]["name"] == "e29")
        return [event["object"]["metadata"]["resourceVersion"] for event in later.events]

    wanted = [event["object"]["metadata"]["resourceVersion"] for event in first.events]
    starts = range(0, len(wanted) - 1, 9)
    for n, found in zip(starts, await asyncio.gather(*map(versions_after, starts)), strict=True):
        assert found == wanted[n + 1 :]


# -- Chunks


async def test_chunks_of_a_list(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/podtemplates"
    body = {"template": {"spec": {"containers": [{"name": "test", "image": "test2"}]}}}
    await asyncio.gather(*(api.post(path, {"metadata": {"name": f"template-{i:04d}"}, **body}) for i in range(100)))
    for limit in (1, 17, 40, 100, 300):
        token, version, seen = "", "", 0
        while True:
            page = ok(await api.get(f"{path}?limit={limit}&continue={token}"))
            meta, items = page["metadata"], page["items"]
            assert len(items) <= limit
            version = version or meta["resourceVersion"]
            assert meta["resourceVersion"] == version
            for item in items:
                assert item["metadata"]["name"] == f"template-{seen:04d}"
                seen += 1
            token = meta.get("continue", "")
            assert meta.get("remainingItemCount", 0) == (100 - seen if token else 0)
            if not token:
                break
        assert seen == 100
    whole = ok(await api.get(path))
    assert len(whole["items"]) == 100
    assert "continue" not in whole["metadata"]


# -- Tables


async def test_406_for_a_backend_without_metadata(api: Api) -> None:
    review = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    refused = await api.post(path, review, Accept=TABLE)
    assert refused.failure[0] == 406


# -- Discovery


async def test_every_group_has_a_preferred_version_and_a_resource(api: Api) -> None:
    groups = ok(await api.get("/apis"))["groups"]
    assert {"apps", "batch", "resource.k8s.io", "events.k8s.io"} <= {group["name"] for group in groups}
    for group in groups:
        alone = ok(await api.get(f"/apis/{group['name']}"))
        assert alone["preferredVersion"] in alone["versions"]
        assert alone["preferredVersion"] == group["preferredVersion"]
        version = alone["preferredVersion"]["groupVersion"]
        listed = ok(await api.get(f"/apis/{version}"))
        assert listed["groupVersion"] == version
        assert listed["resources"]


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations validatingwebhookconfigurations"),
        ("admissionregistration.k8s.io/v1", "validatingadmissionpolicies validatingadmissionpolicies/status"),
        ("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings mutatingadmissionpolicies"),
        ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
        ("flowcontrol.apiserver.k8s.io/v1", "flowschemas flowschemas/status prioritylevelconfigurations/status"),
        (
            "certificates.k8s.io/v1",
            "certificatesigningrequests certificatesigningrequests/approval certificatesigningrequests/status",
        ),
        ("discovery.k8s.io/v1", "endpointslices"),
        ("networking.k8s.io/v1", "ingresses ingresses/status ingressclasses ipaddresses servicecidrs"),
        ("node.k8s.io/v1", "runtimeclasses"),
        ("batch/v1", "cronjobs cronjobs/status jobs jobs/status"),
        ("storage.k8s.io/v1", "csidrivers csinodes csistoragecapacities volumeattachments/status"),
        ("resource.k8s.io/v1", "resourceclaims resourceclaims/status deviceclasses resourceslices"),
    ],
)
async def test_resources_in_discovery(api: Api, version: str, wanted: str) -> None:
    listed = {one["name"] for one in ok(await api.get(f"/apis/{version}"))["resources"]}
    assert set(wanted.split()) <= listed


async def test_aggregated_discovery_with_a_custom_kind(api: Api) -> None:
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"openAPIV3Schema": {"type": "object"}}
    ok(
        await api.post(
            definitions,
            {
                "metadata": {"name": "testcrs.aggregated.example.com"},
                "spec": {
                    "group": "aggregated.example.com",
                    "scope": "Namespaced",
                    "names": {"plural": "testcrs", "kind": "TestCr"},
                    "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
                },
            },
        ),
        201,
    )
    try:
        for path, group, resource in (
            ("/apis", "aggregated.example.com", "testcrs"),
            ("/apis", "apps", "deployments"),
            ("/api", "", "pods"),
        ):

            def has(found: Any, group: str = group, resource: str = resource) -> bool:
                return any(
                    one["resource"] == resource
                    for item in found.get("items", ())
                    if item["metadata"].get("name", "") == group
                    for one in item["versions"][0]["resources"]
                )

            # The kind appears when it is established.
            answer = await eventually(
                lambda path=path: api.get(path, Accept=f"{AGGREGATED},application/json"),  # type: ignore[misc]
                lambda answer, has=has: has(answer.json),  # type: ignore[misc]
            )
            assert answer.headers["Content-Type"].startswith("application/json;g=apidiscovery.k8s.io;v=v2;as=")
            assert answer.json["kind"] == "APIGroupDiscoveryList"
    finally:
        ok(await api.delete(f"{definitions}/testcrs.aggregated.example.com"))
    await gone(api, "/apis/aggregated.example.com/v1")


async def test_the_version_is_two_integers(api: Api) -> None:
    version = ok(await api.get("/version"))
    assert int(version["major"]) == 1
    assert int(version["minor"]) > 30
    for field in ("gitVersion", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"):
        assert version[field]


async def test_flow_control_configuration(api: Api) -> None:
    """Conditions can be patched in; what dangles the server tells again."""
    root = "/apis/flowcontrol.apiserver.k8s.io/v1"
    level = {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}}
    schema = {"matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "nowhere"}}
    for plural, spec in (("prioritylevelconfigurations", level), ("flowschemas", schema)):
        path = f"{root}/{plural}"
        made = ok(
            await api.post(path, {"metadata": {"generateName": "e2e-", "labels": {"e2e": plural}}, "spec": spec}), 201
        )
        one = f"{path}/{made['metadata']['name']}"
        condition = {"type": "Dangling", "status": "False", "reason": "E2E", "message": "patched"}
        patched = ok(await api.patch(f"{one}/status", {"status": {"conditions": [condition]}}))
        assert any(found.get("reason") == "E2E" for found in patched["status"]["conditions"])
        if plural == "flowschemas":
            await when(api, one, lambda obj: obj["status"]["conditions"][0]["status"] == "True")
        ok(await api.delete(f"{path}?labelSelector=e2e={plural}"))
        await gone(api, one)
