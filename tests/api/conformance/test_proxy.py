"""sig-network: pods and services answer through the API server, whatever the method."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.api.conformance.cases import eventually, ok, pod
from tests.api.server.api import Api

METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address besides loopback")
        address: str = probe.getsockname()[0]
    return address


PAGE = '<a href="/rewriteme">test</a>'


async def _answer(request: web.BaseRequest) -> web.StreamResponse:
    if request.path == "/moved":
        raise web.HTTPFound("/there?a=b", headers={"Access-Control-Allow-Origin": "*"})
    if request.path == "/page":
        page = web.Response(text=PAGE, content_type="text/html")
        page.enable_compression()
        return page
    if request.path == "/told":
        return web.json_response(dict(request.headers))
    body = {"method": request.method, "path": request.path_qs, "body": await request.text()}
    return web.json_response(body, headers={"X-Method": request.method})


@pytest.fixture
async def site() -> AsyncIterator[tuple[str, int]]:
    """Where something answers with what it was asked."""
    runner = web.ServerRunner(web.Server(_answer))
    await runner.setup()
    site = web.TCPSite(runner, own_address(), 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield host, port
    await runner.cleanup()


@pytest.fixture
async def root(api: Api, space: str, site: tuple[str, int]) -> str:
    """The path of a namespace with the pod agnhost, whose port dest leads to the site, and the Service svc."""
    host, port = site
    root = f"/api/v1/namespaces/{space}"
    made = pod("agnhost", metadata={"labels": {"e2e": "proxy"}})
    made["spec"]["containers"][0]["ports"] = [{"name": "dest", "containerPort": port}]
    made["spec"]["schedulerName"] = "nobody"
    ok(await api.post(f"{root}/pods", made), 201)
    conditions = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}], "conditions": conditions}
    ok(await api.patch(f"{root}/pods/agnhost/status", {"status": status}))
    ports = [{"name": "portname", "port": 80, "targetPort": "dest"}]
    service = {"metadata": {"name": "svc"}, "spec": {"ports": ports, "selector": {"e2e": "proxy"}}}
    ok(await api.post(f"{root}/services", service), 201)
    await eventually(lambda: api.get(f"{root}/services/svc:portname/proxy/"), lambda a: a.status == 200)
    return root


async def test_pods_and_services_are_proxied(api: Api, root: str, site: tuple[str, int]) -> None:
    _, port = site
    doors = [
        "pods/agnhost",
        "pods/http:agnhost:dest",
        f"pods/agnhost:{port}",
        "services/svc:portname",
        "services/svc:80",
        "services/http:svc:portname",
    ]
    for door in doors:
        for method in METHODS:
            sent = b"told" if method in ("PATCH", "POST", "PUT") else None
            path = f"{root}/{door}/proxy/some/path/with/{method}?a=b"
            answer = await api.call(method, path, sent, media="text/plain")
            assert answer.status == 200, (door, method, answer.raw)
            assert answer.headers["X-Method"] == method
            if method != "HEAD":
                wanted = {"method": method, "path": f"/some/path/with/{method}?a=b", "body": (sent or b"").decode()}
                assert answer.json == wanted
    # Without a path only what may be repeated is redirected.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=api.tls)) as session:
        for method in METHODS:
            url = f"{api.url}{root}/pods/agnhost/proxy?method={method}"
            async with session.request(method, url, allow_redirects=False) as answer_:
                assert answer_.status == (301 if method in ("GET", "HEAD") else 200), method


async def test_pages_lead_through_the_proxy_again(api: Api, root: str, site: tuple[str, int]) -> None:
    host, port = site
    for door in ("pods/agnhost", f"pods/http:agnhost:{port}", "services/svc:portname"):
        proxy = f"{root}/{door}/proxy"
        for encoding in ("identity", "gzip"):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=api.tls)) as session:
                headers = {"Accept-Encoding": encoding}
                async with session.get(f"{api.url}{proxy}/page", headers=headers) as page:
                    assert await page.text() == PAGE.replace("/rewriteme", f"{proxy}/rewriteme")
                    assert page.headers.get("Content-Encoding", "identity") == encoding
                async with session.get(f"{api.url}{proxy}/moved", allow_redirects=False) as moved:
                    assert (moved.status, moved.headers["Location"]) == (302, f"{proxy}/there?a=b")
                    assert "Access-Control-Allow-Origin" not in moved.headers
        told = (await api.call("GET", f"{proxy}/told")).json
        assert told["X-Forwarded-Uri"] == f"{proxy}/told"
        assert told["X-Forwarded-For"]
        assert f"//{told['Host']}" in api.url
        assert "Authorization" not in told
    await api.patch(f"{root}/pods/agnhost/status", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    gone = 'no endpoints available for service "svc:portname"'
    unready = await eventually(lambda: api.get(f"{root}/services/svc:portname/proxy/"), lambda a: a.status == 503)
    assert unready.failure == (503, "ServiceUnavailable", gone)
    # Nobody is led by endpoints that are no pods of this namespace.
    slice_ = {
        "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "svc"}},
        "addressType": "IPv4",
        "ports": [{"name": "portname", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [host]}],
    }
    ok(await api.post(f"{root.replace('/api/v1', '/apis/discovery.k8s.io/v1')}/endpointslices", slice_), 201)
    assert (await api.get(f"{root}/services/svc:portname/proxy/")).failure == (503, "ServiceUnavailable", gone)
    closed = await api.get(f"{root}/pods/agnhost:1/proxy/")
    assert closed.failure[:2] == (503, "ServiceUnavailable")
    assert closed.failure[2].startswith(f"error trying to reach service: dial tcp {host}:1: ")
