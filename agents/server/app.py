"""The agent's server: its routes, and where they lead."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agents.pods.ports import PodView
from agents.runtime.engine import Engine
from agents.runtime.streams import EngineStreams
from agents.server import auth
from agents.server.commands import Commands
from agents.server.listener import Listener
from agents.server.logs import Logs
from agents.server.portforward import Forwarding
from agents.server.targets import container_of, failure, running, stream_options
from orca.api.objects import uid
from orca.client.clock import Clock

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
        self._commands = Commands(EngineStreams(engine))
        self._logs = Logs(engine, clock, self._find)
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
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs.serve)
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

    # --- commands and ports ---------------------------------------------------------------------------------------

    async def _serve_exec(self, request: web.Request) -> web.StreamResponse:
        view = self._find(request)
        container = container_of(view, request.match_info["container"])
        refs = running(view, container)
        argv = request.query.getall("command", [])
        if not argv:
            raise failure(400, "command is required")
        return await self._commands.execute(request, stream_options(request), refs.current, argv)

    async def _serve_attach(self, request: web.Request) -> web.StreamResponse:
        view = self._find(request)
        container = container_of(view, request.match_info["container"])
        refs = running(view, container)
        tty = bool(container.get("tty"))
        return await self._commands.attach(request, stream_options(request), refs.current, tty=tty)

    async def _serve_forward(self, request: web.Request) -> web.StreamResponse:
        view = self._find(request)
        if not view.pause_pid:
            raise failure(500, f"pod {request.match_info['pod']} has no running sandbox")
        return await Forwarding(request.match_info["pod"], uid(view.pod), view.pause_pid).serve(request)

    def _find(self, request: web.Request) -> PodView:
        view = self._pods.find(request.match_info["namespace"], request.match_info["pod"])
        asked = request.match_info.get("uid")
        if view is None or (asked and uid(view.pod) != asked):
            raise failure(404, "pod does not exist")
        return view


async def _disabled(request: web.Request) -> web.StreamResponse:
    return web.Response(status=405, text="Debug endpoints are disabled.\n")
