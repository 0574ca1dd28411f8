"""What the controller itself answers: ``/healthz``, ``/livez`` and, under ingress-nginx's names, ``/metrics``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aiohttp import web

from orca.ingress.controller import IngressController
from orca.ingress.engine import Engine, Unsettled

_PREFIX = "nginx_ingress_controller"
_STATES = {"active": r"Active connections: (\d+)", "reading": r"Reading: (\d+)", "writing": r"Writing: (\d+)"} | {
    "waiting": r"Waiting: (\d+)"
}


class Pages:
    """HTTP on a port of its own."""

    def __init__(self, controller: IngressController, engine: Engine, *, pod: str, namespace: str) -> None:
        self._controller = controller
        self._engine = engine
        self._own = {"controller_namespace": namespace, "controller_pod": pod}

    async def run(self, port: int) -> web.AppRunner:
        """Listens; the caller cleans up what it gets."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, None, port).start()
        return runner

    async def _healthz(self, request: web.Request) -> web.Response:
        if await self._engine.is_serving():
            return web.Response(text="ok")
        return web.Response(status=500, text="nginx does not serve yet")

    async def _livez(self, request: web.Request) -> web.Response:
        """What has not been configured yet would be no better after a restart."""
        if not self._engine.generation or await self._engine.is_serving():
            return web.Response(text="ok")
        return web.Response(status=500, text="nginx does not serve any more")

    async def _metrics(self, request: web.Request) -> web.Response:
        lines = [*self._state(), *await self._traffic()]
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain", charset="utf-8")

    def _state(self) -> Iterator[str]:
        engine, own = self._engine, self._own
        yield from _metric("success", "counter", "Configurations brought into force.", (own, engine.reloads))
        yield from _metric("errors", "counter", "Configurations that did not come into force.", (own, engine.failures))
        worked = int(engine.last_reload_worked)
        yield from _metric("config_last_reload_successful", "gauge", "Whether the last one did.", (own, worked))
        yield from _metric(
            "config_last_reload_successful_timestamp_seconds", "gauge", "When one last did.", (own, engine.last_reload)
        )
        leads = int(self._controller.is_leader)
        text = "Whether this controller writes status and events."
        yield from _metric("leader_election_status", "gauge", text, (own, leads))
        routing = self._controller.routing
        if routing is not None:
            expiries = [
                ({"host": server.name}, routing.certificates[server.certificate].expires)
                for server in routing.servers
                if server.certificate
            ]
            yield from _metric("ssl_expire_time_seconds", "gauge", "When the host's certificate ends.", *expiries)

    async def _traffic(self) -> list[str]:
        try:
            status, counts = await self._engine.status(), await self._engine.counts()
        except Unsettled:
            return []
        states = [
            ({**self._own, "state": state}, int(found[1]))
            for state, pattern in _STATES.items()
            if (found := re.search(pattern, status))
        ]
        lines = list(_metric("nginx_process_connections", "gauge", "Connections of clients by state.", *states))
        totals = re.search(r"\n\s*(\d+) (\d+) (\d+)", status)
        if totals:
            lines += _metric("nginx_process_requests_total", "counter", "All requests.", (self._own, int(totals[3])))
        requests = []
        for line in counts.splitlines():
            ingress, _, rest = line.partition(" ")
            pool, _, rest = rest.partition(" ")
            code, _, count = rest.partition(" ")
            space, _, name = ingress.partition("/")
            service = pool.partition("/")[2].partition(":")[0]
            requests.append(({"namespace": space, "ingress": name, "service": service, "status": code}, int(count)))
        return lines + list(_metric("requests", "counter", "Requests by Ingress and status.", *requests))


def _metric(name: str, kind: str, text: str, *samples: tuple[dict[str, str], float]) -> Iterator[str]:
    yield f"# HELP {_PREFIX}_{name} {text}"
    yield f"# TYPE {_PREFIX}_{name} {kind}"
    for labels, value in samples:
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{_PREFIX}_{name}{{{shown}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
