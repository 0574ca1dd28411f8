"""sig-api-machinery: custom resource definitions, their OpenAPI, defaulting and field validation."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.api.conformance.cases import eventually, gone, ok, put, watching, when
from tests.api.server.api import Api
from tests.support.kubectl import Kubectl

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
APPLY = "application/apply-patch+yaml"

BAR = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"description": "Name of Bar.", "type": "string"},
        "age": {"description": "Age of Bar.", "type": "string"},
        "feeling": {"description": "Whether Bar is feeling great.", "type": "string", "enum": ["Great", "Down"]},
        "bazs": {"description": "List of Bazs.", "type": "array", "items": {"type": "string"}},
    },
}
FOO = {
    "description": "Foo CRD for Testing",
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "description": "Specification of Foo",
            "properties": {
                "bars": {"description": "List of Bars and their specs.", "type": "array", "items": BAR},
            },
        },
        "status": {"description": "Status of Foo", "type": "object", "properties": {}},
    },
}
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
NESTED = {
    "description": "preserve-unknown-properties in nested field for Testing",
    "type": "object",
    "properties": {"spec": {"description": "Specification of Waldo", **OPEN}},
}
PORTS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
    "items": {
        "type": "object",
        "required": ["containerPort", "protocol"],
        "properties": {
            "name": {"type": "string"},
            "containerPort": {"type": "integer", "format": "int32"},
            "protocol": {"type": "string"},
        },
    },
}
FIELDS = {
    "foo": {"type": "string"},
    "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
    "ports": PORTS,
}


def definition(kind: str, group: str, *versions: tuple[str, Any], scope: str = "Namespaced") -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    return {
        "metadata": {"name": f"{plural}.{group}", "labels": {"e2e": kind.lower()}},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [
                {"name": name, "served": True, "storage": i == 0, "schema": {"openAPIV3Schema": schema}}
                for i, (name, schema) in enumerate(versions)
            ],
        },
    }


def established(crd: Any) -> bool:
    return any(c["type"] == "Established" and c["status"] == "True" for c in crd["status"].get("conditions") or ())


@asynccontextmanager
async def defined(api: Api, body: dict[str, Any]) -> AsyncIterator[str]:
    """The path of the definition, which is gone afterwards."""
    path = f"{DEFINITIONS}/{body['metadata']['name']}"
    ok(await api.post(DEFINITIONS, body), 201)
    await when(api, path, established)
    try:
        yield path
    finally:
        await api.delete(path)
        await gone(api, path)


async def definitions_of(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = ok(await api.get("/openapi/v2"))["definitions"]
    return found


# -- OpenAPI as kubectl uses it


async def test_old_kubectls_are_told_of_no_type_where_anything_may_be(api: Api) -> None:
    """kubectl 1.20 refuses null in what it takes for a map, and knows no array without items."""
    schema = copy.deepcopy(NESTED)
    schema["properties"]["list"] = {"type": "array", "items": OPEN, "x-kubernetes-preserve-unknown-fields": True}
    schema["properties"]["note"] = {"type": "string", "nullable": True}
    schema["required"] = ["spec", "note"]
    async with defined(api, definition("Bare", "publish.example.com", ("v1", schema))):
        told = (await definitions_of(api))["com.example.publish.v1.Bare"]
    for name in ("spec", "list", "note"):
        assert not {"type", "items", "properties"} & told["properties"][name].keys(), name
    assert told["required"] == ["spec"]


@pytest.mark.parametrize(
    ("schema", "valid", "explained"),
    [
        (
            FOO,
            {"spec": {"bars": [{"name": "test-bar"}]}},
            r"(?s)DESCRIPTION:.*Foo CRD for Testing.*FIELDS:.*apiVersion.*"
            r"<string>.*APIVersion defines.*spec.*<Object>.*Specification of Foo",
        ),
        (OPEN, {"a": {"b": [{"c": "d"}]}}, r"(?s)DESCRIPTION:.*<empty>"),
        (NESTED, {"spec": {"a": None, "b": [{"c": "d"}]}}, r"(?s)DESCRIPTION:.*preserve-unknown-properties in nested"),
    ],
    ids=["validation", "open", "nested"],
)
async def test_kubectl_knows_a_custom_kind(
    api: Api, space: str, kubectl: Kubectl, schema: Any, valid: Any, explained: str
) -> None:
    body = definition("Foo", "publish.example.com", ("v1", schema))
    manifest = {"apiVersion": "publish.example.com/v1", "kind": "Foo", "metadata": {"name": "test"}, **valid}
    text = json.dumps(manifest)
    async with defined(api, body):
        for command in ("create", "apply"):
            await asyncio.to_thread(kubectl, command, "-f", "-", stdin=text)
            await asyncio.to_thread(kubectl, "delete", "foos", "test")
        assert re.search(explained, await asyncio.to_thread(kubectl, "explain", "foos"))
        if schema is OPEN:
            # As upstream: not even metadata, which old kubectls would take for all there may be.
            kinds = [{"group": "publish.example.com", "kind": "Foo", "version": "v1"}]
            published = (await definitions_of(api))["com.example.publish.v1.Foo"]
            assert published == {"type": "object", "x-kubernetes-group-version-kind": kinds}
        if schema is not FOO:
            return
        for command in ("create", "apply"):
            unknown = json.dumps({**manifest, "spec": {"foo": True}})
            refused = await asyncio.to_thread(kubectl.try_, command, "-f", "-", stdin=unknown)
            assert 'unknown field "spec.foo"' in refused.err
            missing = json.dumps({**manifest, "spec": {"bars": [{"age": "10"}]}})
            refused = await asyncio.to_thread(kubectl.try_, command, "-f", "-", stdin=missing)
            assert "spec.bars[0].name: Required value" in refused.err
            feeling = json.dumps({**manifest, "spec": {"bars": [{"name": "b", "feeling": "Nonexistent"}]}})
            refused = await asyncio.to_thread(kubectl.try_, command, "-f", "-", stdin=feeling)
            assert 'Unsupported value: "Nonexistent"' in refused.err
        for path, pattern in (
            (".metadata", r"(?s)DESCRIPTION:.*Standard object's metadata.*FIELDS:.*creationTimestamp.*<string>"),
            (".spec", r"(?s)DESCRIPTION:.*Specification of Foo.*FIELDS:.*bars.*<\[\]Object>.*List of Bars and"),
            (".spec.bars", r"(?s)FIELD:\s+bars.*<\[\]Object>.*DESCRIPTION:.*FIELDS:.*bazs.*<\[\]string>.*List of Bazs"),
        ):
            shown = await asyncio.to_thread(kubectl, "explain", f"foos{path}")
            assert re.search(pattern, shown), shown
        refused = await asyncio.to_thread(kubectl.try_, "explain", "foos.spec.bars2")
        assert 'field "bars2" does not exist' in refused.err


async def test_published_definitions_follow_groups_versions_and_kinds(api: Api) -> None:
    first = definition("Foo", "one.example.com", ("v2", FOO), ("v3", FOO))
    second = definition("Waldo", "one.example.com", ("v2", NESTED))
    third = definition("Foo", "two.example.com", ("v6alpha1", NESTED))
    async with defined(api, first) as path, defined(api, second), defined(api, third):
        wanted = {"com.example.one.v2.Foo", "com.example.one.v3.Foo", "com.example.one.v2.Waldo"}
        wanted |= {"com.example.two.v6alpha1.Foo"}
        found = await eventually(lambda: definitions_of(api), lambda d: wanted <= d.keys())
        published = found["com.example.one.v3.Foo"]
        assert published["description"] == "Foo CRD for Testing"
        assert published["x-kubernetes-group-version-kind"] == [
            {"group": "one.example.com", "kind": "Foo", "version": "v3"}
        ]
        rename = [{"op": "test", "path": "/spec/versions/1/name", "value": "v3"}]
        rename += [{"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]
        ok(await api.patch(path, rename, "json"))
        found = await eventually(lambda: definitions_of(api), lambda d: "com.example.one.v4.Foo" in d)
        assert "com.example.one.v3.Foo" not in found
        assert found["com.example.one.v2.Foo"]["properties"]["spec"] == published["properties"]["spec"]
        crd = ok(await api.get(path))
        crd["spec"]["versions"][1]["served"] = False
        ok(await put(api, path, crd))
        found = await eventually(lambda: definitions_of(api), lambda d: "com.example.one.v4.Foo" not in d)
        assert "com.example.one.v2.Foo" in found
    await eventually(lambda: definitions_of(api), lambda d: not any(name.startswith("com.example.one") for name in d))


# -- the definitions themselves


async def test_status_list_watch_and_collection_of_definitions(api: Api) -> None:
    async with watching(api, f"{DEFINITIONS}?labelSelector=e2e=noxu") as seen:
        body = definition("Noxu", "status.example.com", ("v1", OPEN))
        path = f"{DEFINITIONS}/noxus.status.example.com"
        ok(await api.post(DEFINITIONS, body), 201)
        await seen.saw("ADDED")
        await seen.saw("MODIFIED", established)
        read = ok(await api.get(f"{path}/status"))
        assert read["kind"] == "CustomResourceDefinition"
        condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        read["status"]["conditions"].append(condition)
        updated = ok(await put(api, f"{path}/status", read))
        assert updated["status"]["conditions"][-1]["message"] == "Set from e2e test"
        patch = [{"op": "add", "path": "/status/conditions/-", "value": {**condition, "type": "StatusPatched"}}]
        patched = ok(await api.patch(f"{path}/status", patch, "json"))
        assert patched["status"]["conditions"][-1]["type"] == "StatusPatched"
        for i in range(5):
            one = definition(f"Listed{i}", "list.example.com", ("v1", OPEN))
            one["metadata"]["labels"] = {"e2e-list-test-uuid": "listed"}
            ok(await api.post(DEFINITIONS, one), 201)
        listed = f"{DEFINITIONS}?labelSelector=e2e-list-test-uuid=listed"
        assert len(ok(await api.get(listed))["items"]) == 5
        ok(await api.delete(listed))
        await eventually(lambda: api.get(listed), lambda a: not a.json["items"])
        ok(await api.delete(path))
        await seen.saw("DELETED")


async def test_defaults_for_requests_and_from_storage(api: Api, space: str) -> None:
    def schema(**defaults: str) -> dict[str, Any]:
        names = {name: {"type": "string", **({"default": defaults[name]} if name in defaults else {})} for name in "ab"}
        return {"type": "object", "properties": names}

    body = definition("Plain", "default.example.com", ("v1", schema()))
    objects = f"/apis/default.example.com/v1/namespaces/{space}/plains"
    kind = {"apiVersion": "default.example.com/v1", "kind": "Plain"}
    async with defined(api, body) as path:
        ok(await api.post(objects, {**kind, "metadata": {"name": "one"}}), 201)

        async def defaulting(**defaults: str) -> None:
            put = [{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema(**defaults)}]
            ok(await api.patch(path, put, "json"))

        await defaulting(a="A")
        await when(api, f"{objects}/one", lambda o: o.get("a") == "A")
        assert ok(await api.post(objects, {**kind, "metadata": {"name": "two"}}), 201)["a"] == "A"
        await defaulting(b="B")
        found = await when(api, f"{objects}/one", lambda o: o.get("b") == "B")
        assert "a" not in found
        assert ok(await api.get(f"{objects}/two"))["a"] == "A"
        assert ok(await api.get(f"{objects}/two"))["b"] == "B"


# -- field validation


async def test_unknown_and_duplicate_fields_of_a_typed_object(api: Api, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/deployments?fieldManager=mgr&fieldValidation=Strict"
    spec = b"""{"unknownField": "foo", "replicas": 2, "replicas": 3, "selector": {"matchLabels": {"app": "nginx"}},
    "template": {"metadata": {"labels": {"app": "nginx"}}, "spec": {"containers": [{"name": "n", "image": "n"}]}}}"""
    head = b'{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "my-dep"}, "spec": '
    told = (await api.post(path, head + spec + b"}")).failure[2]
    assert 'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"' in told
    meta = head.replace(b'"my-dep"', b'"my-dep", "unknownMeta": "foo"') + spec.replace(b'"unknownField": "foo",', b"")
    told = (await api.post(path, meta.replace(b'"replicas": 2,', b"") + b"}")).failure[2]
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in told


APPLIED = """
apiVersion: {version}
kind: Noxu
metadata:
  name: mytest{meta}
  finalizers:
  - test-finalizer{root}
spec:
  foo: foo1{spec}
  cronSpec: "* * * * */5"
  ports:
  - name: x
    containerPort: 80
    protocol: TCP"""


@pytest.mark.parametrize(
    ("schema", "more", "told"),
    [
        ({"type": "object", "properties": FIELDS}, {}, ""),
        (None, {"spec": "\n  unknown: uk1"}, ""),
        (
            {"type": "object", "properties": FIELDS},
            {"root": "\nunknownField: unknown"},
            ".unknownField: field not declared",
        ),
        (
            {**OPEN, "properties": FIELDS},
            {"meta": "\n  unknownMeta: unknown"},
            ".metadata.unknownMeta: field not declared",
        ),
        ({**OPEN, "properties": FIELDS}, {"spec": "\n  foo: foo2"}, r"line 10: key \"foo\" already set in map"),
    ],
    ids=["valid", "no-schema", "extra", "metadata", "duplicate"],
)
async def test_applied_custom_resources_are_validated(api: Api, schema: Any, more: dict[str, str], told: str) -> None:
    whole = OPEN if schema is None else {"type": "object", "properties": {"spec": schema}}
    body = definition("Noxu", "mygroup.example.com", ("v1beta1", whole), ("v1", whole), scope="Cluster")
    texts = {"meta": "", "root": "", "spec": "", **more}
    applied = APPLIED.format(version="mygroup.example.com/v1beta1", **texts)
    one = "/apis/mygroup.example.com/v1beta1/noxus/mytest"
    async with defined(api, body):
        answer = await api.patch(f"{one}?fieldManager=mgr&fieldValidation=Strict", applied.encode(), APPLY)
        if told:
            assert answer.status >= 400
            assert told in answer.raw.decode(), answer.raw
        else:
            ok(answer, 201)
            ok(await api.patch(one, {"metadata": {"finalizers": None}}))
