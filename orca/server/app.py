"""The HTTP application: one handler for everything, routed by parsing the path against the resource table.

A request goes: credentials → user → target → permission → handler; whatever goes wrong on the way is an ApiError and
leaves as a Status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import structlog
from aiohttp import web

from orca.api.errors import (
    ApiError,
    bad_request,
    http_version_not_supported,
    internal,
    method_not_allowed,
    no_such_page,
)
from orca.api.objects import Obj
from orca.api.resources import ResourceTable
from orca.auth import Action, UserInfo
from orca.auth.identity import header_text
from orca.client.clock import Clock
from orca.server.aggregation import Aggregator
from orca.server.audit import Audit, Record
from orca.server.connection import TOLD, Connection, connection_of
from orca.server.deadlines import Deadlines
from orca.server.discovery import Discovery
from orca.server.fairness import Fairness, Flow
from orca.server.fairness.dumps import ROOT as DEBUG
from orca.server.fairness.dumps import dump
from orca.server.fairness.fairness import seats_of
from orca.server.fairness.inflight import InFlight
from orca.server.fairness.levels import Waiting
from orca.server.fairness.turns import Turns
from orca.server.forwarding import upgrades
from orca.server.health import PROBES, Health, version_info
from orca.server.identifiers import new_uid
from orca.server.identity import Gate, acts_as_another, object_action, path_action, verb_of
from orca.server.lists import WHOLE
from orca.server.metrics import Gauge, Metrics
from orca.server.metrics.registry import slis
from orca.server.negotiation import PLAIN, Form, negotiate
from orca.server.objects import ObjectHandlers, is_watch
from orca.server.openapi import OpenApi
from orca.server.paths import Target, parse_path, served_at
from orca.server.refusals import Refused, Undecided
from orca.server.request import Request, parse_query
from orca.server.responses import ANSWERING, error_response, value_response, warning_header
from orca.server.shortcut import Shortcut
from orca.server.splice import CONNECT_SUBRESOURCES, Splicer
from orca.server.verbs import Verbs
from orca.server.zpages import ZPages

log = structlog.get_logger()
_TARGETS = 2048
"""Paths whose meaning is remembered."""
_LONGEST = 1024
"""Characters of such a path. Anybody can make up longer ones, and none of them is asked for again."""
_READING = frozenset({"GET", "HEAD"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WIDE = frozenset({"list", "watch", "deletecollection"})
"""Verbs that are about many objects: their answers may begin before they are whole."""
_HARMLESS = frozenset({"get", "list", "watch"})
PAGES = ("/configz", "/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version")
"""What can be read about the server itself."""
ANYBODY = UserInfo("")
"""Before it is known who asks."""


def _told(audit_id: str, flow: Flow | None) -> dict[str, str]:
    """Headers by which an answer can be found in the audit log, and why it waited."""
    if flow is None:
        return {"Audit-Id": audit_id}
    return {
        "Audit-Id": audit_id,
        "X-Kubernetes-PF-FlowSchema-UID": flow.schema.uid,
        "X-Kubernetes-PF-PriorityLevel-UID": flow.level.uid,
    }


def _plain(path: str) -> str:
    return path.rstrip("/") or "/"


@dataclass(slots=True, eq=False)
class Served:
    """What one request holds while it is served."""

    started: float
    inflight: Gauge
    verb: str
    flow: Flow | None = None
    seats: int = 0
    waiting: Waiting | None = None
    entered: float = 0.0
    known: bool = False
    """Whether it was found out who sent it."""
    record: Record | None = None
    streaming: bool = False

    def free(self, fairness: Fairness | None) -> None:
        """Give back the seats; again is harmless."""
        if self.seats and fairness is not None and self.flow is not None:
            began = self.entered or self.started
            fairness.leave(self.flow, self.seats, self.waiting, began, watch=self.verb == "watch")
            self.seats = 0

    def stream(self, deadlines: Deadlines, connection: Connection) -> None:
        """From here on it looks after its connection itself and lasts as long as it likes."""
        task = asyncio.current_task()
        assert task is not None
        deadlines.release(task)
        connection.forget_loss(self)
        if not self.streaming:
            self.streaming = True
            self.inflight.dec()


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
    aggregator: Aggregator
    clock: Clock
    well_known: dict[str, Obj]  # path -> document: OpenID discovery of ServiceAccount tokens
    configz: Mapping[str, Obj]  # component -> its configuration, for whoever may read /configz
    zpages: ZPages
    deadlines: Deadlines
    fairness: Fairness | None = None
    in_flight: InFlight = field(default_factory=lambda: InFlight(0, 0))  # what limits requests without fairness
    audit: Audit | None = None
    watch_seconds: int = 1800


class App:
    """Call it with a request; every exception but cancellation becomes an answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._objects = ObjectHandlers(parts.verbs, parts.clock, parts.metrics, parts.watch_seconds, parts.gate)
        self._version = version_info()
        self._mutating = parts.metrics.mutating
        self._readonly = parts.metrics.reading
        self._deadlines = parts.deadlines
        self._fairness = parts.fairness
        self._in_flight = parts.in_flight
        self._lane = (parts.fairness.turns if parts.fairness is not None else Turns()).lane("")
        self._audit = parts.audit
        self._targets: dict[str, Target] = {}
        parts.table.subscribe(lambda _what, _row: self._targets.clear())
        self.shortcut = Shortcut(parts, self._targets)

    async def __call__(self, http: web.BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        path, _, query_text = http.raw_path.partition("?")
        target = self._target(path)
        audit_id = header_text(http.headers.get("Audit-ID") or "") or new_uid()
        inflight = self._readonly if http.method in _READING else self._mutating
        inflight.inc()
        served = Served(started, inflight, http.method)
        task = asyncio.current_task()
        assert task is not None
        connection = connection_of(http)
        response: web.StreamResponse | None = None
        try:
            if http.version.major != 1:  # the parser takes any, also for a request that names none
                raise http_version_not_supported()
            query = parse_query(query_text)
            request = Request(http, http.method, target, query, query_text, ANYBODY, audit_id, lane=self._lane)
            response = await self._serve(request, served, task, connection)
        except ApiError as error:
            if not served.known and self._audit is not None and error.code == 401:
                await self._audit.strangers(http, target, served.verb.lower(), audit_id, error)
            response = self._refused(http, error, served)
        except asyncio.CancelledError:
            if not self._deadlines.expired(task):
                self._parts.metrics.aborted(served.verb, target)
                raise
            task.uncancel()
            if http.get(ANSWERING):
                connection.force_close()  # half an answer is out: only its end can tell that it is none
                raise
            response = self._refused(http, self._deadlines.error, served)
        except ConnectionError:
            raise
        except RecursionError:
            response = self._refused(http, bad_request("the request, or what it asks for, is nested too deep"), served)
        except Exception:
            log.exception("request failed", method=http.method, path=path, audit_id=audit_id)
            if served.record is not None:
                served.record.panicked()
                served.record = None
            response = self._failed(http, internal("the server failed to handle the request; see its log"))
        finally:
            if not served.streaming:
                inflight.dec()
            self._deadlines.leave(task)
            if served.verb != "get":
                connection.forget_loss(served)
            served.free(self._fairness)
            if response is None and served.record is not None:
                served.record.cut()  # whatever it was that ended it: what it has done may be stored
        body = http.content
        if connection.ending or (not body.is_eof() and (body.exception() is not None or "Expect" in http.headers)):
            # Who asked first and was refused sends no body, and what comes next could be taken for it.
            response.force_close()
        self._finish(response, served, target, audit_id)
        return response

    async def _serve(
        self, request: Request, served: Served, task: asyncio.Task[Any], connection: Connection
    ) -> web.StreamResponse:
        """Who asks, when it is its turn, and the answer. Raises ApiError."""
        http, target = request.http, request.target
        verb = request.method
        if target.is_object_path:
            verb = served.verb = verb_of(request.method, target, watching=is_watch(request))
        self._deadlines.enter(task, served.started)
        if verb != "get":
            # When nobody is left to answer, it need not wait any longer; to get one object it does not wait at all.
            connection.watch_loss(served, task.cancel)
        gate, audit = self._parts.gate, self._audit
        try:
            user = request.user = await gate.user(http)
        except ApiError:
            await request.lane.turn()  # strangers take no seats, but they ask again as soon as they are answered
            raise
        served.known = True
        if audit is not None:
            # Before anybody acts as another: what is logged does not depend on whom they want to be.
            notes = gate.notes(http.headers)
            served.record = await audit.begin(http, target, verb.lower(), request.audit_id, user, notes)
            request.record = served.record
        if acts_as_another(http.headers):
            acting = await gate.acting(user, http.headers, lambda: self._asked(request, verb))
            if acting is not None:
                request.user = acting.user
                if served.record is not None:
                    served.record.acts_as(acting)
        if target.subresource in CONNECT_SUBRESOURCES and target.resource is not None:
            served.stream(self._deadlines, connection)
        else:
            if request.query and "timeout" in request.query and verb != "watch":
                self._deadlines.shorten(task, request.query)
            await self._admit(request, served)
        if verb in _WIDE or target.subresource or target.resource is None:
            http[TOLD] = _told(request.audit_id, served.flow)
        if verb not in _HARMLESS:
            request.stored = lambda: self._stored(served, task, connection)
        if self._lasts(request, verb):
            request.begun = lambda: self._begun(served, connection)
            if served.record is not None:
                served.record.lasts = True
        if target.is_object_path:
            return await self._object(request, verb)
        return await self._path(request)

    def _lasts(self, request: Request, verb: str) -> bool:
        """Whether the answer may take as long as it likes: of another server's paths also what is below such a
        subresource, and whatever becomes a stream of both sides."""
        target = request.target
        if verb == "watch" or target.subresource.partition("/")[0] in CONNECT_SUBRESOURCES:
            return True
        elsewhere = target.group and self._parts.aggregator.remote(target.group, target.version) is not None
        return bool(elsewhere) and upgrades(request.http.headers)

    def _finish(self, response: web.StreamResponse, served: Served, target: Target, audit_id: str) -> None:
        """Headers that every answer has, the audit record, and the metrics."""
        if not response.prepared:
            headers = response.headers
            headers.update(_told(audit_id, served.flow))
            if "Cache-Control" not in headers:
                headers["Cache-Control"] = "no-cache, private"
            if target.resource is not None and target.resource.warning:
                headers.add("Warning", warning_header(target.resource.warning))
        if served.record is not None:
            served.record.end(response)
        elapsed = time.perf_counter() - served.started
        self._parts.metrics.observe(served.verb, target, response.status, elapsed, response)

    def _asked(self, request: Request, verb: str) -> Action:
        """What the authorizers will be asked about the request itself."""
        target = request.target
        if not target.is_object_path:
            return path_action(request.method, _plain(target.path))
        if target.group and self._parts.aggregator.remote(target.group, target.version) is not None:
            if "%" in target.path:
                target = parse_path(unquote(target.path), self._parts.table)
            target = replace(target, subresource=target.subresource.split("/")[0])  # as in _aggregated
        fields, labels = request.query.get("fieldSelector", ""), request.query.get("labelSelector", "")
        return object_action(verb, target, fields, labels)

    async def _admit(self, request: Request, served: Served) -> None:
        """A seat, at once or after waiting for it. Raises ApiError 429."""
        fairness = self._fairness
        if fairness is None:
            self._in_flight.check(request.user, request.method not in _READING, served.inflight.value)
            return
        target = request.target
        flow = served.flow = fairness.classify(request.user, served.verb, target)
        seats = 1
        if served.verb in _WIDE and target.resource is not None and not target.resource.virtual:
            space = target.namespace if target.resource.namespaced else ""
            seats = seats_of(self._parts.verbs.core.store.count(target.resource, space), request.query)
        request.lane = fairness.lane(flow)
        if fairness.enter(flow, seats, served.started):
            served.seats = seats
            return
        served.waiting = await fairness.wait(flow, seats)
        served.seats = seats
        served.entered = time.perf_counter()

    def _begun(self, served: Served, connection: Connection) -> None:
        """A watch has sent its head, or another server has it: its seat is free, and it may last."""
        served.free(self._fairness)
        served.stream(self._deadlines, connection)

    @contextmanager
    def _stored(self, served: Served, task: asyncio.Task[Any], connection: Connection) -> Iterator[None]:
        connection.forget_loss(served)
        try:
            with self._deadlines.held(task):
                yield
        finally:
            connection.watch_loss(served, task.cancel)

    def _refused(self, http: web.BaseRequest, error: ApiError, served: Served) -> web.Response:
        if served.record is not None:
            if isinstance(error, Refused):
                served.record.authorized("forbid", error.why)
            elif isinstance(error, Undecided):
                served.record.undecided()
            served.record.take_error(error)
        return self._failed(http, error)

    def _target(self, path: str) -> Target:
        """What a path means; clients ask for the same few over and over."""
        found = self._targets.get(path)
        if found is None:
            found = parse_path(path, self._parts.table)
            if len(path) <= _LONGEST:
                if len(self._targets) >= _TARGETS:
                    self._targets.clear()
                self._targets[path] = found
        return found

    def _failed(self, http: web.BaseRequest, error: ApiError) -> web.Response:
        if http.get(ANSWERING) or http.writer.output_size:
            connection_of(http).force_close()  # half an answer is out: only its end can tell that it is none
            raise ConnectionResetError(f"the answer had begun: {error.message}")
        try:
            form = Form(negotiate(http.headers.get("Accept", "")).media)
        except ApiError:
            form = PLAIN
        response = error_response(error, form)
        if error.code in (408, 413, 505):
            response.force_close()  # the rest of what was sent is not worth reading
        return response

    async def _object(self, request: Request, verb: str) -> web.StreamResponse:
        target = request.target
        if request.method not in _METHODS:
            raise method_not_allowed()
        fields = request.query.get("fieldSelector", "") if request.query else ""
        labels = request.query.get("labelSelector", "") if request.query else ""
        elsewhere = self._parts.aggregator.remote(target.group, target.version) if target.group else None
        if elsewhere is not None:
            return await self._aggregated(request, verb, elsewhere, fields)
        connecting = target.subresource in CONNECT_SUBRESOURCES and target.resource is not None
        why = await self._parts.gate.check_object(request.user, verb, target, fields, labels)
        if request.record is not None:
            request.record.authorized("allow", why)
        if target.resource is None:
            # The definition of its kind may have been stored a moment ago, through another server.
            await self._parts.verbs.core.store.fresh()
            target.resource = served_at(target, self._parts.table)
            if target.resource is None:
                raise no_such_page()
        if request.method in ("HEAD", "OPTIONS") and not connecting:
            raise method_not_allowed()
        if not connecting and verb != "watch":
            return await self._objects.handle(request, verb)
        self._parts.metrics.running(verb, target)
        try:
            if connecting:
                return await self._parts.splicer.connect(request)
            return await self._objects.handle(request, verb)
        finally:
            self._parts.metrics.ended(verb, target)

    async def _aggregated(self, request: Request, verb: str, service: Obj, fields: str) -> web.StreamResponse:
        """Another server has the group version; who may do what there is decided here first."""
        target = request.target
        if "%" in target.path:
            # The other server may decode before it splits, as upstream's do: then %2F begins another segment.
            target = parse_path(unquote(target.path), self._parts.table)
            if self._parts.aggregator.remote(target.group, target.version) is not service:
                raise no_such_page()
        # Whatever follows the subresource is the other server's business.
        seen = replace(target, subresource=target.subresource.split("/")[0])
        why = await self._parts.gate.check_object(request.user, verb, seen, fields)
        if request.record is not None:
            request.record.authorized("allow", why)
        if request.begun is None:
            return await self._parts.aggregator.proxy(request, service)
        request.begun()
        self._parts.metrics.running(verb, seen)
        try:
            return await self._parts.aggregator.proxy(request, service)
        finally:
            self._parts.metrics.ended(verb, seen)

    async def _path(self, request: Request) -> web.StreamResponse:
        path = _plain(request.target.path)
        parts = self._parts
        why = await parts.gate.check_path(request.user, request.method, path)
        if request.record is not None:
            request.record.authorized("allow", why)
        target = request.target
        elsewhere = parts.aggregator.remote(target.group, target.version) if target.group else None
        if elsewhere is not None:
            if path != f"/apis/{target.group}/{target.version}":
                raise no_such_page()  # "//pods": no resource to us, but perhaps to the other server
            return await parts.aggregator.proxy(request, elsewhere)
        if request.method not in _READING:
            raise method_not_allowed()
        root = path.split("/")[1]
        headers = request.http.headers
        if root in PROBES:
            return await parts.health.respond(path, request.query)
        if root in ("api", "apis"):
            return parts.discovery.respond(path, headers.get("Accept", ""), headers.get("If-None-Match", ""))
        if root == "openapi":
            document = await parts.openapi.respond(path, request.query, headers, request.lane)
            if isinstance(document.body, bytes) and len(document.body) > WHOLE:
                await request.lane.turn()  # threads may have made many of them by now
            return document
        if path == "/version":
            return value_response(self._version, Form(request.form.media), pretty=True)
        if path in parts.well_known:
            response = value_response(parts.well_known[path], PLAIN)
            response.headers["Cache-Control"] = "public, max-age=3600"
            if path.endswith("/jwks"):
                response.headers["Content-Type"] = "application/jwk-set+json"
            return response
        if path == "/configz":
            return value_response(dict(parts.configz), Form(request.form.media), pretty=True)
        if path == "/metrics":
            return await parts.metrics.respond()
        if path == "/metrics/slis":
            return await slis(parts.health)
        page = parts.zpages.respond(path, headers.get("Accept", ""))
        if page is not None:
            return page
        if path.startswith(DEBUG) and parts.fairness is not None:
            text = dump(parts.fairness, path[len(DEBUG) :])
            if text is not None:
                return web.Response(text=text)
        if path == "/":
            return value_response({"paths": self._paths()}, Form(request.form.media), pretty=True)
        raise no_such_page()

    def _paths(self) -> list[str]:
        groups = self._parts.aggregator.groups(self._parts.table.groups())
        found = ["/api", "/apis", *PAGES, "/openapi/v2", "/openapi/v3"]
        found += [f"/{probe}/{name}" for probe in PROBES for name in self._parts.health.names(probe)]
        for group, versions in groups.items():
            root = f"/apis/{group}" if group else "/api"
            found += [root, *(f"{root}/{version}" for version in versions)]
        return sorted(set(found))
