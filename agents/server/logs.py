"""``kubectl logs``: what of a container's output is asked for, and its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import orjson
import structlog
from aiohttp import web

from agents.pods.ports import PodView
from agents.runtime.engine import Engine
from agents.runtime.errors import NoSuchContainer, RuntimeFailure
from agents.runtime.logs import LogOptions, open_logs
from agents.server.targets import container_of, failure, flag, logged
from orca.api.errors import ApiError
from orca.api.times import parse_time
from orca.client.clock import Clock

DISCONNECT_CHECK_SECONDS = 1.0
LONGEST_SECONDS = 10**9
"""No log is older; what is asked for may be more than a date can take."""

log = structlog.get_logger()


class Logs:
    """``find`` answers the pod of a request, or raises web.HTTPException."""

    def __init__(self, engine: Engine, clock: Clock, find: Callable[[web.Request], PodView]) -> None:
        self._engine = engine
        self._clock = clock
        self._find = find

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The handler of containerLogs."""
        try:
            return await self._stream(request)
        except web.HTTPException as error:
            # The API server hands answers on as they are: its clients expect a Status.
            reason = {400: "BadRequest", 404: "NotFound", 422: "Invalid"}.get(error.status, "InternalError")
            status = ApiError(error.status, reason, error.text or error.reason).status()
            return web.Response(status=error.status, body=orjson.dumps(status), content_type="application/json")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        view = self._find(request)
        container = container_of(view, request.match_info["container"])
        options = self._options(request)
        container_id = logged(view, container, previous=flag(request, "previous"))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        try:
            async with open_logs(self._engine, container_id, options, tty=bool(container.get("tty"))) as chunks:
                await response.prepare(request)

                async def copy() -> None:
                    async for chunk in chunks:
                        await response.write(chunk)

                await _while_connected(request, copy())
        except (NoSuchContainer, RuntimeFailure) as error:
            if response.prepared:
                log.info("logs broke off", container=container_id, error=str(error))
                return response
            status = 404 if isinstance(error, NoSuchContainer) else 500
            raise failure(status, f"unable to retrieve container logs for docker://{container_id}: {error}") from error
        return response

    def _options(self, request: web.Request) -> LogOptions:
        query = request.query
        try:
            since = None
            if query.get("sinceSeconds"):
                seconds = min(int(query["sinceSeconds"]), LONGEST_SECONDS)
                since = self._clock.now() - timedelta(seconds=seconds)
            elif query.get("sinceTime"):
                since = parse_time(query["sinceTime"])
            stream = query.get("stream") or "All"
            for limit, least in (("sinceSeconds", 1), ("tailLines", 0), ("limitBytes", 1)):
                if query.get(limit) and int(query[limit]) < least:
                    raise failure(422, "Invalid request.")
            return LogOptions(
                follow=flag(request, "follow"),
                tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
                since=since,
                timestamps=flag(request, "timestamps"),
                limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
                stdout=stream in ("All", "Stdout"),
                stderr=stream in ("All", "Stderr"),
            )
        except ValueError as error:
            raise failure(400, f"unable to decode query: {error}") from error


async def _while_connected(request: web.Request, work: Awaitable[None]) -> None:
    """Do `work` as long as the client is there: one that follows a silent log is noticed only by looking."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=DISCONNECT_CHECK_SECONDS)
            if request.transport is None or request.transport.is_closing():
                return
        if not isinstance(task.exception(), ConnectionError):
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
