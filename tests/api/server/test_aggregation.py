"""APIServices: a group version that another server has, seen through this one; and what is served here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from yarl import URL

from tests.api.security.raw import exchange, statuses
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.extension import GROUP, ROOT, VERSION, Extension
from tests.support.kubectl import Kubectl
from tests.support.patience import PATIENCE
from tests.support.tls import Authority, own_address, serving

_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
_NAME = f"{VERSION}.{GROUP}"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class World:
    """The extension, and the objects that lead to it."""

    def __init__(self, api: Api, space: str, authority: Authority, extension: Extension, port: int) -> None:
        self.api, self.space, self.authority, self.extension, self.port = api, space, authority, extension, port
        self.address = own_address()

    async def condition(self) -> dict[str, Any]:
        shown = (await self.api.get(f"{_SERVICES}/{_NAME}")).json
        return next((one for one in (shown.get("status") or {}).get("conditions") or ()), {})

    async def until(self, reason: str) -> dict[str, Any]:
        """Waits for a reason of the Available condition."""
        async with asyncio.timeout(PATIENCE):
            while (found := await self.condition()).get("reason") != reason:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        return found

    async def register(self, **spec: Any) -> None:
        made = await self.api.post(
            _SERVICES,
            {
                "metadata": {"name": _NAME},
                "spec": {
                    "group": GROUP,
                    "version": VERSION,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "caBundle": self.authority.bundle,
                    "service": {"namespace": self.space, "name": "metrics"},
                    **spec,
                },
            },
        )
        assert made.status == 201, made.raw
        assert "Warning" not in made.headers

    async def serve(self) -> None:
        """The Service."""
        spec = {"ports": [{"name": "https", "port": 443, "targetPort": self.port}]}
        path = f"/api/v1/namespaces/{self.space}/services"
        made = await self.api.post(path, {"metadata": {"name": "metrics"}, "spec": spec})
        assert made.status == 201, made.raw

    async def answer(self, *, ready: bool = True) -> None:
        """Its endpoints."""
        body = {
            "metadata": {"name": "metrics-1", "labels": {"kubernetes.io/service-name": "metrics"}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": self.port}],
            "endpoints": [{"addresses": [self.address], "conditions": {"ready": ready}}],
        }
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.space}/endpointslices"
        made = await self.api.post(path, body)
        if made.status == 409:
            made = await self.api.patch(f"{path}/metrics-1", {"endpoints": body["endpoints"]})
        assert made.status in (200, 201), made.raw


@pytest.fixture
async def world(api: Api, space: str, server: ServerProcess, tmp_path: Path) -> AsyncIterator[World]:
    authority, extension = Authority(tmp_path), Extension()
    trust = tmp_path / "front-proxy-ca.crt"
    shared = await api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
    trust.write_text(shared.json["data"]["requestheader-client-ca-file"])
    context = authority.server_context("metrics", f"metrics.{space}.svc", trust=trust)
    async with serving(extension, context, own_address()) as port:
        one = World(api, space, authority, extension, port)
        try:
            yield one
        finally:
            await api.delete(f"{_SERVICES}/{_NAME}")


@pytest.fixture
async def ready(world: World) -> World:
    """All in place and Available."""
    await world.serve()
    await world.answer()
    await world.register()
    await world.until("Passed")
    return world


async def test_conditions_tell_what_is_missing(world: World) -> None:
    await world.register()
    found = await world.until("ServiceNotFound")
    assert found["status"] == "False"
    assert found["message"] == f'service/metrics in "{world.space}" is not present'
    assert (await world.api.get(f"{ROOT}/nodes")).status == 503
    await world.serve()
    await world.until("EndpointsNotFound")
    await world.answer(ready=False)
    await world.until("MissingEndpoints")
    world.extension.broken = True
    await world.answer()
    found = await world.until("FailedDiscoveryCheck")
    assert "500" in found["message"]
    text = (await world.api.get("/metrics")).raw.decode()
    assert f'aggregator_unavailable_apiservice{{name="{_NAME}"}} 1.0' in text
    assert f'aggregator_unavailable_apiservice_total{{name="{_NAME}",reason="ServiceNotFound"}}' in text
    world.extension.broken = False
    await world.until("Passed")
    assert (await world.api.get(f"{ROOT}/nodes")).status == 200


async def test_requests_arrive_with_the_user_and_without_credentials(ready: World) -> None:
    session = ready.api._session
    assert session is not None
    headers = {"Authorization": "Basic abc", "X-Remote-User": "intruder", "X-Remote-Extra-Scopes": "all"}
    async with session.get(URL(f"{ready.api.url}{ROOT}/nodes/one?x=%2Fy", encoded=True), headers=headers) as answer:
        assert answer.status == 200
        assert (await answer.json())["metadata"]["name"] == "one"
    method, path, seen = ready.extension.seen[-1]
    assert (method, path) == ("GET", f"{ROOT}/nodes/one?x=%2Fy")
    assert seen["(client certificate)"] == ["front-proxy-client"]
    assert seen["x-remote-user"] == ["kubernetes-admin"]
    assert seen["x-remote-group"] == ["system:masters", "system:authenticated"]
    assert "authorization" not in seen
    assert "x-remote-extra-scopes" not in seen


async def test_we_authorise_first(ready: World, anonymous: Api) -> None:
    before = len(ready.extension.seen)
    refused = await anonymous.get(f"{ROOT}/nodes")
    assert refused.failure == (
        403,
        "Forbidden",
        'nodes.metrics.k8s.io is forbidden: User "system:anonymous" cannot list resource "nodes" '
        'in API group "metrics.k8s.io" at the cluster scope',
    )
    assert (await anonymous.get(f"{ROOT}/namespaces/a/pods/p/echo/../x")).status in (400, 403)
    assert len(ready.extension.seen) == before


async def test_paths_are_judged_as_the_other_server_reads_them(ready: World, server: ServerProcess) -> None:
    """Somebody who may read nodes gets nothing below them, however the path is written."""
    rules = [{"apiGroups": [GROUP], "resources": ["nodes"], "verbs": ["get"]}]
    role = {"metadata": {"name": f"nodes-{ready.space}"}, "rules": rules}
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    assert (await ready.api.post(f"{rbac}/clusterroles", role)).status == 201
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": ready.space}
    binding = {
        "metadata": {"name": f"nodes-{ready.space}"},
        "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"nodes-{ready.space}"},
    }
    assert (await ready.api.post(f"{rbac}/clusterrolebindings", binding)).status == 201
    asked = await ready.api.post(f"/api/v1/namespaces/{ready.space}/serviceaccounts/default/token", {"spec": {}})
    async with Api(server.kubeconfig, token=asked.json["status"]["token"]) as reader:
        assert reader._session is not None
        found = {}
        for path in ("/nodes/one", "/nodes/one/log", "/nodes/one%2Flog", "//nodes", "/nodes", "/nodes/one/%2e%2e"):
            async with reader._session.get(URL(f"{reader.url}{ROOT}{path}", encoded=True)) as answer:
                found[path] = answer.status
    assert found == {
        "/nodes/one": 200,
        "/nodes/one/log": 403,
        "/nodes/one%2Flog": 403,
        "//nodes": 404,
        "/nodes": 403,
        "/nodes/one/%2e%2e": 403,
    }
    name = f"system:serviceaccount:{ready.space}:default"
    assert [seen[1] for seen in ready.extension.seen if seen[2]["x-remote-user"] == [name]] == [f"{ROOT}/nodes/one"]


async def test_bodies_watches_and_upgrades_pass(ready: World) -> None:
    body = {"kind": "PodMetrics", "metadata": {"name": "x" * 200_000}}
    made = await ready.api.post(f"{ROOT}/namespaces/{ready.space}/pods", body)
    assert (made.status, made.json) == (201, body)
    events = await ready.api.events(f"{ROOT}/pods?watch=1", 3)
    assert [event["object"]["metadata"]["name"] for event in events] == ["0", "1", "2"]
    session = ready.api._session
    assert session is not None
    url = f"{ready.api.url}{ROOT}/namespaces/{ready.space}/pods/p/echo"
    async with session.ws_connect(url, protocols=("v5.channel.k8s.io",)) as socket:
        await socket.send_str("straight")
        assert await socket.receive_str(timeout=PATIENCE) == "thgiarts"
        assert socket.protocol == "v5.channel.k8s.io"


async def test_half_an_answer_is_cut_when_its_time_is_over(ready: World, server: ServerProcess) -> None:
    """No other answer follows in its midst."""
    path = f"{ROOT}/namespaces/{ready.space}/pods/p/stalled?timeout="
    for seconds in (1, 5, 25):  # an extension that stands still for longer has not even begun
        request = f"GET {path}{seconds}s HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        answer = await exchange(server.port, request, ready.api.tls)
        if statuses(answer) != [504]:
            break
    assert statuses(answer) == [200]
    assert answer.endswith(b'{"half":\r\n')


@pytest.mark.parametrize("path", ["log/stalled", "exec/some/stalled", "log"])
async def test_streams_below_a_subresource_last(ready: World, path: str) -> None:
    """Longer than other requests may take."""
    session = ready.api._session
    assert session is not None
    url = f"{ready.api.url}{ROOT}/namespaces/{ready.space}/pods/p/{path}?timeout=1s&follow=true&watch=1"
    async with session.get(url) as answer:
        assert await answer.content.readany()
        if path != "log":  # which ends by itself
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(answer.content.readany(), 2)


async def test_upgraded_streams_of_any_subresource_last(ready: World) -> None:
    session = ready.api._session
    assert session is not None
    for path in ("echo", "some/echo"):
        url = f"{ready.api.url}{ROOT}/namespaces/{ready.space}/pods/p/{path}?timeout=1s"
        async with session.ws_connect(url, protocols=("v5.channel.k8s.io",)) as socket:
            await asyncio.sleep(2)
            await socket.send_str("straight")
            assert await socket.receive_str(timeout=PATIENCE) == "thgiarts"


async def test_discovery_and_schemas_are_merged(ready: World) -> None:
    groups = [one["name"] for one in (await ready.api.get("/apis")).json["groups"]]
    assert groups[0] == "apps"
    assert groups[-1] == GROUP
    merged = (await ready.api.get("/apis", Accept=_AGGREGATED)).json["items"]
    shown = next(one for one in merged if one["metadata"]["name"] == GROUP)
    (version,) = shown["versions"]
    assert (version["version"], version["freshness"]) == (VERSION, "Current")
    pods = next(one for one in version["resources"] if one["resource"] == "pods")
    assert pods["scope"] == "Namespaced"
    assert pods["subresources"][0]["subresource"] == "echo"
    assert (await ready.api.get(ROOT)).json["groupVersion"] == f"{GROUP}/{VERSION}"
    group = (await ready.api.get(f"/apis/{GROUP}")).json
    assert group["preferredVersion"]["version"] == VERSION
    swagger = (await ready.api.get("/openapi/v2")).json
    assert f"{ROOT}/nodes/{{name}}" in swagger["paths"]
    assert "/apis/other/v1/" not in swagger["paths"]
    assert "io.k8s.metrics.v1beta1.NodeMetrics" in swagger["definitions"]
    assert swagger["definitions"]["io.k8s.api.core.v1.Pod"]["type"] == "object"
    index = (await ready.api.get("/openapi/v3")).json["paths"]
    assert index[ROOT[1:]]["serverRelativeURL"] == f"/openapi/v3{ROOT}?hash=ABC"
    document = await ready.api.get(f"/openapi/v3{ROOT}?hash=ABC")
    assert "io.k8s.metrics.v1beta1.NodeMetrics" in document.json["components"]["schemas"]


async def test_an_extension_that_is_down_is_stale_and_unavailable(ready: World) -> None:
    await ready.answer(ready=False)
    await ready.until("MissingEndpoints")
    refused = await ready.api.get(f"{ROOT}/nodes")
    assert (refused.status, refused.raw) == (503, b"service unavailable\n")
    merged = (await ready.api.get("/apis", Accept=_AGGREGATED)).json["items"]
    (version,) = next(one for one in merged if one["metadata"]["name"] == GROUP)["versions"]
    assert version["freshness"] == "Stale"
    assert [one["resource"] for one in version["resources"]] == ["nodes", "pods"]
    await ready.answer()
    await ready.until("Passed")
    assert (await ready.api.get(f"{ROOT}/nodes")).status == 200


async def test_the_certificate_of_the_extension_is_verified(world: World, tmp_path: Path) -> None:
    await world.serve()
    await world.answer()
    (tmp_path / "other").mkdir()
    await world.register(caBundle=Authority(tmp_path / "other", "other").bundle)
    found = await world.until("FailedDiscoveryCheck")
    assert "certificate signed by unknown authority" in found["message"]
    path = f"{_SERVICES}/{_NAME}"
    assert (await world.api.patch(path, {"spec": {"caBundle": None, "insecureSkipTLSVerify": True}})).status == 200
    await world.until("Passed")


async def test_kubectl_top_and_explain(ready: World, server: ServerProcess) -> None:
    kubectl = Kubectl(kubectls.current(), server.kubeconfig, ready.space)
    for name in ("one", "two"):
        node = {
            "metadata": {"name": name},
            "status": {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2", "memory": "2Gi"}},
        }
        made = await ready.api.post("/api/v1/nodes", node)
        assert made.status == 201, made.raw
    try:
        top = await asyncio.to_thread(kubectl, "top", "nodes")
        assert [line.split() for line in top.splitlines()] == [
            ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"],
            ["one", "157m", "7%", "1024Mi", "50%"],
            ["two", "157m", "7%", "1024Mi", "50%"],
        ]
    finally:
        for name in ("one", "two"):
            await ready.api.delete(f"/api/v1/nodes/{name}")
    shown = await asyncio.to_thread(kubectl, "api-resources", f"--api-group={GROUP}", "--no-headers")
    assert [line.split()[0] for line in shown.splitlines()] == ["nodes", "pods"]
    raw = await asyncio.to_thread(kubectl, "get", "--raw", f"{ROOT}/nodes/two")
    assert orjson.loads(raw)["usage"]["memory"] == "1024Mi"
    listed = await asyncio.to_thread(kubectl, "get", "apiservices", _NAME, "--no-headers")
    assert listed.split()[:3] == [_NAME, f"{ready.space}/metrics", "True"]


async def test_what_is_served_here_is_registered_as_local(api: Api) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            listed = {one["metadata"]["name"]: one for one in (await api.get(_SERVICES)).json["items"]}
            if len(listed) >= 20 and all((one.get("status") or {}).get("conditions") for one in listed.values()):
                break
            await asyncio.sleep(0.05)
    assert {"v1.", "v1.apps", "v2.autoscaling", "v1.rbac.authorization.k8s.io"} <= set(listed)
    apps = listed["v1.apps"]
    assert apps["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
    assert apps["spec"] == {"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15}
    (condition,) = apps["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Available", "True", "Local")
    assert (await api.delete(f"{_SERVICES}/v1.apps")).status == 200
    async with asyncio.timeout(PATIENCE):
        while (await api.get(f"{_SERVICES}/v1.apps")).status != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    mine = {"type": "Mine", "status": "True", "reason": "R", "message": "", "lastTransitionTime": None}
    path = f"{_SERVICES}/v1.batch"
    assert (await api.patch(f"{path}/status", {"status": {"conditions": [mine]}})).status == 200
    async with asyncio.timeout(PATIENCE):
        while len(found := (await api.get(path)).json["status"]["conditions"]) < 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
    assert [one["type"] for one in found] == ["Mine", "Available"]


async def test_a_front_proxy_may_name_users(server: ServerProcess, tmp_path: Path) -> None:
    """Its certificate counts for nothing else, and other names of its authority may not."""
    pki = next((server.directory / "data").rglob("front-proxy-ca.crt")).parent

    def context(pair: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        made.load_cert_chain(pki / f"{pair}.crt", pki / f"{pair}.key")
        return made

    async def whoami(tls: ssl.SSLContext, **headers: str) -> tuple[int, Any]:
        url = f"https://127.0.0.1:{server.port}" + "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        async with aiohttp.ClientSession() as session, session.post(url, json={}, headers=sent, ssl=tls) as answer:
            body = await answer.json(content_type=None)
            return answer.status, (body.get("status") or {}).get("userInfo") if answer.status == 201 else body

    proxy = context("front-proxy-client")
    status, user = await whoami(
        proxy, X_Remote_User="alice", X_Remote_Group="team", X_Remote_Uid="7", **{"X-Remote-Extra-Acme%2Fscope": "a"}
    )
    assert (status, user["username"], user["uid"]) == (201, "alice", "7")
    assert user["groups"] == ["team", "system:authenticated"]
    assert user["extra"]["acme/scope"] == ["a"]
    assert (await whoami(proxy))[0] == 401
    status, user = await whoami(context("admin"), X_Remote_User="alice")
    assert user["username"] == "kubernetes-admin"
    authority = Authority(tmp_path)
    authority.pair = type(authority.pair)(pki / "front-proxy-ca.crt", pki / "front-proxy-ca.key")
    pair = authority.files("somebody", organization="system:masters", client=True)
    other = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    other.load_cert_chain(pair.cert, pair.key)
    assert (await whoami(other, X_Remote_User="alice"))[0] == 401
    assert (await whoami(other))[0] == 401


async def test_extensions_find_what_they_need_to_know(api: Api) -> None:
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    data = (await api.get(path)).json["data"]
    assert "BEGIN CERTIFICATE" in data["client-ca-file"]
    assert "BEGIN CERTIFICATE" in data["requestheader-client-ca-file"]
    assert orjson.loads(data["requestheader-allowed-names"]) == ["front-proxy-client"]
    role = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/extension-apiserver-authentication-reader"
    assert (await api.get(role)).json["rules"][0]["resourceNames"] == ["extension-apiserver-authentication"]
