"""Keeps the Available condition of APIServices, and with it what is known of their discovery.

A task for each group version that another server has: it looks when the APIService, its Service or its endpoints
change, and asks the server for its discovery then and every half minute. Without such APIServices nothing but one
informer runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import orjson
import structlog

from orca.api.builtin import APISERVICES, ENDPOINTSLICES, SERVICES
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, labels, name, namespace
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.informer import Informer
from orca.client.keeping import keep_running
from orca.client.services import SERVICE_LABEL
from orca.server.aggregation.apiservices import GroupVersion, group_version
from orca.server.aggregation.backend import Backends, Unreachable
from orca.server.aggregation.conditions import LOCAL, PASSED, Verdict, check_service, has_condition, with_condition
from orca.server.aggregation.merging import RemoteVersion, aggregated_resources
from orca.server.aggregation.metrics import AvailabilityMetrics

log = structlog.get_logger()

RECHECK_SECONDS = 30.0
FIRST_RETRY_SECONDS = 0.5
CHECK_SECONDS = 5.0
_MORE_TRIES = 4
"""After a failed check this many more are made at once: with several endpoints one that answers is enough."""


class Availability:
    """``run`` keeps conditions true; ``versions`` is the discovery of other servers."""

    def __init__(
        self,
        client: Client,
        backends: Backends,
        clock: Clock,
        changed: Callable[[], None],
        metrics: AvailabilityMetrics | None = None,
    ) -> None:
        self._client = client
        self._backends = backends
        self._clock = clock
        self._changed = changed
        self._metrics = metrics
        self._services = Informer(client, APISERVICES, clock=clock)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._known: dict[GroupVersion, RemoteVersion] = {}
        self._unasked: set[str] = set()
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether every server that had a group version at the start was asked what is in it, be it in vain. Before
        that, discovery leaves out what other servers of this cluster tell of."""
        if not self._complete:
            self._complete = self._services.is_synced and not self._unasked
        return self._complete

    @property
    def versions(self) -> list[RemoteVersion]:
        """What other servers serve."""
        return list(self._known.values())

    async def run(self) -> None:
        """Until cancelled."""
        self._services.on_add(self._seen)
        self._services.on_update(lambda old, new: self._seen(new, old))
        self._services.on_delete(self._gone)
        try:
            await self._services.run()
        finally:
            running = [*self._tasks.values(), *self._watching]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    # -- handlers

    def _seen(self, service: Obj, old: Obj | None = None) -> None:
        key = name(service)
        if old is not None and old.get("spec") == service.get("spec") and has_condition(service):
            return  # our own condition, or labels
        if not service["spec"].get("service"):
            self._forget(group_version(service))
        elif group_version(service) not in self._known:
            self._learn(service, (), fresh=False)
            if not self._complete:
                self._unasked.add(key)
        self._watch_endpoints()
        if key in self._wakes:
            self._wakes[key].set()
        else:
            self._wakes[key] = asyncio.Event()
            work = keep_running(f"apiservice {key}", lambda: self._keep(key), self._clock)
            self._tasks[key] = asyncio.create_task(work, name=f"apiservice {key}")

    def _gone(self, service: Obj) -> None:
        key = name(service)
        self._wakes.pop(key, None)
        self._unasked.discard(key)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
        self._forget(group_version(service))
        if self._metrics is not None:
            self._metrics.gone(key)

    def _watch_endpoints(self) -> None:
        """Services and endpoints are followed from the first APIService on that depends on them."""
        if self._watching or not self._known:
            return
        for resource, of in ((SERVICES, name), (ENDPOINTSLICES, lambda piece: labels(piece).get(SERVICE_LABEL, ""))):
            informer = Informer(self._client, resource, clock=self._clock)
            informer.on_change(lambda obj, of=of: self._wake(namespace(obj), of(obj)))  # type: ignore[misc]
            self._watching.append(asyncio.create_task(informer.run(), name=f"aggregation {resource.plural}"))

    def _wake(self, space: str, service_name: str) -> None:
        for key in self._behind(space, service_name):
            self._wakes[key].set()

    def _behind(self, space: str, service_name: str) -> Iterator[str]:
        for key in self._wakes:
            service = self._services.get(key)
            where = (service or {}).get("spec", {}).get("service") or {}
            if (where.get("namespace"), where.get("name")) == (space, service_name):
                yield key

    # -- one APIService

    async def _keep(self, key: str) -> None:
        wait = FIRST_RETRY_SECONDS
        wake = self._wakes[key]
        while True:
            wake.clear()
            service = self._services.get(key)
            if service is None:
                return
            try:
                verdict = await self._check(service)
            finally:
                self._unasked.discard(key)
            if self._metrics is not None and verdict is not LOCAL:
                self._metrics.checked(key, verdict)
            wrote = await self._tell(key, verdict)
            if verdict is LOCAL and wrote:
                # Nothing can change that but the APIService itself, and then a new task begins.
                self._tasks.pop(key, None)
                self._wakes.pop(key, None)
                return
            wait = RECHECK_SECONDS if verdict.available and wrote else min(wait * 2, RECHECK_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await wake.wait()
                wait = FIRST_RETRY_SECONDS  # something changed: what failed before may do now

    async def _check(self, service: Obj) -> Verdict:
        where = service["spec"].get("service")
        if not where:
            return LOCAL
        space, service_name = where.get("namespace") or "", where.get("name") or ""
        resolver = self._backends.resolver
        try:
            found: Obj | None = resolver.service(space, service_name)
        except ApiError:
            found = None
        problem = check_service(where, found, resolver.slices(space, service_name) if found else ())
        if problem is None:
            try:
                resources = await self._discover(service)
            except Unreachable as error:
                problem = Verdict(False, "FailedDiscoveryCheck", str(error))
        if problem is not None:
            self._learn(service, None, fresh=False)
            return problem
        self._learn(service, resources, fresh=True)
        return PASSED

    async def _discover(self, service: Obj) -> tuple[Obj, ...]:
        """Raises Unreachable when no try succeeds."""
        try:
            return await self._discover_once(service)
        except Unreachable as error:
            first = error
        results = await asyncio.gather(
            *(self._discover_once(service) for _ in range(_MORE_TRIES)), return_exceptions=True
        )
        for result in results:
            if not isinstance(result, BaseException):
                return result
            if not isinstance(result, Unreachable):
                raise result
        raise first

    async def _discover_once(self, service: Obj) -> tuple[Obj, ...]:
        group, version = group_version(service)
        path = f"/apis/{group}/{version}"
        try:
            reply = await self._backends.get(service, path, CHECK_SECONDS)
        except Unreachable as error:
            raise Unreachable(f"failing or missing response from {error}") from error
        if not 200 <= reply.status < 300:
            raise Unreachable(f"failing or missing response from {path}: bad status from {path}: {reply.status}")
        try:
            return aggregated_resources(group, version, orjson.loads(reply.body))
        except (ValueError, TypeError, AttributeError) as error:
            raise Unreachable(f"failing or missing response from {path}: no discovery document: {error}") from error

    async def _tell(self, key: str, verdict: Verdict) -> bool:
        """Write the condition where it says something else; false when that has to be tried again."""
        current = self._services.get(key)
        if current is None:
            return True
        changed = with_condition(current, verdict, self._clock.now())
        if changed is None:
            return True
        try:
            await self._client.update(APISERVICES, changed, subresource="status")
        except ApiError as error:
            if is_not_found(error):
                return True
            if not is_conflict(error):
                log.warning("the condition of an APIService could not be written", name=key, error=str(error))
            return False
        if changed["spec"].get("service"):
            log.info("availability of an aggregated API", name=key, reason=verdict.reason, message=verdict.message)
        return True

    # -- discovery

    def _learn(self, service: Obj, resources: tuple[Obj, ...] | None, *, fresh: bool) -> None:
        """``resources`` None keeps what was known."""
        key, spec = group_version(service), service["spec"]
        before = self._known.get(key)
        if resources is None:
            resources = before.resources if before is not None else ()
        now = RemoteVersion(
            *key, spec.get("groupPriorityMinimum") or 0, spec.get("versionPriority") or 0, resources, fresh
        )
        if now != before:
            self._known[key] = now
            self._changed()

    def _forget(self, key: GroupVersion) -> None:
        if self._known.pop(key, None) is not None:
            self._changed()
