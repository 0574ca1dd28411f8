"""Watch streams over HTTP: JSON lines, shared between watchers wherever the form allows.

A plain JSON watch writes the line the store encoded once, see ``crowd``; what is ready at the same time goes out in one
write.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import orjson
from aiohttp import web

from orca.api.errors import ApiError, not_acceptable
from orca.api.resources import Resource
from orca.client.clock import Clock
from orca.server.connection import connection_of
from orca.server.crowd import Crowd, Member
from orca.server.metrics import WatchCounts
from orca.server.negotiation import JSON, YAML, Form
from orca.server.options import ListOptions
from orca.server.representation import transform
from orca.server.request import Request
from orca.server.responses import warning_header
from orca.server.verbs.serving import AnyWatch
from orca.server.websockets import is_websocket, serve_frames
from orca.store import Event, Watch

_AT_ONCE = 32
"""Events made for one watcher before others get their turn: there are thousands when it begins."""
LAST_SECONDS = 10.0
"""For a watcher to take what was written before the end; who reads nothing at all has no end otherwise."""


async def serve_watch(
    request: Request,
    resource: Resource,
    watch: AnyWatch,
    options: ListOptions,
    form: Form,
    include: str,
    clock: Clock,
    counts: WatchCounts,
    crowd: Crowd,
) -> web.StreamResponse:
    """Stream events until ``options.timeout_seconds`` are over, the peer goes away or the store ends the watch. It is
    closed in any case."""
    async with aclosing(watch):
        if form.media == YAML:
            raise not_acceptable((f"{JSON};stream=watch",))
        encode = Lines(resource, form, include, clock)
        if is_websocket(request.http.headers):

            def line(event: Event) -> bytes:
                made = encode(event)
                counts.sent([made])
                return made

            return await serve_frames(request, watch, options.timeout_seconds, line, _error_line)
        connection = connection_of(request.http)
        task = asyncio.current_task()
        assert task is not None
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        chunked = request.http.version >= (1, 1)
        if chunked:
            response.enable_chunked_encoding()
        if resource.warning:
            response.headers["Warning"] = warning_header(resource.warning)
        connection.watch_loss(task, task.cancel)
        try:
            await response.prepare(request.http)
            connection.send_head(response)
            if request.begun is not None:
                request.begun()
            request.answering(response.status)
            batch: list[Event] = []  # taken, and not yet sent
            try:
                async with asyncio.timeout(options.timeout_seconds):
                    if chunked and not form.kind and isinstance(watch, Watch):
                        await Member(crowd, watch, connection, counts).follow()
                    else:
                        while batch := await watch.batch():
                            while batch:
                                lines = [encode(event) for event in batch[:_AT_ONCE]]
                                del batch[:_AT_ONCE]
                                await response.write(b"".join(lines))
                                counts.sent(lines)
                                if batch:
                                    await request.lane.turn()
            except TimeoutError:
                async with asyncio.timeout(LAST_SECONDS):
                    await connection.drained()
                    if watch.bookmarks:
                        # The last word says how far the watcher is, so that it goes on from there.
                        watch.mark()
                        last = [encode(event) for event in (*batch, *await watch.batch())]
                        await response.write(b"".join(last))
                        counts.sent(last)
            except ApiError as error:
                async with asyncio.timeout(LAST_SECONDS):
                    await response.write(_error_line(error))
            async with asyncio.timeout(LAST_SECONDS):
                await response.write_eof()
        except TimeoutError:
            connection.abort()
            return response
        except (ConnectionResetError, asyncio.CancelledError):
            if not request.http.transport or request.http.transport.is_closing():
                return response  # the peer went away; nothing is left to say
            raise
        finally:
            connection.forget_loss(task)
        return response


class Lines:
    """Events of one watch in the form that was negotiated. Only the first Table says what its columns are."""

    def __init__(self, resource: Resource, form: Form, include: str, clock: Clock) -> None:
        self._resource = resource
        self._form = form
        self._include = include
        self._clock = clock
        self._titled = False

    def __call__(self, event: Event) -> bytes:
        """One line."""
        form = self._form
        if not form.kind:
            return event.line
        obj = event.entry.obj
        if event.type == "BOOKMARK":
            obj = {
                **obj,
                "kind": "PartialObjectMetadata" if form.kind != "Table" else "Table",
                "apiVersion": f"meta.k8s.io/{form.version}",
            }
            if form.kind == "Table":
                obj = {**obj, "columnDefinitions": None, "rows": []}
        else:
            obj = transform(self._resource, obj, form, self._include, self._clock.now())
            if form.kind == "Table":
                if self._titled:
                    obj["columnDefinitions"] = None
                self._titled = True
        return orjson.dumps({"type": event.type, "object": obj}, option=orjson.OPT_APPEND_NEWLINE)


def _error_line(error: ApiError) -> bytes:
    return orjson.dumps({"type": "ERROR", "object": error.status()}, option=orjson.OPT_APPEND_NEWLINE)
