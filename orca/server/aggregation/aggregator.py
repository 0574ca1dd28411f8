"""The parts of aggregation as one, for the application and its discovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry

from orca.api.objects import Obj
from orca.api.resources import ResourceTable
from orca.auth.pki import Pair
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.keeping import keep_running
from orca.server.aggregation.apiservices import ApiServices
from orca.server.aggregation.availability import Availability
from orca.server.aggregation.backend import Backends, Reply
from orca.server.aggregation.kinds import RemoteKinds
from orca.server.aggregation.merging import RemoteVersion, merged_groups
from orca.server.aggregation.metrics import AvailabilityMetrics
from orca.server.aggregation.openapi import RemoteOpenApi
from orca.server.aggregation.proxying import proxy
from orca.server.aggregation.registration import Registration
from orca.server.forwarding import Forwarder
from orca.server.request import Request
from orca.store import Store


class Aggregator:
    """One per server. ``start`` begins to keep APIServices, ``stop`` ends it and closes connections."""

    def __init__(
        self,
        store: Store,
        client: Client,
        table: ResourceTable,
        front_proxy: Pair,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._clock = clock
        self._forwarder = Forwarder()
        self._backends = Backends(store, front_proxy, self._forwarder)
        self._services = ApiServices(store)
        self._listeners: list[Callable[[], None]] = []
        self._availability = Availability(
            client, self._backends, clock, self._discovery_changed, AvailabilityMetrics(registry)
        )
        self._registration = Registration(client, table, clock)
        self._tasks: list[asyncio.Task[None]] = []
        self.kinds = RemoteKinds(self._services, self._backends, self._availability)
        self.openapi = RemoteOpenApi(self._services, self._backends, clock)

    def start(self) -> None:
        """Begin."""
        works = {"apiservice availability": self._availability.run, "apiservice registration": self._registration.run}
        self._tasks = [
            asyncio.create_task(keep_running(what, work, self._clock), name=what) for what, work in works.items()
        ]

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._forwarder.close()

    async def discovered(self) -> None:
        """A health check. Raises OSError while discovery lacks what other servers may have."""
        if not self._availability.complete:
            raise OSError("not all servers of aggregated APIs were asked yet")

    async def registered(self) -> None:
        """A health check. Raises OSError while APIServices of what is served here were not looked after yet."""
        if not self._registration.tried:
            raise OSError("not all APIServices of this server are registered yet")

    # -- requests

    def remote(self, group: str, version: str) -> Obj | None:
        """The APIService of a group version that another server has."""
        return self._services.remote(group, version)

    async def ask(self, service: Obj, path: str, seconds: float) -> Reply:
        """A document of another server, asked for as the server itself. Raises Unreachable."""
        return await self._backends.ask("GET", service, path, seconds)

    async def proxy(self, request: Request, service: Obj) -> web.StreamResponse:
        """Hand an authorised request on."""
        return await proxy(request, service, self._backends, self._forwarder)

    # -- discovery

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when the discovery of other servers changed."""
        self._listeners.append(listener)

    def _discovery_changed(self) -> None:
        for listener in self._listeners:
            listener()

    def groups(self, local: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
        """All groups with their versions, those of other servers among them."""
        remote = self._availability.versions
        return merged_groups(local, remote) if remote else local

    def version(self, group: str, version: str) -> RemoteVersion | None:
        """Discovery of a group version that another server has."""
        for one in self._availability.versions:
            if (one.group, one.version) == (group, version):
                return one
        return None
