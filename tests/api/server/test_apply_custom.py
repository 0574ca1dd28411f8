"""Server-side apply of custom resources: ownership from the structural schema."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.server.api import Api
from tests.api.server.definitions import CRDS, defined
from tests.api.server.test_apply import apply, owners

_numbers = itertools.count(1)
ITEM = {"type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "integer"}}}
SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "replicas": {"type": "integer"},
        "plain": {"type": "array", "items": {"type": "string"}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {**ITEM, "required": ["name"]},
        },
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "port": {"x-kubernetes-int-or-string": True},
    },
}


def crd(group: str) -> dict[str, Any]:
    def version(name: str, *, stored: bool) -> dict[str, Any]:
        schema = {
            "type": "object",
            "properties": {
                "spec": SPEC,
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
            },
        }
        paths = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
        return {
            "name": name,
            "served": True,
            "storage": stored,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}, "scale": paths},
        }

    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [version("v1", stored=True), version("v2", stored=False)],
        },
    }


@pytest.fixture
async def group(api: Api) -> AsyncIterator[str]:
    """A group whose Things are served."""
    name = f"apply{next(_numbers)}.example.com"
    async with defined(api, crd(name)):
        yield name


def thing(group: str, version: str = "v1", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{group}/{version}", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}


async def test_ownership_follows_the_schema(api: Api, space: str, group: str) -> None:
    path = f"/apis/{group}/v1/namespaces/{space}/things/t"
    spec = {
        "replicas": 1,
        "plain": ["a"],
        "tags": ["x"],
        "parts": [{"name": "p", "size": 1}],
        "whole": {"a": "1"},
        "open": {"deep": {"er": 1}, "list": [1]},
        "port": "http",
    }
    made = await apply(api, path, thing(group, **spec))
    assert made.status == 201, made.raw
    (entry,) = made.json["metadata"]["managedFields"]
    assert entry["fieldsV1"]["f:spec"] == {
        "f:replicas": {},
        "f:plain": {},
        "f:tags": {'v:"x"': {}},
        "f:parts": {'k:{"name":"p"}': {".": {}, "f:name": {}, "f:size": {}}},
        "f:whole": {},
        "f:open": {"f:deep": {".": {}, "f:er": {}}, "f:list": {}},
        "f:port": {},
    }
    other = {"tags": ["y"], "parts": [{"name": "q"}], "open": {"mine": 1}}
    both = await apply(api, path, thing(group, **other), "fieldManager=other")
    assert both.status == 200, both.raw
    assert both.json["spec"]["tags"] == ["x", "y"]
    assert [one["name"] for one in both.json["spec"]["parts"]] == ["p", "q"]
    assert both.json["spec"]["open"] == {"deep": {"er": 1}, "list": [1], "mine": 1}
    clash = await apply(api, path, thing(group, plain=["a", "b"], whole={"b": "1"}), "fieldManager=other")
    assert sorted(cause["field"] for cause in clash.json["details"]["causes"]) == [".spec.plain", ".spec.whole"]
    unknown = await apply(api, path, thing(group, nope=1))
    assert ".spec.nope: field not declared in schema" in unknown.failure[2]


async def test_versions_share_owners(api: Api, space: str, group: str) -> None:
    await apply(api, f"/apis/{group}/v1/namespaces/{space}/things/t", thing(group, replicas=1), "fieldManager=one")
    path = f"/apis/{group}/v2/namespaces/{space}/things/t"
    refused = await apply(api, path, thing(group, "v2", replicas=2), "fieldManager=two")
    assert refused.failure[2] == 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
    moved = await apply(api, path, thing(group, "v2", replicas=3), "fieldManager=one")
    assert moved.status == 200, moved.raw
    assert [entry["apiVersion"] for entry in moved.json["metadata"]["managedFields"]] == [f"{group}/v2"]


async def test_status_and_scale(api: Api, space: str, group: str) -> None:
    path = f"/apis/{group}/v1/namespaces/{space}/things/t"
    await apply(api, path, {**thing(group, replicas=1), "status": {"replicas": 5}})
    status = {**thing(group), "status": {"replicas": 1}}
    status.pop("spec")
    told = await apply(api, f"{path}/status", status, "fieldManager=controller")
    assert told.json["status"] == {"replicas": 1}
    assert owners(told.json) == [("controller", "Apply", "status"), ("me", "Apply", "")]
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "t"}, "spec": {"replicas": 4}}
    scaled = await apply(api, f"{path}/scale", scale, "fieldManager=scaler&force=true")
    assert scaled.json["spec"] == {"replicas": 4}
    assert owners((await api.get(path)).json)[-1] == ("scaler", "Apply", "scale")


async def test_updates_are_tracked(api: Api, space: str, group: str) -> None:
    path = f"/apis/{group}/v1/namespaces/{space}/things"
    made = await api.post(f"{path}?fieldManager=creator", thing(group, replicas=1, open={"a": {"b": 1}}))
    (entry,) = made.json["metadata"]["managedFields"]
    assert entry["fieldsV1"] == {
        "f:spec": {".": {}, "f:open": {".": {}, "f:a": {".": {}, "f:b": {}}}, "f:replicas": {}}
    }
    patch = {"spec": {"replicas": 2}}
    await api.call("PATCH", f"{path}/t?fieldManager=patcher", patch, media="application/merge-patch+json")
    refused = await apply(api, f"{path}/t", thing(group, replicas=9))
    assert 'conflict with "patcher"' in refused.failure[2]


async def test_a_schema_that_becomes_atomic_keeps_its_owners(api: Api, space: str, group: str) -> None:
    path = f"/apis/{group}/v1/namespaces/{space}/things/t"
    await apply(api, path, thing(group, parts=[{"name": "p"}], open={"a": 1}))
    name = f"{CRDS}/things.{group}"
    parts = SPEC["properties"]["parts"] | {"x-kubernetes-list-type": "atomic"}
    del parts["x-kubernetes-list-map-keys"]
    at = "schema/openAPIV3Schema/properties/spec/properties/parts"
    patch = [{"op": "replace", "path": f"/spec/versions/{number}/{at}", "value": parts} for number in (0, 1)]
    changed = await api.call("PATCH", name, patch, media="application/json-patch+json")
    assert changed.status == 200, changed.raw
    refused = await apply(api, path, thing(group, parts=[{"name": "q"}]), "fieldManager=other")
    assert refused.failure[2] == 'Apply failed with 1 conflict: conflict with "me": .spec.parts'


async def test_owners_give_way_to_the_size_of_an_object(api: Api, space: str, group: str) -> None:
    path = f"/apis/{group}/v1/namespaces/{space}/things"
    large = {f"k{number}": 1 for number in range(72_000)}
    made = await api.post(path, thing(group, open=large))
    assert made.status == 201, made.raw[:300]
    assert "managedFields" not in made.json["metadata"]
    too_large = {f"k{number}": "x" * 20 for number in range(50_000)}
    refused = await api.post(path, {**thing(group, open=too_large), "metadata": {"name": "u"}})
    assert refused.failure[0] == 413, refused.raw
