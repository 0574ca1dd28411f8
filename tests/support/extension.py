"""A small extension API server, as metrics-server is one: discovery, two resources, a watch, an echo that upgrades."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import WSMsgType, web

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
ROOT = f"/apis/{GROUP}/{VERSION}"


def _resource(name: str, kind: str, *, namespaced: bool, verbs: tuple[str, ...] = ("get", "list")) -> dict[str, Any]:
    return {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": list(verbs)}


_LIST = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [
        _resource("nodes", "NodeMetrics", namespaced=False),
        _resource("pods", "PodMetrics", namespaced=True, verbs=("get", "list", "watch", "create")),
        _resource("pods/echo", "PodMetrics", namespaced=True, verbs=("get",)),
    ],
}
_DEFINITION = "io.k8s.metrics.v1beta1.NodeMetrics"
_SCHEMA = {
    "type": "object",
    "description": "What a node uses.",
    "properties": {"window": {"type": "string", "description": "How long it was measured."}},
    "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": "NodeMetrics"}],
}


def _get(reference: str) -> dict[str, Any]:
    answer = {"200": {"description": "OK", "schema": {"$ref": reference}}}
    action = {
        "x-kubernetes-action": "get",
        "x-kubernetes-group-version-kind": _SCHEMA["x-kubernetes-group-version-kind"][0],
    }  # type: ignore[index]
    return {"get": {"responses": answer, **action}}


def node_metrics(name: str) -> dict[str, Any]:
    return {
        "kind": "NodeMetrics",
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "timestamp": "2026-01-01T00:00:00Z",
        "window": "20s",
        "usage": {"cpu": "156340393n", "memory": "1024Mi"},
    }


@dataclass
class Extension:
    """``seen`` are (method, path, headers) of all requests but discovery; ``broken`` answers 500 to everything."""

    seen: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)
    broken: bool = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.broken:
            return web.Response(status=500, text="out of order")
        path = request.path
        if path == ROOT:
            return web.json_response(_LIST)
        if path == "/openapi/v2":
            paths = {f"{ROOT}/nodes/{{name}}": _get(f"#/definitions/{_DEFINITION}"), "/apis/other/v1/": _get("#/x")}
            definitions = {_DEFINITION: _SCHEMA, "io.k8s.api.core.v1.Pod": {"type": "string"}}
            return web.json_response({"swagger": "2.0", "info": {}, "paths": paths, "definitions": definitions})
        if path == "/openapi/v3":
            return web.json_response({"paths": {ROOT[1:]: {"serverRelativeURL": f"/openapi/v3{ROOT}?hash=ABC"}}})
        if path == f"/openapi/v3{ROOT}":
            return web.json_response(
                {"openapi": "3.0.0", "paths": {}, "components": {"schemas": {_DEFINITION: _SCHEMA}}}
            )
        self.seen.append((request.method, request.raw_path, _headers(request)))
        tail = path[len(ROOT) :].strip("/").split("/")
        if tail == ["nodes"]:
            listed = {"kind": "NodeMetricsList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}}
            return web.json_response({**listed, "items": [node_metrics("one"), node_metrics("two")]})
        if tail[0] == "nodes" and len(tail) == 2:
            return web.json_response(node_metrics(tail[1]))
        if tail[-1] == "stalled":
            return await self._stall(request)
        if tail[-1] == "echo":
            return await self._echo(request)
        if request.query.get("watch"):
            return await self._watch(request)
        if request.method == "POST":
            return web.Response(status=201, body=await request.read(), content_type="application/json")
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}, status=404)

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for number in range(3):
            event = {"type": "ADDED", "object": node_metrics(str(number))}
            await response.write(orjson.dumps(event) + b"\n")
            await asyncio.sleep(0.05)
        return response

    async def _stall(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"half":')
        await asyncio.Event().wait()
        return response

    async def _echo(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await socket.send_str(message.data[::-1])
        return socket


def _headers(request: web.BaseRequest) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in request.headers.items():
        found.setdefault(key.lower(), []).append(value)
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    names = [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"]
    return found | {"(client certificate)": names}
