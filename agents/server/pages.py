"""Pages of the agent's server about the node: its configuration, what runs, its own metrics, its system's logs."""

from __future__ import annotations

import asyncio
import html
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import orjson
from aiohttp import web

from agents.config import Configuration, encode
from agents.logging import set_verbosity
from agents.pods.ports import PodView
from agents.runtime import Runtime
from agents.runtime.errors import RuntimeFailure
from agents.static.ends import Ends
from agents.static.starts import Starts
from agents.stats.claims import ClaimUse
from orca.api.objects import Obj, meta

if TYPE_CHECKING:
    from agents.server.metrics import Facts

SYSTEM_LOGS = Path("/var/log")
RUN_SECONDS = 600.0
LONG_RUNNING = ("exec", "attach", "portForward", "containerLogs", "run")

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pods(Protocol):
    """What the pages need of `agents.running.RunningPods`."""

    def find(self, namespace: str, name: str) -> PodView | None: ...

    def list(self) -> Iterable[PodView]: ...

    @property
    def starts(self) -> Starts: ...

    @property
    def ends(self) -> Ends: ...

    @property
    def mirrors(self) -> int: ...


class NodePages:
    """`shutdown`, `certificates`, `evictions` and `claims` answer what `server.metrics.Facts` says of them."""

    def __init__(
        self,
        configuration: Configuration,
        node_name: str,
        pods: Pods,
        runtime: Runtime,
        *,
        version: str,
        shutdown: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
        certificates: Callable[[], Mapping[str, float]] = dict,
        evictions: Callable[[], Mapping[str, int]] = dict,
        claims: Callable[[], Awaitable[Sequence[ClaimUse]]] | None = None,
        system_logs: Path = SYSTEM_LOGS,
    ) -> None:
        self._configuration = configuration
        self._node_name = node_name
        self._pods = pods
        self._runtime = runtime
        self._version = version
        self._shutdown = shutdown
        self._certificates = certificates
        self._evictions = evictions
        self._claims = claims
        self._system_logs = system_logs
        self._started_at = time.time()
        self.requests: Counter[tuple[str, str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<NodePages of {self._node_name}>"

    def routes(self) -> dict[str, Page]:
        """Path -> what answers a GET."""
        return {"/configz": self.configz, "/metrics": self.metrics}

    def debugging_routes(self) -> list[web.RouteDef]:
        """What `enableDebuggingHandlers: false` takes away."""
        routes = [
            web.get("/runningpods", self.running_pods),
            web.get("/runningpods/", self.running_pods),
            web.post("/run/{namespace}/{pod}/{container}", self.run),
            web.post("/run/{namespace}/{pod}/{uid}/{container}", self.run),
        ]
        if self._configuration.enable_system_log_handler:
            routes += [web.get("/logs", self.logs), web.get("/logs/{path:.*}", self.logs)]
        if self._configuration.enable_debug_flags_handler:
            routes.append(web.put("/debug/flags/v", self.verbosity))
        return routes

    @web.middleware
    async def count(self, request: web.Request, handler: Page) -> web.StreamResponse:
        """A middleware that counts requests by the first part of their path."""
        first = request.path.lstrip("/").partition("/")[0]
        known = request.match_info.http_exception is None
        long_running = "true" if first in LONG_RUNNING else "false"
        self.requests[request.method, first if known else "other", long_running] += 1
        return await handler(request)

    async def configz(self, request: web.Request) -> web.Response:
        """The configuration in force, every field written out."""
        document = {name: value for name, value in encode(self._configuration).items() if name not in _TYPE}
        return _json({"kubeletconfig": document})

    async def running_pods(self, request: web.Request) -> web.Response:
        """Pods of which something runs, as far as the engine knows them."""
        items: list[Obj] = []
        for view in self._pods.list():
            running = {name for name, refs in view.containers.items() if refs.running}
            if not running and not view.pause_pid:
                continue
            metadata = {part: meta(view.pod)[part] for part in ("name", "namespace", "uid") if part in meta(view.pod)}
            spec = view.pod.get("spec") or {}
            containers = [
                {"name": one["name"], "image": one.get("image", ""), "resources": {}}
                for group in ("initContainers", "containers", "ephemeralContainers")
                for one in spec.get(group) or ()
                if one["name"] in running
            ]
            items.append({"metadata": metadata, "spec": {"containers": containers}, "status": {}})
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def metrics(self, request: web.Request) -> web.Response:
        """The text format of Prometheus."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        from agents.server.metrics import Facts, families

        facts = Facts(
            self._node_name,
            self._version,
            self._started_at,
            list(self._pods.list()),
            self._pods.mirrors,
            self._runtime.engine.tally,
            self._pods.starts,
            self._runtime.images.tally,
            Counter(self.requests),
            self._shutdown(),
            self._certificates(),
            dict(self._evictions()),
            await self._claims() if self._claims is not None else (),
            self._pods.ends,
        )
        body = await asyncio.to_thread(generate_latest, _Registry(facts, families))  # type: ignore[arg-type]
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def run(self, request: web.Request) -> web.Response:
        """Run `cmd` in a container and answer what it printed."""
        info = request.match_info
        view = self._pods.find(info["namespace"], info["pod"])
        if view is None or info.get("uid", meta(view.pod).get("uid")) != meta(view.pod).get("uid"):
            raise web.HTTPNotFound(text="pod does not exist")
        refs = view.containers.get(info["container"])
        if refs is None or not refs.running:
            raise web.HTTPInternalServerError(text=f'container not found ("{info["container"]}")')
        argv = request.query.get("cmd", "").split(" ")
        try:
            result = await self._runtime.exec(refs.current, argv, seconds=RUN_SECONDS)
        except (RuntimeFailure, TimeoutError) as error:
            raise web.HTTPInternalServerError(text=str(error)) from error
        if result.code:
            text = f"command '{' '.join(argv)}' exited with {result.code}: {result.output.decode(errors='replace')}"
            raise web.HTTPInternalServerError(text=text)
        return web.Response(body=result.output, content_type="text/plain")

    async def verbosity(self, request: web.Request) -> web.Response:
        """Change how much the agent logs, as `--v`."""
        text = (await request.text()).strip()
        if not text.isdigit():
            raise web.HTTPBadRequest(text=f'error unmarshaling klog.logging.verbosity: "{text}" is no number')
        set_verbosity(int(text))
        return web.Response(text=f"successfully set klog.logging.verbosity to {text}")

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Files and directories below /var/log; links that lead out of it are not followed."""
        root, asked = self._system_logs, request.match_info.get("path", "")
        found = await asyncio.to_thread(_look_up, root, asked)
        if found is None:
            raise web.HTTPNotFound(text="404 page not found\n")
        if isinstance(found, Path):
            return web.FileResponse(found, headers={"Content-Type": "text/plain; charset=utf-8"})
        links = "".join(
            f'<a href="{quote(os.fsencode(name))}">{html.escape(os.fsencode(name).decode(errors="replace"))}</a>\n'
            for name in found
        )
        return web.Response(text=f"<!doctype html>\n<pre>\n{links}</pre>\n", content_type="text/html")


_TYPE = ("kind", "apiVersion")


class _Registry:
    """As much of a registry as the library's writer asks for."""

    def __init__(self, facts: Facts, families: Callable[[Facts], Iterable[object]]) -> None:
        self.collect = lambda: families(facts)


def _look_up(root: Path, asked: str) -> Path | list[str] | None:
    """A file, or the names in a directory; None for what is not there or nobody else's business."""
    try:
        path = (root / asked).resolve()
        if not path.is_relative_to(root.resolve()):
            return None
        if path.is_file():
            return path
        return sorted(f"{one.name}/" if one.is_dir() else one.name for one in path.iterdir())
    except (OSError, ValueError, RuntimeError):
        return None  # also names too long or with a zero byte, a loop of links, a pipe


def _json(body: Obj) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
