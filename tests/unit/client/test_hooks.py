"""Where hooks are called, and in which words a call fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orca.api.builtin import ENDPOINTSLICES, SERVICES
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.client.hooks import HookCaller, HookError, refusal_text
from orca.client.services import Address, ServiceResolver
from tests.support.tls import Authority, serving


class Cluster:
    """One Service ``default/hook`` with its slices."""

    def __init__(self, spec: Obj | None = None, *slices: Obj) -> None:
        self._spec = spec
        self._slices = list(slices)

    def peek(self, resource: Resource, namespace: str, name: str, /) -> Obj | None:
        assert resource is SERVICES
        if self._spec is None or (namespace, name) != ("default", "hook"):
            return None
        return {"metadata": {"name": name, "namespace": namespace}, "spec": self._spec}

    def peek_list(
        self, resource: Resource, namespace: str = "", /, *, hint: tuple[str, str] | None = None
    ) -> list[Obj]:
        assert resource is ENDPOINTSLICES
        assert hint == ("service", "hook")
        return self._slices


def piece(*addresses: str, port: int = 8443, name: str = "", ready: bool = True, **more: Any) -> Obj:
    return {
        "metadata": {"labels": {"kubernetes.io/service-name": "hook"}},
        "ports": [{"name": name, "port": port}],
        "endpoints": [{"addresses": [one], "conditions": {"ready": ready}} for one in addresses],
        **more,
    }


SPEC: Obj = {"type": "ClusterIP", "ports": [{"port": 443}, {"name": "other", "port": 8080}]}


def test_ready_endpoints_are_taken_in_turn() -> None:
    resolver = ServiceResolver(Cluster(SPEC, piece("192.0.2.1", "192.0.2.2"), piece("192.0.2.9", ready=False)))
    found = [resolver.resolve("default", "hook", 443).host for _ in range(4)]
    assert found == ["192.0.2.1", "192.0.2.2"] * 2


def test_the_port_of_the_service_leads_to_the_port_of_that_name() -> None:
    both = {"ports": [{"name": "", "port": 1}, {"name": "other", "port": 2}]}
    resolver = ServiceResolver(Cluster(SPEC, piece("192.0.2.1", **both)))
    assert resolver.resolve("default", "hook", 8080) == Address("192.0.2.1", 2)


@pytest.mark.parametrize(
    ("cluster", "port", "text"),
    [
        (Cluster(), 443, 'services "hook" not found'),
        (Cluster(SPEC), 443, 'no endpoints available for service "hook"'),
        (Cluster(SPEC, piece("192.0.2.1", ready=False)), 443, 'no endpoints available for service "hook"'),
        (Cluster(SPEC, piece("a.example", addressType="FQDN")), 443, 'no endpoints available for service "hook"'),
        (Cluster(SPEC, piece("192.0.2.1")), 444, 'no service port 444 found for service "hook"'),
    ],
)
def test_what_cannot_be_resolved(cluster: Cluster, port: int, text: str) -> None:
    with pytest.raises(ApiError) as raised:
        ServiceResolver(cluster).resolve("default", "hook", port)
    assert raised.value.message == text


def test_an_external_name_is_called_by_its_name() -> None:
    resolver = ServiceResolver(Cluster({"type": "ExternalName", "externalName": "hook.example.com"}))
    assert resolver.resolve("default", "hook", 8443) == Address("hook.example.com", 8443)


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (500, b"no", 'an error on the server ("no") has prevented the request from succeeding'),
        (404, b"", "the server could not find the requested resource"),
        (302, b"", "the server responded with the status code 302 but did not return more information"),
        (403, b'{"kind":"Status","message":"go away"}', "go away"),
    ],
)
def test_refusals_in_the_words_of_clients(status: int, body: bytes, text: str) -> None:
    assert refusal_text(status, body) == text


class Called:
    """A hook that answers and counts connections."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.hosts: list[str] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.connections.add(request.transport)
        self.hosts.append(request.headers["Host"])
        if request.path == "/slow":
            await asyncio.sleep(30)
        if request.path == "/elsewhere":
            raise web.HTTPFound("https://127.0.0.1:1/")
        return web.json_response({"path": request.path, "query": dict(request.query)})


async def test_calls_are_made_over_kept_connections(tmp_path: Path) -> None:
    authority, hook = Authority(tmp_path), Called()
    async with serving(hook, authority.server_context("hook.default.svc", "hook.default.svc", "127.0.0.1")) as port:
        cluster = Cluster(SPEC, piece("127.0.0.1", port=port))
        caller = HookCaller(cluster)
        config = {
            "caBundle": authority.bundle,
            "service": {"namespace": "default", "name": "hook", "path": "/a b", "port": 443},
        }
        try:
            for _ in range(3):
                assert await caller.call(config, {}, 28.5) == {"path": "/a b", "query": {"timeout": "29s"}}
            assert len(hook.connections) == 1
            assert hook.hosts[0] == "hook.default.svc"
            with pytest.raises(HookError) as raised:
                await caller.call({"url": f"https://127.0.0.1:{port}/slow", "caBundle": authority.bundle}, {}, 0.2)
            assert raised.value.timed_out
            assert raised.value.message == (
                f'Post "https://127.0.0.1:{port}/slow?timeout=1s": context deadline exceeded'
            )
            with pytest.raises(HookError) as raised:
                await caller.call({"url": f"https://127.0.0.1:{port}/elsewhere", "caBundle": authority.bundle}, {}, 30)
            assert raised.value.code == 302
            with pytest.raises(HookError, match="x509: certificate signed by unknown authority"):
                await caller.call({"url": f"https://127.0.0.1:{port}/"}, {}, 30)
            with pytest.raises(HookError, match="unable to parse bytes as PEM block"):
                await caller.call({"url": f"https://127.0.0.1:{port}/", "caBundle": "eA=="}, {}, 30)
        finally:
            await caller.aclose()
