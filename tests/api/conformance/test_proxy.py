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


async def _answer(request: web.BaseRequest) -> web.StreamResponse:
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


async def test_pods_and_services_are_proxied(api: Api, space: str, site: tuple[str, int]) -> None:
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
    doors = [
        "pods/agnhost",
        "pods/http:agnhost:dest",
        f"pods/agnhost:{port}",
        "services/svc:portname",
        "services/svc:80",
        "services/http:svc:portname",
    ]
    for door in doors:
        await eventually(lambda door=door: api.get(f"{root}/{door}/proxy/"), lambda a: a.status == 200)  # type: ignore[misc]
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
