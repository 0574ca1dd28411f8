"""Forms of answers and ways to ask: pretty, gzip, WebSocket, deprecations, methods."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import aiohttp
import orjson
import pytest

from tests.api.server.api import Api
from tests.api.server.story import PARTIAL, TABLE, ok
from tests.support.patience import PATIENCE


async def test_pretty(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    ok(await api.post(path, {"metadata": {"name": "a"}}), 201)
    for query, headers, lines in (
        ("", {}, False),
        ("?pretty=true", {}, True),
        ("?pretty=1", {}, True),
        ("?pretty=0", {}, False),
        ("?pretty=nonsense", {}, False),
        ("", {"User_Agent": "curl/8.1"}, True),
        ("?pretty=false", {"User_Agent": "curl/8.1"}, False),
        ("", {"User_Agent": "kubectl/v1.32"}, False),
    ):
        for where in (path, f"{path}/a"):
            told = await api.get(where + query, **headers)
            assert (b"\n  " in told.raw) is lines, (where, query, headers)


async def test_big_answers_are_packed_for_who_can_unpack(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    ok(await api.post(path, {"metadata": {"name": "big"}, "data": {"k": "x" * 200_000}}), 201)
    ok(await api.post(path, {"metadata": {"name": "small"}, "data": {"k": "x" * 2_000}}), 201)
    for where, packed in (("big", True), ("small", False), ("", True)):
        for accept in ("application/json", "application/yaml"):
            answer = await api.get(f"{path}/{where}", Accept_Encoding="gzip", Accept=accept)
            assert (answer.headers.get("Content-Encoding") == "gzip") is packed, (where, accept)
            if packed:
                assert answer.headers["Vary"] == "Accept-Encoding"
                assert b"x" * 200_000 in gzip.decompress(answer.raw)
            plain = await api.get(f"{path}/{where}", Accept=accept)
            assert "Content-Encoding" not in plain.headers


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/vnd.kubernetes.protobuf", 406),
        ("application/cbor", 406),
        ("text/html", 406),
        ("application/json;as=Table;v=v1;g=other.example.com", 406),
        ("application/json;v=v1;g=meta.k8s.io", 406),
        ("application/vnd.kubernetes.protobuf, application/json", 200),
        ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", 200),
        ("text/html, */*;q=0.1", 200),
        ("application/*", 200),
    ],
)
async def test_what_can_be_accepted(api: Api, space: str, accept: str, status: int) -> None:
    answer = await api.get(f"/api/v1/namespaces/{space}/configmaps", Accept=accept)
    assert answer.status == status
    if status == 406:
        assert answer.failure == (
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml",
        )
    else:
        assert answer.headers["Content-Type"] == "application/json"


async def test_tables_include_what_is_wanted(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    made = ok(await api.post(path, {"metadata": {"name": "a"}, "data": {"k": "v"}}), 201)
    for where in (path, f"{path}/a"):
        for include, kind in (("", "PartialObjectMetadata"), ("Metadata", "PartialObjectMetadata"), ("None", None)):
            table = ok(await api.get(f"{where}?includeObject={include}", Accept=TABLE))
            shown = table["rows"][-1]["object"]
            assert (shown and shown["kind"]) == kind
        table = ok(await api.get(f"{where}?includeObject=Object", Accept=TABLE))
        assert table["rows"][-1]["object"] == made
        wrong = await api.get(f"{where}?includeObject=Everything", Accept=TABLE)
        text = "must be 'Metadata', 'Object', 'None', or empty"
        assert wrong.failure == (400, "BadRequest", f'includeObject: Invalid value: "Everything": {text}')


@pytest.mark.parametrize("accept", [TABLE, TABLE.replace("v=v1;", "v=v1beta1;")])
async def test_only_the_first_table_of_a_watch_has_columns(api: Api, space: str, accept: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    for name in ("a", "b"):
        ok(await api.post(path, {"metadata": {"name": name}}), 201)
    first, second = (event["object"] for event in await api.events(f"{path}?watch=1", 2, Accept=accept))
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["columnDefinitions"] is None
    assert [len(table["rows"][0]["cells"]) for table in (first, second)] == [3, 3]


async def test_watches_are_json(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps?watch=1"
    refused = await api.get(path, Accept="application/yaml;as=Table;v=v1;g=meta.k8s.io")
    assert refused.status == 406
    assert b"only the following media types are accepted: application/json;stream=watch" in refused.raw


async def test_a_version_that_is_no_number(api: Api, space: str) -> None:
    refused = await api.get(f"/api/v1/namespaces/{space}/configmaps?resourceVersion=some")
    why = 'strconv.ParseUint: parsing "some": invalid syntax'
    assert refused.failure == (400, "BadRequest", f'resourceVersion: Invalid value: "some": {why}')


async def test_the_state_a_watch_begins_with_comes_in_no_tables(api: Api, space: str) -> None:
    initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    path = f"/api/v1/namespaces/{space}/configmaps?watch=1&{initial}"
    assert (await api.get(path, Accept=TABLE)).failure[:2] == (406, "NotAcceptable")
    first = (await api.events(path, 1, Accept=f"{TABLE},application/json"))[0]
    assert (first["type"], first["object"]["kind"]) == ("BOOKMARK", "ConfigMap")


async def frames(api: Api, path: str, count: int, **options: Any) -> list[Any]:
    """The first events of a watch over a WebSocket."""
    found = []
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=api.tls)) as session,
        session.ws_connect(api.url + path, **options) as socket,
    ):
        while len(found) < count:
            message = await socket.receive(timeout=PATIENCE)
            assert message.type is aiohttp.WSMsgType.TEXT, message
            found.append(orjson.loads(message.data))
    return found


async def test_watch_over_a_websocket(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    ok(await api.post(path, {"metadata": {"name": "a"}}), 201)
    (added,) = await frames(api, f"{path}?watch=1&fieldSelector=metadata.name%3Da", 1)
    assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "a")
    (partial,) = await frames(api, f"{path}?watch=1", 1, headers={"Accept": PARTIAL})
    assert partial["object"]["kind"] == "PartialObjectMetadata"
    version = added["object"]["metadata"]["resourceVersion"]
    ok(await api.patch(f"{path}/a", {"data": {"k": "v"}}), 200)
    ok(await api.delete(f"{path}/a"))
    changed, gone = await frames(api, f"{path}?watch=1&resourceVersion={version}", 2)
    assert [changed["type"], gone["type"]] == ["MODIFIED", "DELETED"]


async def test_a_token_can_come_as_a_subprotocol(api: Api, anonymous: Api, space: str) -> None:
    request = {"spec": {"audiences": [], "expirationSeconds": 600}}
    account = f"/api/v1/namespaces/{space}/serviceaccounts/default"
    token = ok(await api.post(f"{account}/token", request), 201)["status"]["token"]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": space}
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}/rolebindings"
    ok(await api.post(bindings, {"metadata": {"name": "v"}, "roleRef": role, "subjects": [subject]}), 201)
    ok(await api.post(f"/api/v1/namespaces/{space}/configmaps", {"metadata": {"name": "a"}}), 201)
    offered = "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    path = f"/api/v1/namespaces/{space}/configmaps?watch=1"
    (first,) = await frames(anonymous, path, 1, protocols=(offered, "plain.example.com"))
    assert first["type"] == "ADDED"
    for protocols, status in (((offered,), 401), (("plain.example.com",), 403), ((offered[:-9], "plain"), 401)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await frames(anonymous, path, 1, protocols=protocols)
        assert refused.value.status == status, protocols


async def test_deprecated_kinds_say_so(api: Api, space: str) -> None:
    text = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    path = f"/api/v1/namespaces/{space}/endpoints"
    made = await api.post(path, {"metadata": {"name": "e"}})
    for answer in (made, await api.get(path), await api.get(f"{path}/e"), await api.delete(f"{path}/e")):
        assert answer.headers.getall("Warning") == [text]
    assert "Warning" not in (await api.get(f"/api/v1/namespaces/{space}/configmaps")).headers


async def test_component_statuses(api: Api) -> None:
    answer = await api.get("/api/v1/componentstatuses")
    assert answer.headers["Warning"] == '299 - "v1 ComponentStatus is deprecated in v1.19+"'
    listed = {one["metadata"]["name"]: one["conditions"][0] for one in answer.json["items"]}
    assert set(listed) == {"controller-manager", "scheduler", "etcd-0"}
    assert listed["etcd-0"] == {"type": "Healthy", "status": "True", "message": "ok"}
    assert listed["scheduler"]["status"] == "False"  # this server runs without controllers
    assert ok(await api.get("/api/v1/componentstatuses/etcd-0"))["kind"] == "ComponentStatus"
    assert (await api.get("/api/v1/componentstatuses/other")).failure[:2] == (404, "NotFound")


async def test_jobs_leave_their_pods_unless_told_otherwise(api: Api, space: str) -> None:
    path = f"/apis/batch/v1/namespaces/{space}/jobs"
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}
    for name, options, finalizers, warned in (
        ("unsaid", None, ["orphan"], True),
        ("orphan", {"propagationPolicy": "Orphan"}, ["orphan"], False),
        ("foreground", {"propagationPolicy": "Foreground"}, ["foregroundDeletion"], False),
    ):
        ok(await api.post(path, {"metadata": {"name": name}, "spec": spec}), 201)
        deleted = await api.delete(f"{path}/{name}", options)
        assert ok(deleted)["metadata"]["finalizers"] == finalizers
        assert ("child pods are preserved by default" in deleted.headers.get("Warning", "")) is warned
    ok(await api.post(path, {"metadata": {"name": "background"}, "spec": spec}), 201)
    assert ok(await api.delete(f"{path}/background", {"propagationPolicy": "Background"}))["status"] == "Success"


async def test_methods_that_mean_nothing_here(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    text = "the server does not allow this method on the requested resource"
    for method, where in (("PUT", path), ("PATCH", path), ("POST", f"{path}/a"), ("OPTIONS", path)):
        answer = await api.call(method, where, {}, media="application/merge-patch+json")
        assert answer.failure == (405, "MethodNotAllowed", text)
    assert (await api.call("HEAD", path)).status == 405


async def test_the_status_door_and_metadata(api: Api, space: str) -> None:
    """Which metadata changes with the status is each kind's own matter."""
    changed = {"metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}}}
    pods = f"/api/v1/namespaces/{space}/pods"
    ok(await api.post(pods, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}), 201)
    quotas = f"/api/v1/namespaces/{space}/resourcequotas"
    ok(await api.post(quotas, {"metadata": {"name": "p"}, "spec": {"hard": {"pods": "9"}}}), 201)
    sets = f"/apis/apps/v1/namespaces/{space}/deployments"
    template = {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"x": "y"}}, "template": template}
    ok(await api.post(sets, {"metadata": {"name": "p"}, "spec": spec}), 201)
    claims = f"/apis/resource.k8s.io/v1/namespaces/{space}/resourceclaims"
    ok(await api.post(claims, {"metadata": {"name": "p"}, "spec": {}}), 201)
    for path, labels, notes in (
        (pods, {"a": "b"}, {"a": "b"}),
        (quotas, {"a": "b"}, {"a": "b"}),
        (sets, None, {"a": "b"}),
        (claims, None, None),
    ):
        fields = ok(await api.patch(f"{path}/p/status", changed))["metadata"]
        assert (fields.get("labels"), fields.get("annotations")) == (labels, notes), path


async def test_a_proxied_root_gets_its_slash(api: Api, space: str) -> None:
    """Relative links of the page behind would else lead astray."""
    path = f"/api/v1/namespaces/{space}/services/s/proxy"
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    ok(await api.post(f"/api/v1/namespaces/{space}/services", service), 201)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=api.tls)) as session,
        session.get(f"{api.url}{path}?a=b", allow_redirects=False) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (301, f"{path}/?a=b")
    assert (await api.get(f"{path}/")).failure[:2] == (503, "ServiceUnavailable")


async def test_claims_grow_when_they_are_bound_and_their_class_allows(api: Api, space: str) -> None:
    def grown(size: str) -> Any:
        return {"spec": {"resources": {"requests": {"storage": size}}}}

    path = f"/api/v1/namespaces/{space}/persistentvolumeclaims"
    classes = "/apis/storage.k8s.io/v1/storageclasses"
    for name, growing in (("fixed", False), ("growing", True)):
        body = {"metadata": {"name": name}, "provisioner": "example.com/disks", "allowVolumeExpansion": growing}
        assert (await api.post(classes, body)).status in (201, 409)
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": name, **grown("1Gi")["spec"]}
        ok(await api.post(path, {"metadata": {"name": name}, "spec": spec}), 201)
    early = await api.patch(f"{path}/growing", grown("2Gi"))
    assert early.failure[0] in (403, 422)
    for name in ("fixed", "growing"):
        ok(await api.patch(f"{path}/{name}/status", {"status": {"phase": "Bound"}}))
    refused = await api.patch(f"{path}/fixed", grown("2Gi"))
    assert refused.failure == (
        403,
        "Forbidden",
        'persistentvolumeclaims "fixed" is forbidden: only dynamically provisioned pvc can be resized and the '
        "storageclass that provisions the pvc must support resize",
    )
    assert ok(await api.patch(f"{path}/growing", grown("2Gi")))["spec"]["resources"]["requests"]["storage"] == "2Gi"
