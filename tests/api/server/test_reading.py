"""Lists by pages, selectors, watches that resume, forms of answers, discovery and OpenAPI."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import orjson
import pytest
import yaml

from orca.api.builtin import BUILTIN
from orca.server.responses import PIECES_FROM
from tests.api.server.api import Api
from tests.support.patience import PATIENCE


async def fill(api: Api, space: str, count: int) -> str:
    path = f"/api/v1/namespaces/{space}/configmaps"
    for number in range(count):
        labels = {"parity": "even" if number % 2 == 0 else "odd"}
        answer = await api.post(path, {"metadata": {"name": f"c{number:02}", "labels": labels}, "data": {"n": "x"}})
        assert answer.status == 201
    return path


def names(listed: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


async def test_pages_show_one_moment(api: Api, space: str) -> None:
    path = await fill(api, space, 7)
    first = (await api.get(f"{path}?limit=3")).json
    assert names(first) == ["c00", "c01", "c02"]
    assert first["metadata"]["remainingItemCount"] == 4
    await api.delete(f"{path}/c05")
    await api.post(path, {"metadata": {"name": "c99"}})
    second = (await api.get(f"{path}?limit=3&continue={first['metadata']['continue']}")).json
    third = (await api.get(f"{path}?limit=3&continue={second['metadata']['continue']}")).json
    assert names(second) + names(third) == ["c03", "c04", "c05", "c06"]
    assert "continue" not in third["metadata"]
    assert third["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_selectors(api: Api, space: str) -> None:
    path = await fill(api, space, 4)
    assert names((await api.get(f"{path}?labelSelector=parity%3Dodd")).json) == ["c01", "c03"]
    assert names((await api.get(f"{path}?labelSelector=parity+notin+(odd)")).json) == ["c00", "c02"]
    assert names((await api.get(f"{path}?fieldSelector=metadata.name%3Dc02")).json) == ["c02"]
    assert names((await api.get(f"{path}?fieldSelector=metadata.name!%3Dc02&limit=2")).json) == ["c00", "c01"]


async def test_a_watch_follows_a_selector(api: Api, space: str) -> None:
    path = await fill(api, space, 2)
    since = (await api.get(path)).json["metadata"]["resourceVersion"]

    async def change() -> None:
        await api.patch(f"{path}/c01", {"metadata": {"labels": {"parity": "even"}}})
        await api.patch(f"{path}/c01", {"data": {"n": "y"}})
        await api.patch(f"{path}/c01", {"metadata": {"labels": {"parity": "odd"}}})

    changing = asyncio.create_task(change())
    seen = await api.events(f"{path}?watch=1&labelSelector=parity%3Deven&resourceVersion={since}", 3)
    await changing
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_watch_begins_with_what_there_is(api: Api, space: str) -> None:
    path = await fill(api, space, 3)
    seen = await api.events(
        f"{path}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", 4
    )
    assert [event["type"] for event in seen] == ["ADDED", "ADDED", "ADDED", "BOOKMARK"]
    assert seen[3]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    plain = await api.events(f"{path}?watch=true", 3)
    assert [event["type"] for event in plain] == ["ADDED"] * 3


async def test_a_watch_of_one_name_hears_of_it_in_every_namespace(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    since = (await api.get(path)).json["metadata"]["resourceVersion"]
    await api.post(path, {"metadata": {"name": "other"}})
    following = asyncio.create_task(
        api.events(f"/api/v1/configmaps?watch=1&fieldSelector=metadata.name%3Dwanted&resourceVersion={since}", 2)
    )
    await asyncio.sleep(0.2)
    await api.post(path, {"metadata": {"name": "wanted"}})
    await api.patch(f"{path}/wanted", {"data": {"a": "b"}})
    assert [event["object"]["metadata"]["name"] for event in await following] == ["wanted", "wanted"]


async def test_initial_events_of_a_version_that_does_not_come(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    answer = await api.get(f"{path}&allowWatchBookmarks=true&resourceVersion=999999999")
    assert answer.status == 200
    event = orjson.loads(answer.raw)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 504, "Timeout")
    assert event["object"]["message"].startswith("Timeout: Too large resource version: 999999999, current: ")
    assert event["object"]["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    ],
)
async def test_a_watch_says_how_far_it_came_when_it_ends(api: Api, space: str, accept: str) -> None:
    path = await fill(api, space, 1)
    now = (await api.get(path)).json["metadata"]["resourceVersion"]
    watching = f"{path}?watch=1&timeoutSeconds=1&resourceVersion={now}"
    assert (await api.get(watching, Accept=accept)).raw == b""
    # One more may come just before, when its time is up as well.
    told = (await api.get(f"{watching}&allowWatchBookmarks=1", Accept=accept)).raw.splitlines()
    assert {orjson.loads(line)["type"] for line in told} == {"BOOKMARK"}
    last = orjson.loads(told[-1])
    assert int(last["object"]["metadata"]["resourceVersion"]) >= int(now)


async def test_a_watch_ends_in_time(api: Api, space: str) -> None:
    async with asyncio.timeout(PATIENCE):
        answer = await api.get(f"/api/v1/namespaces/{space}/secrets?watch=1&timeoutSeconds=1")
    assert (answer.status, answer.raw) == (200, b"")


async def test_gzip_for_big_answers_only(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    for number in range(4):
        await api.post(path, {"metadata": {"name": f"big{number}"}, "data": {"text": "abc" * 20_000}})
    packed = await api.get(path, Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(orjson.loads(gzip.decompress(packed.raw))["items"]) == 4
    assert "Content-Encoding" not in (await api.get(path, Accept_Encoding="identity")).headers
    assert "Content-Encoding" not in (await api.get(f"{path}/big0", Accept_Encoding="gzip")).headers


async def listed(api: Api) -> float:
    """Of how many lists of ConfigMaps the size is counted."""
    lines = (await api.get("/metrics")).raw.decode().splitlines()
    counts = [line for line in lines if line.startswith("apiserver_response_sizes_count{")]
    return sum(float(line.rpartition(" ")[2]) for line in counts if '"configmaps"' in line and '"LIST"' in line)


async def test_a_long_list_is_the_same_in_pieces_and_compressed(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    for number in range(12):
        text = "".join(f"{number * at:x}" for at in range(30_000))
        await api.post(path, {"metadata": {"name": f"big{number}"}, "data": {"text": text}})
    before = await listed(api)
    plain = await api.get(path, Accept_Encoding="identity")
    assert int(plain.headers["Content-Length"]) == len(plain.raw) > PIECES_FROM
    assert [one["metadata"]["name"] for one in plain.json["items"]] == sorted(f"big{number}" for number in range(12))
    packed = await api.get(path, Accept_Encoding="gzip")
    assert packed.headers["Transfer-Encoding"] == "chunked"  # made as far as it was sent, so nobody knew its length
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.raw) == plain.raw
    assert len(packed.raw) < len(plain.raw) * 0.7
    assert packed.headers["Audit-Id"]
    assert await listed(api) == before + 2
    for accept, member in (("application/json;as=Table;g=meta.k8s.io;v=v1", "rows"), ("application/yaml", "items")):
        for encoding in ("identity", "gzip"):
            told = await api.get(f"{path}?includeObject=Object", Accept=accept, Accept_Encoding=encoding)
            assert told.headers["Content-Type"] == accept.partition(";")[0]
            raw = gzip.decompress(told.raw) if encoding == "gzip" else told.raw
            assert ("Content-Length" in told.headers) == (encoding == "identity")
            assert len(yaml.load(raw, yaml.CSafeLoader)[member]) == 12


async def test_pretty_and_audit_id(api: Api) -> None:
    answer = await api.get("/api/v1/namespaces/default?pretty=true", Audit_ID="mine")
    assert b'\n  "kind"' in answer.raw or b'\n  "apiVersion"' in answer.raw
    assert answer.headers["Audit-Id"] == "mine"


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
async def test_aggregated_discovery(api: Api, version: str) -> None:
    accept = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
    core, groups = await api.get("/api", Accept=accept), await api.get("/apis", Accept=accept)
    assert (
        core.headers["Content-Type"] == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    )
    shown = {
        (group["metadata"].get("name", ""), one["version"], resource["resource"])
        for document in (core.json, groups.json)
        for group in document["items"]
        for one in group["versions"]
        for resource in one["resources"]
    }
    assert shown == {(row.group, row.version, row.plural) for row in BUILTIN}
    again = await api.get("/apis", Accept=accept, If_None_Match=groups.headers["ETag"])
    assert again.status == 304


async def test_legacy_discovery(api: Api) -> None:
    assert (await api.get("/api")).json["versions"] == ["v1"]
    shown = {
        (group["name"], version["version"])
        for group in (await api.get("/apis")).json["groups"]
        for version in group["versions"]
    }
    assert shown == {(row.group, row.version) for row in BUILTIN if row.group}
    for group, version in (("", "v1"), *sorted(shown)):
        path = f"/apis/{group}/{version}" if group else "/api/v1"
        listed = (await api.get(path)).json
        expected = {row.plural for row in BUILTIN.of_group_version(group, version)}
        assert {one["name"] for one in listed["resources"] if "/" not in one["name"]} == expected
    assert (await api.get("/apis/apps")).json["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    assert (await api.get("/apis/nothing.example.com")).status == 404


async def test_openapi_documents_are_closed(api: Api) -> None:
    """Every reference leads somewhere, every row has its paths and its kind."""
    index = (await api.get("/openapi/v3")).json["paths"]
    seen = set()
    for name, entry in index.items():
        answer = await api.get(entry["serverRelativeURL"])
        document = answer.json
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        schemas = document["components"]["schemas"]
        missing = [ref for ref in references(document) if ref.rpartition("/")[2] not in schemas]
        assert missing == [], name
        seen |= {path.split("/")[-1] for path in document["paths"]}
    assert {row.plural for row in BUILTIN if row is not None and row.plural != "bindings"} <= seen
    swagger = (await api.get("/openapi/v2")).json
    assert [ref for ref in references(swagger) if ref.rpartition("/")[2] not in swagger["definitions"]] == []
    stale = await api.get("/openapi/v3/api/v1?hash=OLD")
    assert stale.status in (200, 301)


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*(references(item) for item in value)) if value else set()
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*(references(item) for item in value.values())) if value else own


async def test_metrics_and_health(api: Api) -> None:
    text = (await api.get("/metrics")).raw.decode()
    assert "apiserver_request_total{" in text
    assert 'apiserver_storage_objects{resource="namespaces"}' in text
    verbose = (await api.get("/readyz?verbose")).raw.decode()
    assert "[+]etcd ok" in verbose
    assert verbose.endswith("readyz check passed\n")
    assert (await api.get("/livez/etcd")).raw == b"ok"


async def test_the_last_word_of_a_watch_is_a_bookmark(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    await api.post(path, {"metadata": {"name": "a"}})
    started = (await api.get(path)).json["metadata"]["resourceVersion"]
    elsewhere = await api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"other-{space}"}})
    watch = f"{path}?watch=1&resourceVersion={started}&timeoutSeconds=1"
    answer = await api.get(f"{watch}&allowWatchBookmarks=true")
    last = [orjson.loads(line) for line in answer.raw.splitlines()][-1]
    assert last["type"] == "BOOKMARK"
    assert int(last["object"]["metadata"]["resourceVersion"]) >= int(elsewhere.json["metadata"]["resourceVersion"])
    assert (await api.get(watch)).raw == b""
