"""``healthCheckNodePort``: tells load balancers whether this host has endpoints of a Service.

For Services of type LoadBalancer with ``externalTrafficPolicy: Local``, whose packets only hosts with a ready endpoint
can serve. Any path answers 200 when there is one and 503 when not. Reference: k8s.io/kubernetes
``pkg/proxy/healthcheck`` (body and headers).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
import structlog
from aiohttp import web

from agents.proxy.model import served
from orca.api.objects import Obj
from orca.client.clock import Clock, SystemClock

RETRY_SECONDS = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Health:
    """Where one Service's health is asked for, and how many of its ready endpoints this host has."""

    port: int
    endpoints: int


def health_of(service: Obj | None, slices: Iterable[Obj], node_name: str) -> Health | None:
    """None for a Service without such a port."""
    spec = (service or {}).get("spec") or {}
    port = spec.get("healthCheckNodePort")
    local = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    if service is None or not port or not local or not served(service):
        return None
    addresses = {
        address
        for one in slices
        for endpoint in one.get("endpoints") or ()
        if endpoint.get("nodeName") == node_name and (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or ()
    }
    return Health(int(port), len(addresses))


class HealthPorts:
    """One listener a Service that has such a port. A port that is taken is tried again every ``RETRY_SECONDS``."""

    def __init__(self, host: str | None = None, clock: Clock | None = None) -> None:
        """``host``: None for all addresses of both families."""
        self._host = host
        self._clock = clock or SystemClock()
        self._known: dict[str, Health] = {}
        self._runners: dict[str, tuple[int, web.ServerRunner]] = {}
        self._taken: dict[str, int] = {}
        """Services without their listener, and the port that was tried in vain."""
        self._turn = asyncio.Lock()
        self._retrying: asyncio.Task[None] | None = None

    async def update(self, changes: Mapping[str, Health | None]) -> None:
        """Serve what there is now about each "namespace/name", or nothing any more. Ports may go from one to
        another."""
        async with self._turn:
            for service, health in changes.items():
                if health is None:
                    self._known.pop(service, None)
                else:
                    self._known[service] = health
                listening = self._runners.get(service)
                if listening is not None and (health is None or listening[0] != health.port):
                    await self._stop(service)
            await self._start_missing({*changes, *self._taken})
        if self._taken and self._retrying is None:
            self._retrying = asyncio.create_task(self._retry(), name="health check ports that were taken")

    async def close(self) -> None:
        """Serve nothing any more."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        for service in list(self._runners):
            await self._stop(service)

    async def _retry(self) -> None:
        while self._taken:
            await self._clock.sleep(RETRY_SECONDS)
            async with self._turn:
                await self._start_missing(set(self._taken))
        self._retrying = None

    async def _start_missing(self, services: Iterable[str]) -> None:
        for service in services:
            health = self._known.get(service)
            if health is None:
                self._taken.pop(service, None)
            elif service not in self._runners:
                await self._start(service, health.port)

    async def _start(self, service: str, port: int) -> None:
        async def answer(_: web.BaseRequest) -> web.Response:
            return self._answer(service)

        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, port).start()
        except OSError as error:
            await runner.cleanup()
            if self._taken.get(service) != port:
                self._taken[service] = port
                log.error("a service's health check port is not served", service=service, port=port, error=str(error))
            return
        if self._taken.pop(service, None) is not None:
            log.info("a service's health check port is served now", service=service, port=port)
        self._runners[service] = port, runner

    async def _stop(self, service: str) -> None:
        listening = self._runners.pop(service, None)
        if listening is not None:
            await listening[1].cleanup()

    def _answer(self, service: str) -> web.Response:
        health = self._known.get(service)
        count = health.endpoints if health is not None else 0
        space, _, name = service.partition("/")
        told = {"service": {"namespace": space, "name": name}, "localEndpoints": count, "serviceProxyHealthy": True}
        return web.Response(
            status=200 if count else 503,
            body=orjson.dumps(told, option=orjson.OPT_INDENT_2),
            content_type="application/json",
            headers={"X-Content-Type-Options": "nosniff", "X-Load-Balancing-Endpoint-Weight": str(count)},
        )
