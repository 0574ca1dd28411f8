"""The HTTP application: one handler for everything, routed by parsing the path against the resource table.

A request goes: credentials → user → target → permission → handler; whatever goes wrong on the way is an ApiError and
leaves as a Status.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import structlog
from aiohttp import web

from orca.api.errors import ApiError, internal, method_not_allowed, no_such_page
from orca.api.objects import Obj
from orca.api.resources import ResourceTable
from orca.client.clock import Clock
from orca.server.discovery import Discovery
from orca.server.health import Health, version_info
from orca.server.identifiers import new_uid
from orca.server.identity import Gate, verb_of
from orca.server.metrics import Metrics
from orca.server.negotiation import PLAIN, Form, negotiate
from orca.server.objects import ObjectHandlers, is_watch
from orca.server.openapi import OpenApi
from orca.server.paths import Target, parse_path
from orca.server.request import Request, parse_query
from orca.server.responses import error_response, value_response
from orca.server.splice import CONNECT_SUBRESOURCES, Splicer
from orca.server.verbs import Verbs

log = structlog.get_logger()
_TARGETS = 2048
"""Paths whose meaning is remembered."""
_READING = frozenset({"GET", "HEAD"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(slots=True)
class Parts:
    """What an application is made of."""

    table: ResourceTable
    verbs: Verbs
    gate: Gate
    health: Health
    discovery: Discovery
    openapi: OpenApi
    metrics: Metrics
    splicer: Splicer
    clock: Clock
    well_known: dict[str, Obj]  # path -> document: OpenID discovery of ServiceAccount tokens


class App:
    """Call it with a request; every exception but cancellation becomes an answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._objects = ObjectHandlers(parts.verbs, parts.clock)
        self._version = version_info()
        self._mutating = parts.metrics.inflight.labels("mutating")
        self._readonly = parts.metrics.inflight.labels("readOnly")
        self._targets: dict[str, Target] = {}
        parts.table.subscribe(lambda _what, _row: self._targets.clear())

    async def __call__(self, http: web.BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        path, _, query_text = http.raw_path.partition("?")
        target = self._target(path)
        audit_id = http.headers.get("Audit-ID") or new_uid()
        inflight = self._readonly if http.method in _READING else self._mutating
        inflight.inc()
        verb = http.method
        try:
            request = Request(
                http,
                http.method,
                target,
                parse_query(query_text),
                query_text,
                self._parts.gate.user(http),
                audit_id,
            )
            if target.is_object_path:
                verb = verb_of(http.method, target, watching=is_watch(request))
                response = await self._object(request, verb)
            else:
                response = await self._path(request)
        except ApiError as error:
            response = self._failed(http, error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("request failed", method=http.method, path=path, audit_id=audit_id)
            response = self._failed(http, internal("the server failed to handle the request; see its log"))
        finally:
            inflight.dec()
        if not response.prepared:
            response.headers["Audit-Id"] = audit_id
            response.headers.setdefault("Cache-Control", "no-cache, private")
        self._parts.metrics.observe(verb, target, response.status, time.perf_counter() - started)
        return response

    def _target(self, path: str) -> Target:
        """What a path means; clients ask for the same few over and over."""
        found = self._targets.get(path)
        if found is None:
            if len(self._targets) >= _TARGETS:
                self._targets.clear()
            found = self._targets[path] = parse_path(path, self._parts.table)
        return found

    def _failed(self, http: web.BaseRequest, error: ApiError) -> web.Response:
        try:
            form = Form(negotiate(http.headers.get("Accept", "")).media)
        except ApiError:
            form = PLAIN
        response = error_response(error, form)
        if error.code in (408, 413):
            response.force_close()  # the rest of the body is not worth reading
        return response

    async def _object(self, request: Request, verb: str) -> web.StreamResponse:
        target = request.target
        if request.method not in _METHODS:
            raise method_not_allowed()
        fields = request.query.get("fieldSelector", "") if request.query else ""
        connecting = target.subresource in CONNECT_SUBRESOURCES and target.resource is not None
        self._parts.gate.check_object(request.user, verb, target, fields)
        if target.resource is None:
            raise no_such_page()
        if request.method in ("HEAD", "OPTIONS") and not connecting:
            raise method_not_allowed()
        if not connecting:
            if verb != "watch":
                return await self._objects.handle(request, verb)
            running = self._parts.metrics.long_running.labels("WATCH")
        else:
            running = self._parts.metrics.long_running.labels("CONNECT")
        running.inc()
        try:
            if connecting:
                return await self._parts.splicer.connect(request)
            return await self._objects.handle(request, verb)
        finally:
            running.dec()

    async def _path(self, request: Request) -> web.StreamResponse:
        path = request.target.path.rstrip("/") or "/"
        parts = self._parts
        parts.gate.check_path(request.user, request.method, path)
        if request.method not in _READING:
            raise method_not_allowed()
        root = path.split("/")[1]
        headers = request.http.headers
        if root in ("healthz", "livez", "readyz"):
            return await parts.health.respond(path, request.query)
        if root in ("api", "apis"):
            return parts.discovery.respond(path, headers.get("Accept", ""), headers.get("If-None-Match", ""))
        if root == "openapi":
            return await parts.openapi.respond(path, request.query, headers)
        if path == "/version":
            return value_response(self._version, Form(request.form.media), pretty=True)
        if path in parts.well_known:
            return value_response(parts.well_known[path], PLAIN)
        if path == "/metrics":
            return parts.metrics.respond()
        if path == "/":
            return value_response({"paths": self._paths()}, Form(request.form.media), pretty=True)
        raise no_such_page()

    def _paths(self) -> list[str]:
        groups = self._parts.table.groups()
        found = ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        for group, versions in groups.items():
            root = f"/apis/{group}" if group else "/api"
            found += [root, *(f"{root}/{version}" for version in versions)]
        return sorted(set(found))
