"""The agent's server: its routes, and where they lead."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agents.pods.ports import ContainerRefs, PodView
from agents.runtime.engine import Engine
from agents.runtime.errors import NoSuchContainer, RuntimeFailure
from agents.runtime.logs import LogOptions, open_logs
from agents.runtime.streams import EngineStreams
from agents.server import auth
from agents.server.commands import Commands
from agents.server.listener import Listener
from agents.server.portforward import Forwarding
from agents.server.remote import StreamOptions
from orca.api.errors import ApiError
from orca.api.objects import Obj, uid
from orca.api.times import parse_time
from orca.client.clock import Clock

DISCONNECT_CHECK_SECONDS = 1.0
LONGEST_SECONDS = 10**9
"""No log is older; what is asked for may be more than a date can take."""
DEBUGGING = ("run", "exec", "attach", "portForward", "containerLogs", "runningpods", "logs", "debug")

log = structlog.get_logger()


class Pods(Protocol):
    """What the server needs of `agents.pods.PodManager`."""

    def find(self, namespace: str, name: str) -> PodView | None: ...

    def list(self) -> Iterable[PodView]: ...


class AgentServer:
    """HTTPS on `port`. `healthy` answers "" or what is wrong; `pages` are answered to a GET of their paths.

    `guard` says who may ask (without one, members of system:masters); `debugging` are routes that are there, as are
    logs, exec, attach and port-forward, only with `enable_debugging`. `count` is a middleware that sees every request.
    """

    def __init__(
        self,
        pods: Pods,
        engine: Engine,
        *,
        clock: Clock,
        healthy: Callable[[], str] = lambda: "",
        address: str | None = None,
        port: int = 10250,
        pages: Mapping[str, Handler] | None = None,
        guard: auth.Guard | None = None,
        debugging: Sequence[web.RouteDef] = (),
        enable_debugging: bool = True,
        count: Middleware | None = None,
        tls: auth.TlsSettings | None = None,
    ) -> None:
        self._pods = pods
        self._guard = guard or auth.Guard(None, "")
        self._debugging = debugging
        self._enable_debugging = enable_debugging
        self._count = count
        self._tls_settings = tls
        self._pages = dict(pages or {})
        self._engine = engine
        self._commands = Commands(EngineStreams(engine))
        self._clock = clock
        self._healthy = healthy
        self._address = address
        self._port = port
        self._tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<AgentServer :{self._port}>"

    def app(self, *inner: Middleware) -> web.Application:
        """The application without its listener; `inner` see what the guard has let in."""
        counting = [self._count] if self._count is not None else []
        app = web.Application(middlewares=[*counting, self._guard.middleware, *inner])
        for path in ("/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"):
            app.router.add_get(path, self._serve_health)
        for path in ("/pods", "/pods/"):
            app.router.add_get(path, self._serve_pods)
        for path, page in self._pages.items():
            app.router.add_get(path, page)
        if not self._enable_debugging:
            for first in DEBUGGING:
                app.router.add_route("*", f"/{first}{{rest:(/.*)?}}", _disabled)
            return app
        app.add_routes(self._debugging)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._serve_logs)
        for verb, handler in (("exec", self._serve_exec), ("attach", self._serve_attach)):
            for path in (
                f"/{verb}/{{namespace}}/{{pod}}/{{container}}",
                f"/{verb}/{{namespace}}/{{pod}}/{{uid}}/{{container}}",
            ):
                app.router.add_get(path, handler)
                app.router.add_post(path, handler)
        for path in ("/portForward/{namespace}/{pod}", "/portForward/{namespace}/{pod}/{uid}"):
            app.router.add_get(path, self._serve_forward)
            app.router.add_post(path, self._serve_forward)
        return app

    async def run(self, *, pair: Path, ca: Path, key: Path | None = None) -> None:
        """Serve until cancelled; all are PEM files, `pair` of certificate and key unless `key` is given."""
        self._tls = auth.server_context(pair, ca, self._tls_settings, key=key)
        listener = Listener()
        log.info("serving", port=self._port)
        await listener.serve(self.app(listener.middleware), self._address, self._port, tls=self._tls)

    async def answer_plainly(self, address: str, port: int, *, healthz_only: bool) -> None:
        """Plain HTTP until cancelled, for everybody who reaches it: health, or (read-only port) all that only tells.

        Raises OSError when the port is taken.
        """
        listener = Listener()
        app = web.Application(middlewares=[listener.middleware])
        for path in ("/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"):
            app.router.add_get(path, self._serve_health)
        if not healthz_only:
            for path in ("/pods", "/pods/"):
                app.router.add_get(path, self._serve_pods)
            for path, page in self._pages.items():
                app.router.add_get(path, page)
        await listener.serve(app, address, port)

    def reload(self, pair: Path) -> None:
        """Use a renewed certificate for connections from now on."""
        if self._tls is not None:
            self._tls.load_cert_chain(pair)

    # --- plain answers --------------------------------------------------------------------------------------------

    async def _serve_health(self, request: web.Request) -> web.Response:
        problem = self._healthy()
        return web.Response(text=problem or "ok", status=500 if problem else 200)

    async def _serve_pods(self, request: web.Request) -> web.Response:
        answer = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [v.pod for v in self._pods.list()]}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    # --- logs -----------------------------------------------------------------------------------------------------

    async def _serve_logs(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._stream_logs(request)
        except web.HTTPException as error:
            # The API server hands answers on as they are: its clients expect a Status.
            reason = {400: "BadRequest", 404: "NotFound", 422: "Invalid"}.get(error.status, "InternalError")
            status = ApiError(error.status, reason, error.text or error.reason).status()
            return web.Response(status=error.status, body=orjson.dumps(status), content_type="application/json")

    async def _stream_logs(self, request: web.Request) -> web.StreamResponse:
        view = self._find(request)
        container = _container(view, request.match_info["container"])
        options = self._log_options(request)
        container_id = _logged(view, container, previous=_truth(request, "previous"))
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
            raise _failure(status, f"unable to retrieve container logs for docker://{container_id}: {error}") from error
        return response

    def _log_options(self, request: web.Request) -> LogOptions:
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
                    raise _failure(422, "Invalid request.")
            return LogOptions(
                follow=_truth(request, "follow"),
                tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
                since=since,
                timestamps=_truth(request, "timestamps"),
                limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
                stdout=stream in ("All", "Stdout"),
                stderr=stream in ("All", "Stderr"),
            )
        except ValueError as error:
            raise _failure(400, f"unable to decode query: {error}") from error

    # --- commands and ports ---------------------------------------------------------------------------------------

    async def _serve_exec(self, request: web.Request) -> web.StreamResponse:
        view = self._find(request)
        container = _container(view, request.match_info["container"])
        refs = _running(view, container)
        argv = request.query.getall("command", [])
        if not argv:
            raise _failure(400, "command is required")
        return await self._commands.execute(request, _stream_options(request), refs.current, argv)

    async def _serve_attach(self, request: web.Request) -> web.StreamResponse:
        view = self._find(request)
        container = _container(view, request.match_info["container"])
        refs = _running(view, container)
        tty = bool(container.get("tty"))
        return await self._commands.attach(request, _stream_options(request), refs.current, tty=tty)

    async def _serve_forward(self, request: web.Request) -> web.StreamResponse:
        view = self._find(request)
        if not view.pause_pid:
            raise _failure(500, f"pod {request.match_info['pod']} has no running sandbox")
        return await Forwarding(request.match_info["pod"], uid(view.pod), view.pause_pid).serve(request)

    def _find(self, request: web.Request) -> PodView:
        view = self._pods.find(request.match_info["namespace"], request.match_info["pod"])
        asked = request.match_info.get("uid")
        if view is None or (asked and uid(view.pod) != asked):
            raise _failure(404, "pod does not exist")
        return view


async def _disabled(request: web.Request) -> web.StreamResponse:
    return web.Response(status=405, text="Debug endpoints are disabled.\n")


def _container(view: PodView, name: str) -> Obj:
    """The container in the pod's spec, of whatever sort."""
    spec = view.pod["spec"]
    for sort in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(sort) or []:
            if container["name"] == name:
                found: Obj = container
                return found
    raise _failure(404, f"container {name} not found in pod {view.pod['metadata']['name']}")


def _logged(view: PodView, container: Obj, *, previous: bool) -> str:
    """Engine id of the container whose logs are meant."""
    name, pod = container["name"], view.pod["metadata"]["name"]
    refs = view.containers.get(name)
    if previous:
        if refs is None or not refs.previous:
            raise _failure(400, f'previous terminated container "{name}" in pod "{pod}" not found')
        return refs.previous
    if refs is None or not refs.current:
        reason = _waiting_reason(view, name)
        raise _failure(400, f'container "{name}" in pod "{pod}" is waiting to start: {_WORDS.get(reason, reason)}')
    return refs.current


_WORDS = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
"""What a kubelet says of these reasons when it is asked for logs."""


def _waiting_reason(view: PodView, name: str) -> str:
    status = view.pod.get("status") or {}
    for sort in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for container in status.get(sort) or []:
            if container.get("name") == name:
                reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
                return str(reason or "ContainerCreating")
    return "ContainerCreating"


def _running(view: PodView, container: Obj) -> ContainerRefs:
    refs = view.containers.get(container["name"])
    if refs is None or not refs.running:
        raise _failure(500, f'container not found ("{container["name"]}")')
    return refs


def _stream_options(request: web.Request) -> StreamOptions:
    """kubelet's names are input, output, error and tty; those of the API are taken too."""
    options = StreamOptions(
        stdin=_truth(request, "input") or _truth(request, "stdin"),
        stdout=_truth(request, "output") or _truth(request, "stdout"),
        stderr=_truth(request, "error") or _truth(request, "stderr"),
        tty=_truth(request, "tty"),
    )
    if not (options.stdin or options.stdout or options.stderr):
        raise _failure(400, "you must specify at least 1 of stdin, stdout, stderr")
    return options


def _truth(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true")


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


def _failure(status: int, text: str) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        404: web.HTTPNotFound,
        422: web.HTTPUnprocessableEntity,
    }
    return kinds.get(status, web.HTTPInternalServerError)(text=text)
