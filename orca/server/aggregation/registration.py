"""APIServices of what is served here: ``kubectl get apiservices`` shows every group version.

Those of built-in groups are made at the start, those of custom kinds while they are served. One that is deleted comes
back; one that somebody took over by giving it a Service, or by taking the label off, is left alone.
Reference: k8s.io/kube-aggregator ``pkg/controllers/autoregister``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from orca.api.builtin import APISERVICES
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj, labels, name
from orca.api.resources import Resource, ResourceTable
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.informer import Informer
from orca.server.aggregation.apiservices import CUSTOM_PRIORITY, PRIORITIES, GroupVersion, name_of

log = structlog.get_logger()

MANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
_UNREGISTERED = frozenset({"apiregistration.k8s.io", "metrics.k8s.io"})
"""The second so that a metrics server can be installed by whatever creates its APIService, and serves from then on."""
_RETRY_SECONDS = 5.0


def wanted(table: ResourceTable) -> dict[str, Obj]:
    """The APIServices of all rows, by name."""
    found: dict[GroupVersion, bool] = {}
    for row in table:
        if row.group not in _UNREGISTERED:
            key = (row.group, row.version)
            found[key] = found.get(key, True) and row.custom
    return {name_of(*key): _api_service(key, custom=custom) for key, custom in found.items()}


def _api_service(key: GroupVersion, *, custom: bool) -> Obj:
    group, version = key
    least, rank = PRIORITIES.get(key, CUSTOM_PRIORITY)
    return {
        "apiVersion": APISERVICES.api_version,
        "kind": APISERVICES.kind,
        "metadata": {"name": name_of(group, version), "labels": {MANAGED: ALWAYS if custom else ON_START}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": least, "versionPriority": rank},
    }


def is_managed(service: Obj) -> bool:
    """Whether it was written here, and by nobody else since."""
    return labels(service).get(MANAGED) in (ON_START, ALWAYS)


class Registration:
    """``run`` keeps the APIServices of the table's group versions."""

    def __init__(self, client: Client, table: ResourceTable, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._present = Informer(client, APISERVICES, clock=clock)
        self._changed = asyncio.Event()
        self._changed.set()
        self.tried = False
        """Whether all that is served here was registered, be it in vain: an admission webhook may be in the way."""
        table.subscribe(self._row_changed)

    def _row_changed(self, _what: str, _row: Resource) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        self._present.on_delete(lambda _: self._changed.set())
        following = asyncio.create_task(self._present.run())
        try:
            await self._present.synced()
            while True:
                await self._changed.wait()
                self._changed.clear()
                done = await self._sync()
                self.tried = True
                if not done:
                    await self._clock.sleep(_RETRY_SECONDS)
                    self._changed.set()
        finally:
            following.cancel()

    async def _sync(self) -> bool:
        """Whether all is as it should be."""
        target = wanted(self._table)
        present = {name(one): one for one in self._present.list()}
        # At once: one after the other, each would wait for the disk, and the server is not ready before.
        done = await asyncio.gather(
            *(self._ensure(present.get(key), service) for key, service in target.items()),
            *(
                self._attempt(self._client.delete(APISERVICES, key, uid=service["metadata"]["uid"]))
                for key, service in present.items()
                if key not in target and is_managed(service) and not service["spec"].get("service")
            ),
        )
        return all(done)

    async def _ensure(self, present: Obj | None, service: Obj) -> bool:
        if present is None:
            return await self._attempt(self._client.create(APISERVICES, service))
        if not is_managed(present) or all(present["spec"].get(k) == v for k, v in service["spec"].items()):
            return True
        return await self._attempt(self._client.update(APISERVICES, {**present, "spec": service["spec"]}))

    async def _attempt(self, write: Awaitable[Obj]) -> bool:
        try:
            await write
        except ApiError as error:
            if is_already_exists(error) or is_not_found(error):
                return True
            if not is_conflict(error):
                log.warning("an APIService could not be written", error=str(error))
            return False
        return True
