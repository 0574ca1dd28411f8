"""managedFields and ownerReferences that clients write themselves, and those of lists with items that occur twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.server.api import Api
from tests.api.server.story import ok
from tests.api.server.test_apply import apply, config_map, owners

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "aaaaaaaa-0000-0000-0000-000000000001"}
OTHER = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "aaaaaaaa-0000-0000-0000-000000000002"}


@pytest.fixture
def maps(space: str) -> str:
    return f"/api/v1/namespaces/{space}/configmaps"


async def test_an_empty_list_forgets_all_owners(api: Api, maps: str) -> None:
    await apply(api, f"{maps}/c", config_map(a="1"))
    body = config_map(a="1")
    body["metadata"]["managedFields"] = []
    assert owners(ok(await api.put(f"{maps}/c", body))) == []
    changed = ok(await api.patch(f"{maps}/c", {"metadata": {"labels": {"l": "1"}}}))
    assert "managedFields" not in changed["metadata"]


@pytest.mark.parametrize("kind", ["merge", "strategic", "json"])
async def test_patches_with_an_empty_list_forget_them_too(api: Api, maps: str, kind: str) -> None:
    ok(await api.post(maps, config_map(a="1")), 201)
    patch: Any = {"metadata": {"managedFields": []}}
    if kind == "json":
        patch = [{"op": "replace", "path": "/metadata/managedFields", "value": []}]
    assert owners(ok(await api.patch(f"{maps}/c", patch, kind))) == []


async def test_of_owners_renamed_to_one_the_last_one_counts(api: Api, maps: str) -> None:
    await apply(api, f"{maps}/c", config_map(a="1"), "fieldManager=one")
    made = (await apply(api, f"{maps}/c", config_map(b="2"), "fieldManager=two")).json
    for entry in made["metadata"]["managedFields"]:
        entry["manager"] = "both"
    (entry,) = ok(await api.put(f"{maps}/c", made))["metadata"]["managedFields"]
    assert entry["fieldsV1"] == {"f:data": {"f:b": {}}}


async def test_owners_whose_subresource_is_taken_away_become_one(api: Api, space: str) -> None:
    pods = f"/api/v1/namespaces/{space}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    ok(await api.post(f"{pods}?fieldManager=maker", pod), 201)
    ok(await api.patch(f"{pods}/p?fieldManager=me", {"metadata": {"labels": {"a": "1"}}}))
    made = ok(await api.patch(f"{pods}/p/status?fieldManager=me", {"status": {"phase": "Running"}}))
    for entry in made["metadata"]["managedFields"]:
        entry["subresource"] = ""
    changed = ok(await api.put(f"{pods}/p", made))["metadata"]["managedFields"]
    assert [(one["manager"], one["fieldsV1"]) for one in changed][1:] == [("me", {"f:status": {"f:phase": {}}})]
    assert all("subresource" not in one for one in changed)


async def test_an_apply_does_not_trade_owners_for_room(api: Api, maps: str) -> None:
    data = {f"this-key-is-long-so-that-its-owners-take-much-room-too-{number}": "a" for number in range(13_000)}
    made = ok(await api.post(maps, config_map(**data)), 201)
    assert "managedFields" not in made["metadata"]
    body = config_map()
    del body["data"]
    assert (await apply(api, f"{maps}/c", body)).failure[:2] == (413, "RequestEntityTooLarge")


async def test_nobody_owns_the_parts_of_items_that_occur_twice(api: Api, space: str) -> None:
    sets = f"/apis/apps/v1/namespaces/{space}/daemonsets"

    def body(*env: dict[str, str], **more: Any) -> dict[str, Any]:
        container = {"name": "c", "image": "i", "env": list(env)}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d", **more}, "spec": spec}

    def env(obj: dict[str, Any], manager: str) -> Any:
        (entry,) = [one for one in obj["metadata"]["managedFields"] if one["manager"] == manager]
        pods = entry["fieldsV1"]["f:spec"].get("f:template", {}).get("f:spec", {})
        return pods.get("f:containers", {}).get('k:{"name":"c"}', {}).get("f:env")

    path, home = {"name": "PATH", "value": "/bin"}, {"name": "HOME", "value": "/"}
    parts = {".": {}, "f:name": {}, "f:value": {}}
    made = ok(await api.post(f"{sets}?fieldManager=maker", body(home, path, path)), 201)
    assert env(made, "maker") == {".": {}, 'k:{"name":"HOME"}': parts, 'k:{"name":"PATH"}': {}}
    longer = {"name": "PATH", "value": "/bin:/sbin"}
    changed = ok(await api.put(f"{sets}/d?fieldManager=other", body(home, path, longer)))
    assert env(changed, "maker") == {".": {}, 'k:{"name":"HOME"}': parts}
    assert env(changed, "other") == {'k:{"name":"PATH"}': {}}
    once = ok(await api.put(f"{sets}/d?fieldManager=third", body(home, longer)))
    assert env(once, "third") == {'k:{"name":"PATH"}': parts}
    assert [one["manager"] for one in once["metadata"]["managedFields"]].count("other") == 0


async def test_owner_references_are_kept_once(api: Api, maps: str) -> None:
    body = config_map(a="1")
    body["metadata"]["ownerReferences"] = [OWNER, OWNER, OTHER]
    for method, path, status in (("POST", maps, 201), ("PUT", f"{maps}/c", 200)):
        told = await api.call(method, path, body)
        assert ok(told, status)["metadata"]["ownerReferences"] == [OWNER, OTHER]
        assert "contains duplicate entries; API server dedups" in told.headers["Warning"]
        assert told.headers["Warning"].endswith(f'observed: {OWNER["uid"]}"')
    again = [{"op": "add", "path": "/metadata/ownerReferences/-", "value": OWNER}]
    told = await api.patch(f"{maps}/c", again, "json")
    assert ok(told)["metadata"]["ownerReferences"] == [OWNER, OTHER]
    assert "duplicate entries after mutating admission happens" in told.headers["Warning"]
    other = [{"op": "add", "path": "/metadata/ownerReferences/-", "value": {**OWNER, "uid": "u"}}]
    told = await api.patch(f"{maps}/c", other, "json")
    assert len(ok(told)["metadata"]["ownerReferences"]) == 3
    assert "Warning" not in told.headers
