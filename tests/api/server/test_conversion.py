"""Versions of custom kinds: conversion by webhooks, and what was stored in an older version."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.api.server.api import Api
from tests.api.server.definitions import CRDS, establish, remove
from tests.support.tls import Authority, serving

_numbers = itertools.count(1)


@pytest.fixture
def group() -> str:
    """A group of the test's own."""
    return f"v{next(_numbers)}.example.com"


def endpoint(path: str, said: dict[str, Any]) -> dict[str, Any]:
    """One of the version that ``path`` leads to."""
    _, _, group, version = path.split("/")[:4]
    return {"apiVersion": f"{group}/{version}", "kind": "Endpoint", **said}


def versioned(group: str, conversion: dict[str, Any]) -> dict[str, Any]:
    """``v1beta1`` with ``hostPort`` (a text), ``v1`` with ``host`` and ``port``, as in Kubernetes' documentation."""

    def version(name: str, *, storage: bool, **fields: Any) -> dict[str, Any]:
        schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in fields.items()}}
        return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}}

    versions = [
        {**version("v1beta1", storage=True, hostPort="string"), "deprecated": True},
        {**version("v1", storage=False, host="string", port="string"), "selectableFields": [{"jsonPath": ".host"}]},
    ]
    return {
        "metadata": {"name": f"endpoints.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "endpoints", "kind": "Endpoint"},
            "versions": versions,
            "conversion": conversion,
        },
    }


class Hook:
    """A conversion webhook."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.broken = ""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        review = orjson.loads(await request.read())
        self.asked.append(review["request"])
        wanted = review["request"]["desiredAPIVersion"]
        result = {"status": "Failure", "message": self.broken} if self.broken else {"status": "Success"}
        made = [] if self.broken else [self._convert(obj, wanted) for obj in review["request"]["objects"]]
        response = {"uid": review["request"]["uid"], "convertedObjects": made, "result": result}
        answer = {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    def _convert(self, obj: dict[str, Any], wanted: str) -> dict[str, Any]:
        made = {**obj, "apiVersion": wanted}
        if wanted.endswith("/v1") and "hostPort" in made:
            made["host"], _, made["port"] = made.pop("hostPort").partition(":")
        elif wanted.endswith("/v1beta1") and "host" in made:
            made["hostPort"] = f"{made.pop('host')}:{made.pop('port', '')}"
        return made


async def test_versions_are_converted_by_a_webhook(api: Api, space: str, group: str, tmp_path: Path) -> None:
    authority, hook = Authority(tmp_path), Hook()
    async with serving(hook, authority.server_context("127.0.0.1")) as port:
        client = {"url": f"https://127.0.0.1:{port}/convert", "caBundle": authority.bundle}
        webhook = {"clientConfig": client, "conversionReviewVersions": ["v1"]}
        await establish(api, versioned(group, {"strategy": "Webhook", "webhook": webhook}))
        old, new = (f"/apis/{group}/{name}/namespaces/{space}/endpoints" for name in ("v1beta1", "v1"))
        try:
            made = await api.post(
                old, endpoint(old, {"metadata": {"name": "a", "labels": {"x": "y"}}, "hostPort": "h:80"})
            )
            assert made.status == 201
            assert made.headers["Warning"] == f'299 - "{group}/v1beta1 Endpoint is deprecated; use {group}/v1 Endpoint"'
            assert not hook.asked, "the storage version needs no conversion"
            read = (await api.get(f"{new}/a")).json
            assert (read["apiVersion"], read["host"], read["port"]) == (f"{group}/v1", "h", "80")
            assert read["metadata"] == made.json["metadata"]
            await api.get(f"{new}/a")
            assert len(hook.asked) == 1, "an object is converted once, whoever reads it"
            created = (await api.post(new, endpoint(new, {"metadata": {"name": "b"}, "host": "i", "port": "81"}))).json
            assert (created["host"], created["port"]) == ("i", "81")
            assert (await api.get(f"{old}/b")).json["hostPort"] == "i:81"
            patched = await api.patch(f"{new}/a", {"port": "90"})
            assert patched.status == 200
            assert (await api.get(f"{old}/a")).json["hostPort"] == "h:90"
            for number in range(20):
                await api.post(old, endpoint(old, {"metadata": {"name": f"n{number}"}, "hostPort": f"n:{number}"}))
            hook.asked.clear()
            listed = (await api.get(new)).json
            assert len(listed["items"]) == 22
            assert all(item["apiVersion"] == f"{group}/v1" and "host" in item for item in listed["items"])
            assert [len(request["objects"]) for request in hook.asked] == [20], "one question for all"
            since = listed["metadata"]["resourceVersion"]
            watching = asyncio.create_task(api.events(f"{new}?watch=1&resourceVersion={since}", 2))
            await asyncio.sleep(0.2)
            await api.patch(f"{old}/a", {"hostPort": "w:1"})
            await api.delete(f"{old}/b")
            changed, gone = await watching
            assert (changed["type"], changed["object"]["host"]) == ("MODIFIED", "w")
            assert (gone["type"], gone["object"]["host"]) == ("DELETED", "i")
            await selected_by_a_converted_field(api, old, new)
            hook.broken = "no idea"
            await api.post(old, endpoint(old, {"metadata": {"name": "z"}, "hostPort": "z:1"}))
            failed = await api.get(f"{new}/z")
            assert failed.status == 500
            assert failed.json["message"] == f"conversion webhook for {group}/v1beta1, Kind=Endpoint failed: no idea"
            assert (await api.get(f"{old}/z")).status == 200
            assert (await api.delete(f"{new}/z")).status == 500
            assert (await api.get(f"{old}/z")).status == 200, "a deletion that fails leaves what it is of"
            hook.broken = ""
            assert (await api.get(f"{new}/z")).json["host"] == "z"
            hook.broken = "once more"
            assert (await api.delete(f"{new}/z")).status == 200
            assert (await api.get(f"{old}/z")).status == 404
        finally:
            await remove(api, f"endpoints.{group}")


async def selected_by_a_converted_field(api: Api, old: str, new: str) -> None:
    """``host`` is only known after conversion, in lists and in watches."""
    listed = (await api.get(f"{new}?fieldSelector=host%3Dn&limit=30")).json
    assert len(listed["items"]) == 20
    since = listed["metadata"]["resourceVersion"]
    watching = asyncio.create_task(api.events(f"{new}?watch=1&resourceVersion={since}&fieldSelector=host%3Dn", 3))
    await asyncio.sleep(0.2)
    versions = []
    for name, address in (("a", "other:1"), ("n1", "n:99"), ("n1", "gone:1"), ("a", "n:1")):
        written = await api.patch(f"{old}/{name}", {"hostPort": address})
        assert written.status == 200
        versions.append(written.json["metadata"]["resourceVersion"])
    events = await watching
    seen = [(event["type"], event["object"]["metadata"]["name"]) for event in events]
    assert seen == [("MODIFIED", "n1"), ("DELETED", "n1"), ("ADDED", "a")]
    # What is not selected any more is shown as it last was, under the version of the change.
    last = events[1]["object"]
    assert (last["host"], last["port"], last["metadata"]["resourceVersion"]) == ("n", "99", versions[2])


async def test_defaults_are_those_of_the_version_asked_in_and_of_the_stored_one(
    api: Api, space: str, group: str
) -> None:
    definition = versioned(group, {"strategy": "None"})
    for version in definition["spec"]["versions"]:
        version.pop("selectableFields", None)
        fields: Any = {name: {"type": "boolean"} for name in ("v1", "v1beta1")}
        fields[version["name"]]["default"] = True
        own = {"only": {"type": "string"}} if version["name"] == "v1" else {}
        version["schema"]["openAPIV3Schema"]["properties"] = {"of": {"type": "object", "properties": fields}, **own}
    await establish(api, definition)
    old, new = (f"/apis/{group}/{name}/namespaces/{space}/endpoints" for name in ("v1beta1", "v1"))
    try:
        made = (await api.post(old, endpoint(old, {"metadata": {"name": "a"}, "of": {}}))).json
        assert made["of"] == {"v1beta1": True}
        assert (await api.get(f"{new}/a")).json["of"] == {"v1beta1": True}
        made = (await api.post(new, endpoint(new, {"metadata": {"name": "b"}, "of": {}, "only": "here"}))).json
        assert made["of"] == {"v1": True, "v1beta1": True}
        assert "only" not in made, "what the stored version does not know is lost"
        # The stored version's default is not stored: it goes with its schema.
        current = (await api.get(f"{CRDS}/endpoints.{group}")).json
        schema = current["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        del schema["properties"]["of"]["properties"]["v1beta1"]["default"]
        assert (await api.put(f"{CRDS}/endpoints.{group}", current)).status == 200
        assert [(await api.get(f"{path}/b")).json["of"] for path in (old, new)] == [{"v1": True}, {"v1": True}]
    finally:
        await remove(api, f"endpoints.{group}")


async def test_a_field_that_pods_have_too_is_that_of_the_version_asked_in(api: Api, space: str, group: str) -> None:
    definition = versioned(group, {"strategy": "None"})
    anyhow, numbers = definition["spec"]["versions"]
    anything = {"x-kubernetes-preserve-unknown-fields": True}
    anyhow["schema"]["openAPIV3Schema"]["properties"] = {"spec": anything}
    field = {"type": "object", "properties": {"nodeName": {"type": "integer"}}}
    numbers["schema"]["openAPIV3Schema"]["properties"] = {"spec": field}
    numbers["selectableFields"] = [{"jsonPath": ".spec.nodeName"}]
    await establish(api, definition)
    old, new = (f"/apis/{group}/{name}/namespaces/{space}/endpoints" for name in ("v1beta1", "v1"))
    try:
        for where, name, spec in ((old, "text", "five"), (new, "five", {"nodeName": 5}), (new, "six", {"nodeName": 6})):
            assert (await api.post(where, endpoint(where, {"metadata": {"name": name}, "spec": spec}))).status == 201
        listed = (await api.get(f"{new}?fieldSelector=spec.nodeName%3D5")).json
        assert [item["metadata"]["name"] for item in listed["items"]] == ["five"]
        since = listed["metadata"]["resourceVersion"]
        selected = f"{new}?watch=1&resourceVersion={since}&fieldSelector=spec.nodeName%3D5"
        watching = asyncio.create_task(api.events(selected, 2))
        await asyncio.sleep(0.2)
        for where, name, spec in ((old, "six", "five"), (new, "six", {"nodeName": 5}), (new, "five", {"nodeName": 6})):
            body = {**(await api.get(f"{where}/{name}")).json, "spec": spec}
            assert (await api.put(f"{where}/{name}", body)).status == 200
        assert [(one["type"], one["object"]["metadata"]["name"]) for one in await watching] == [
            ("ADDED", "six"),
            ("DELETED", "five"),
        ]
    finally:
        await remove(api, f"endpoints.{group}")


async def test_objects_stored_in_an_older_version_are_served_and_migrated_by_writing(
    api: Api, space: str, group: str
) -> None:
    definition = versioned(group, {"strategy": "None"})
    for version in definition["spec"]["versions"]:
        version.pop("selectableFields", None)
        version["schema"]["openAPIV3Schema"]["properties"] = {
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        }
    await establish(api, definition)
    old, new = (f"/apis/{group}/{name}/namespaces/{space}/endpoints" for name in ("v1beta1", "v1"))
    try:
        await api.post(old, endpoint(old, {"metadata": {"name": "a"}, "spec": {"any": 1}}))
        current = (await api.get(f"{CRDS}/endpoints.{group}")).json
        current["spec"]["versions"][0]["storage"], current["spec"]["versions"][1]["storage"] = False, True
        changed = (await api.put(f"{CRDS}/endpoints.{group}", current)).json
        assert changed["status"]["storedVersions"] == ["v1beta1", "v1"]
        for path, version in ((old, "v1beta1"), (new, "v1")):
            shown = (await api.get(f"{path}/a")).json
            assert (shown["apiVersion"], shown["spec"]) == (f"{group}/{version}", {"any": 1})
        before = (await api.get(f"{new}/a")).json
        migrated = (await api.put(f"{new}/a", before)).json
        assert migrated["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
        again = (await api.put(f"{new}/a", migrated)).json
        assert again["metadata"]["resourceVersion"] == migrated["metadata"]["resourceVersion"]
        changed["spec"]["versions"].pop(0)
        refused = await api.put(f"{CRDS}/endpoints.{group}", changed)
        assert "must remain in spec.versions until a storage migration" in refused.failure[2]
        assert (
            await api.patch(f"{CRDS}/endpoints.{group}/status", {"status": {"storedVersions": ["v1"]}})
        ).status == 200
        current = (await api.get(f"{CRDS}/endpoints.{group}")).json
        current["spec"]["versions"].pop(0)
        begun = asyncio.Event()
        ending = asyncio.create_task(api.events(f"{old}?watch=1&resourceVersion=0", 99, begun=begun))
        await begun.wait()
        assert (await api.put(f"{CRDS}/endpoints.{group}", current)).status == 200
        assert [event["type"] for event in await ending] == ["ADDED"], "a watch ends with its version"
        assert (await api.get(f"{old}/a")).status == 404
        assert (await api.get(f"{new}/a")).status == 200
    finally:
        await remove(api, f"endpoints.{group}")
