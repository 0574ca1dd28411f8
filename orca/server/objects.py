"""HTTP for the verbs: one set of handlers for every row of the resource table."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

from aiohttp import web
from aiohttp.http_writer import HttpVersion11

from orca.api.builtin import SCALE
from orca.api.errors import ApiError, bad_request, method_not_allowed, no_such_page, not_found, unsupported_media_type
from orca.api.fields import manager_of
from orca.api.objects import Obj
from orca.api.resources import Resource, Subresource
from orca.client.clock import Clock
from orca.server import bodies, patch_media, protobuf
from orca.server.audit import Record
from orca.server.crowd import Crowd
from orca.server.fairness.portions import portions
from orca.server.identity import Gate
from orca.server.lists import WHOLE, Body, ListBody, send_packed, send_pieces
from orca.server.metrics import Metrics
from orca.server.negotiation import JSON, Form
from orca.server.options import DeleteOptions, ListOptions, WriteOptions, flag
from orca.server.representation import check_include, transform
from orca.server.request import Request
from orca.server.responses import (
    PIECES_FROM,
    encoded_response,
    json_response,
    pack,
    value_response,
    warning_headers,
)
from orca.server.slices import encoded_list
from orca.server.verbs import Call, Verbs
from orca.server.verbs.core import HEAVY
from orca.server.verbs.serving import AnyWatch, Expired
from orca.server.watching import serve_watch
from orca.store import Entry, Page

DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
# What Scales are printed as; they are no resource of their own.
_SCALES = Resource(
    group=SCALE.group,
    version=SCALE.version,
    plural="scales",
    singular="scale",
    kind=SCALE.kind,
    namespaced=True,
    definition=SCALE.definition,
    storage="",
    virtual=True,
)
_OPTION_KINDS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}


class ObjectHandlers:
    """Answers requests whose target is a resource."""

    def __init__(self, verbs: Verbs, clock: Clock, metrics: Metrics, watch_seconds: int, gate: Gate) -> None:
        self._verbs = verbs
        self._gate = gate
        self._clock = clock
        self._metrics = metrics
        self._crowd = Crowd()
        self._watch_seconds = watch_seconds  # --min-request-timeout

    async def handle(self, request: Request, verb: str) -> web.StreamResponse:
        """``verb`` is Kubernetes' (get, list, watch, create, …). Raises ApiError."""
        target = request.target
        resource = target.resource
        assert resource is not None
        if target.subresource:
            sub = resource.subresource(target.subresource)
            if sub is None:
                raise not_found(resource, target.name) if resource.custom else no_such_page()
            if verb not in sub.verbs:
                raise method_not_allowed()
            return await self._subresource(request, resource, sub, verb)
        needs_name = verb in ("update", "patch")
        if verb not in resource.verbs or (needs_name and not target.name) or (verb == "create" and target.name):
            raise method_not_allowed()
        if resource.namespaced and not target.within and verb not in ("list", "watch"):
            # Of all namespaces together one can only be told.
            raise no_such_page() if resource.custom else method_not_allowed()
        match verb:
            case "get":
                return await self._get(request, resource)
            case "list":
                return await self._list(request, resource)
            case "watch":
                return await self._watch(request, resource)
            case "create":
                return await self._create(request, resource)
            case "update":
                return await self._update(request, resource)
            case "patch":
                return await self._patch(request, resource)
            case "delete":
                return await self._delete(request, resource)
            case _:
                return await self._delete_collection(request, resource)

    # -- reading

    async def _get(self, request: Request, resource: Resource) -> web.Response:
        target = request.target
        form = request.form
        entry = await self._verbs.get(
            resource, target.name, target.namespace, resource_version=request.query.get("resourceVersion", "")
        )
        return await self._entry(request, resource, entry, form=form)

    async def _entry(
        self, request: Request, resource: Resource, entry: Entry, *, status: int = 200, form: Form | None = None
    ) -> web.Response:
        form = form or request.form
        plain = form.plain_json and not request.pretty
        if plain and entry.size <= HEAVY:
            return json_response(entry.raw, status)
        with request.stored():
            if entry.size > HEAVY:
                await request.lane.turn()
            if not plain:
                response = self._value(request, resource, entry.obj, form, status)
            else:
                raw = entry.raw
                if request.record is not None:
                    request.record.take_object(raw)
                response = json_response(raw, status)
            return await pack(response, request.accept_encoding, request.lane)

    def _value(self, request: Request, resource: Resource, obj: Obj, form: Form, status: int = 200) -> web.Response:
        if form.kind:
            include = check_include(request.query.get("includeObject", ""))
            obj = transform(resource, obj, form, include, self._clock.now())
        return self._made(request, obj, form, status)

    def _made(self, request: Request, value: Obj | None, form: Form, status: int = 200) -> web.Response:
        if request.record is not None:
            request.record.take_value(value)
        return value_response(value, form, status=status, pretty=request.pretty)

    async def _list(self, request: Request, resource: Resource) -> web.StreamResponse:
        form = request.form
        options = self._list_options(request)
        page = await self._verbs.list(resource, _space(request), options, request.lane)
        return await self._sent(request, resource, page, form)

    async def _listed(
        self, request: Request, resource: Resource, page: Page, form: Form, now: datetime, *, pretty: bool
    ) -> Body:
        """The body of a list. Raises ApiError 406."""
        if form.plain_json and not pretty:
            return _plain(resource, page)
        metadata: Obj = {"resourceVersion": str(page.revision)}
        if page.continue_:
            metadata["continue"] = page.continue_
            if page.remaining is not None:
                metadata["remainingItemCount"] = page.remaining
        include = check_include(request.query.get("includeObject", ""))
        return await encoded_list(resource, page.entries, form, include, now, metadata, request.lane, pretty=pretty)

    async def _sent(
        self, request: Request, resource: Resource, page: Page, form: Form, call: Call | None = None
    ) -> web.StreamResponse:
        """A list; in pieces where it is long, and ``call`` warns of nothing."""
        packed = "gzip" in request.accept_encoding
        with nullcontext() if call is not None and call.dry_run else request.stored():
            now, pretty = self._clock.now(), request.pretty
            body = await self._listed(request, resource, page, form, now, pretty=pretty)
            record = request.record
            if record is not None and record.shows_answer:
                await request.lane.turn()
                if form.media != JSON or pretty or record.omits_managers:
                    record.take_json(await self._shown(request, record, resource, page, form, now))
                else:
                    record.take_json(body.whole())
            warned = call is not None and bool(call.options.warnings)
            long = body.size > WHOLE
            if packed:
                long = body.size >= PIECES_FROM and request.http.version >= HttpVersion11
            if warned or not long:
                answer = await pack(encoded_response(body.whole(), form), request.accept_encoding, request.lane)
                return self._warned(answer, call) if call is not None else answer
        request.answering(200)
        send = send_packed if packed else send_pieces
        return await send(request.http, body, form.media, request.audit_id, request.lane, resource.warning)

    async def _shown(
        self, request: Request, record: Record, resource: Resource, page: Page, form: Form, now: datetime
    ) -> bytes:
        """What is logged of a list that does not leave as it is logged: made of the objects, in turns. To take the
        answer apart again would stop the loop for seconds."""
        if not form.kind:
            body = _plain(resource, page)
            return await body.changed(record.cleaned, request.lane) if record.omits_managers else body.whole()
        if record.omits_managers:
            entries = []
            for some in portions(page.entries):
                await request.lane.turn()
                entries += [
                    Entry(entry.namespace, entry.name, entry.revision, record.cleaned(entry.obj), b"{}")
                    for entry in some
                ]
            page = replace(page, entries=entries)
        made = await self._listed(request, resource, page, Form(JSON, form.kind, form.version), now, pretty=False)
        return made.whole()

    async def _watch(self, request: Request, resource: Resource) -> web.StreamResponse:
        options = self._list_options(request)
        # As upstream, the state that a watch begins with comes in no Tables: a client that wants it as one gets what it
        # would take instead, or 406.
        form = request.form_without_tables if options.send_initial_events and options.bookmarks else request.form
        include = check_include(request.query.get("includeObject", "")) if form.kind else ""
        events: AnyWatch
        try:
            events = await self._verbs.watch(resource, _space(request), options)
        except ApiError as error:
            if error.code not in (410, 504):
                raise
            events = Expired(error)
        if not options.timeout_seconds or options.timeout_seconds < 0:
            # Up to twice as long, so that those who came together do not come again together.
            options.timeout_seconds = self._watch_seconds + random.randrange(self._watch_seconds or 1)
        counts = self._metrics.watch_counts(resource)
        return await serve_watch(request, resource, events, options, form, include, self._clock, counts, self._crowd)

    def _list_options(self, request: Request) -> ListOptions:
        options = ListOptions.from_query(request.query)
        if request.target.name:  # /api/v1/watch/... and ?watch=1 on one object
            options.fields = f"metadata.name={request.target.name}"
        return options

    # -- writing

    def _call(self, request: Request) -> Call:
        options = WriteOptions.from_query(request.query, _OPTION_KINDS.get(request.method, ""))
        call = Call(
            request.user, options, manager=manager_of("", request.http.headers.get("User-Agent", "")), lane=request.lane
        )
        if request.method in ("PUT", "PATCH"):
            call.authorize_create = lambda: self._gate.check_object(request.user, "create", request.target)
        if request.record is not None:
            call.audit_annotations = request.record.annotations
        return call

    def _delete_call(self, request: Request, options: DeleteOptions) -> Call:
        call = Call(request.user, lane=request.lane)
        call.options.dry_run = options.dry_run
        if request.record is not None:
            call.audit_annotations = request.record.annotations
        return call

    async def _read(self, request: Request, call: Call) -> bytes:
        """The body. Those of many clients may have arrived at once; they are not all worked on at once."""
        raw = await bodies.read_body(request.http, request.lane)
        call.concerns(len(raw))
        await call.between()
        return raw

    async def _body(self, request: Request, call: Call, kind: str, definition: str) -> tuple[Obj, list[str]]:
        """The body as an object, and texts about its duplicate fields."""
        media = bodies.media_of(request.http)
        if media == protobuf.MEDIA:
            obj = protobuf.decode_body(await self._read(request, call), definition)
            if request.record is not None:
                request.record.take_request(obj)
            return obj, []
        if media != bodies.JSON_MEDIA and media not in bodies.YAML_MEDIA:
            raise unsupported_media_type(bodies.OBJECT_MEDIA)
        raw = await self._read(request, call)
        strict = request.query.get("fieldValidation") != "Ignore"

        def parse() -> tuple[Obj, list[str]]:
            obj = bodies.decode_object(raw, media, kind)
            return obj, bodies.duplicate_fields(raw, media, obj) if strict else []

        obj, duplicates = await bodies.apart(raw, media, parse)
        if request.record is not None:
            request.record.take_request(obj)
        return obj, duplicates

    def _warned(self, response: web.Response, call: Call) -> web.Response:
        if call.options.warnings:
            for header in warning_headers(call.options.warnings):
                response.headers.add("Warning", header)
        return response

    async def _create(self, request: Request, resource: Resource) -> web.Response:
        form = request.form if not resource.virtual else request.form_without_tables
        call = self._call(request)
        obj, duplicates = await self._body(request, call, resource.kind, resource.definition)
        if resource.virtual:
            made = await self._verbs.create_virtual(call, resource, request.target.namespace, obj, duplicates)
            return self._warned(self._made(request, made, form, 201), call)
        entry = await self._verbs.create(call, resource, request.target.namespace, obj, duplicates)
        return self._warned(await self._entry(request, resource, entry, status=201, form=form), call)

    async def _update(self, request: Request, resource: Resource, subresource: str = "") -> web.Response:
        form = request.form
        call = self._call(request)
        target = request.target
        obj, duplicates = await self._body(request, call, resource.kind, resource.definition)
        written = await self._verbs.update(
            call, resource, target.name, target.namespace, obj, duplicates, subresource=subresource
        )
        status = 201 if written.created else 200
        return self._warned(await self._entry(request, resource, written.entry, status=status, form=form), call)

    async def _patch_body(self, request: Request, call: Call) -> tuple[Any, str, list[str]]:
        """The patch, its media type, and texts about what is repeated in it or means nothing there."""
        media = bodies.media_of(request.http)
        if media not in patch_media.ACCEPTED:
            raise unsupported_media_type(patch_media.ACCEPTED)
        raw = await self._read(request, call)
        strict = request.query.get("fieldValidation") != "Ignore"

        def configuration() -> tuple[Any, list[str]]:
            obj, form = bodies.decode_configuration(raw)
            return obj, bodies.repeated_keys(raw, form, obj) if strict else []

        def patch() -> tuple[Any, list[str]]:
            obj = bodies.decode(raw, bodies.JSON_MEDIA)
            return obj, bodies.patch_problems(raw, obj) if strict else []

        applies = media == patch_media.APPLY_PATCH
        body, duplicates = await bodies.apart(raw, media, configuration if applies else patch)
        if request.record is not None:
            request.record.take_request(body)
        return body, media, duplicates

    async def _patch(self, request: Request, resource: Resource, subresource: str = "") -> web.Response:
        form = request.form
        call = self._call(request)
        target = request.target
        body, media, duplicates = await self._patch_body(request, call)
        if media == patch_media.APPLY_PATCH:
            written = await self._verbs.apply(
                call, resource, target.name, target.namespace, body, duplicates, subresource=subresource
            )
            status = 201 if written.created else 200
            return self._warned(await self._entry(request, resource, written.entry, status=status, form=form), call)
        entry = await self._verbs.patch(
            call, resource, target.name, target.namespace, body, media, duplicates, subresource=subresource
        )
        return self._warned(await self._entry(request, resource, entry, form=form), call)

    async def _delete_options(self, request: Request) -> DeleteOptions:
        raw = await bodies.read_body(request.http)
        if not raw.strip():
            return DeleteOptions.from_query(request.query)
        media = bodies.media_of(request.http)
        if media == protobuf.MEDIA:
            body = protobuf.decode_body(raw, DELETE_OPTIONS)
        else:
            body = bodies.decode_object(raw, media, "DeleteOptions")
        if request.record is not None:
            request.record.take_request(body)
        options = DeleteOptions.from_body(body)
        if request.query.get("dryRun"):
            options.dry_run = options.dry_run or DeleteOptions.from_query(request.query).dry_run
        return options

    async def _delete(self, request: Request, resource: Resource) -> web.Response:
        form = request.form
        target = request.target
        options = await self._delete_options(request)
        call = self._delete_call(request, options)
        deleted = await self._verbs.delete(call, resource, target.name, target.namespace, options)
        accepted = not deleted.gone and options.orphan_dependents is False
        status = 202 if accepted else 200
        if deleted.entry is not None:
            return self._warned(await self._entry(request, resource, deleted.entry, status=status, form=form), call)
        return self._warned(self._made(request, deleted.status, Form(form.media), status), call)

    async def _delete_collection(self, request: Request, resource: Resource) -> web.StreamResponse:
        form = request.form
        selection = self._list_options(request)
        options = await self._delete_options(request)
        call = self._delete_call(request, options)
        page = await self._verbs.delete_collection(call, resource, _space(request), selection, options)
        return await self._sent(request, resource, Page(page.entries, page.revision), form, call)

    # -- subresources

    async def _subresource(
        self, request: Request, resource: Resource, sub: Subresource, verb: str
    ) -> web.StreamResponse:
        target = request.target
        if sub.name == "scale":
            return await self._scale(request, resource, verb)
        if verb == "create":
            return await self._create_sub(request, resource, sub)
        if verb == "get":
            return await self._get(request, resource)
        if verb == "update":
            return await self._update(request, resource, sub.name)
        if verb == "patch":
            return await self._patch(request, resource, sub.name)
        raise ApiError(405, "MethodNotAllowed", f"{verb} of {target.subresource} is not served")

    async def _scale(self, request: Request, resource: Resource, verb: str) -> web.Response:
        form, target = request.form, request.target
        call = self._call(request)
        if verb == "get":
            scale = await self._verbs.get_scale(resource, target.name, target.namespace)
        elif verb == "update":
            obj, duplicates = await self._body(request, call, "Scale", SCALE.definition)
            scale = await self._verbs.update_scale(call, resource, target.name, target.namespace, obj, duplicates)
        else:
            body, media, duplicates = await self._patch_body(request, call)
            apply = media == patch_media.APPLY_PATCH
            scale = (
                await self._verbs.apply_scale(call, resource, target.name, target.namespace, body, duplicates)
                if apply
                else await self._verbs.patch_scale(
                    call, resource, target.name, target.namespace, body, media, duplicates
                )
            )
        return self._warned(self._value(request, _SCALES, scale, form), call)

    async def _create_sub(self, request: Request, resource: Resource, sub: Subresource) -> web.Response:
        form, target = request.form_without_tables, request.target
        call = self._call(request)
        obj, duplicates = await self._body(
            request, call, sub.kind or resource.kind, sub.definition or resource.definition
        )
        if not target.name:
            raise bad_request("name must be provided")
        made = await self._verbs.create_sub(call, resource, target.name, target.namespace, sub.name, obj, duplicates)
        status = int(made.get("code") or 201) if made.get("kind") == "Status" else 201
        return self._warned(self._made(request, made, Form(form.media), status), call)


def _plain(resource: Resource, page: Page) -> ListBody:
    return ListBody(
        resource.api_version,
        resource.list_kind,
        page.entries,
        revision=page.revision,
        continue_=page.continue_,
        remaining=page.remaining,
    )


def _space(request: Request) -> str:
    """The namespace to look in: a Namespace itself is looked up among all."""
    resource = request.target.resource
    return request.target.namespace if resource is not None and resource.namespaced else ""


def is_watch(request: Request) -> bool:
    """Whether a GET asks for a stream."""
    return request.target.watch or (bool(request.query) and flag(request.query, "watch"))
