"""A local, indexed, always current copy of the objects a component cares about.

List once, then watch; a closed watch resumes from the last resourceVersion, an expired one (410) lists again and
reports only the differences. There is no periodic resync: handlers hear of changes, and whoever wants to act later
uses a timer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import structlog

from orca.api.errors import ApiError
from orca.api.objects import Obj, key
from orca.api.resources import Resource
from orca.client.base import Client, ObjectList
from orca.client.clock import Clock, SystemClock
from orca.client.reach import Unreachable

log = structlog.get_logger()

Indexer = Callable[[Obj], Iterable[str]]
"""Names the values under which an object is found with `by_index`."""

Objects: TypeAlias = list[Obj]

FIRST_RETRY = 0.1
LAST_RETRY = 5.0


class Informer:
    """Cache of one resource, keyed "namespace/name" (or "name").

    Handlers are plain functions, called in the order of changes and after the cache shows the change; they enqueue work
    and never wait. A handler registered when the cache already has objects is told of each as added.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        indexers: Mapping[str, Indexer] | None = None,
        transform: Callable[[Obj], Obj] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`transform` answers what is kept of an object, for caches of many of which little is needed: at least name,
        namespace, uid and resourceVersion. Handlers see that, too."""
        self.resource = resource
        self._transform = transform
        self._client = client
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._clock = clock or SystemClock()
        self._objects: dict[str, Obj] = {}
        self._indexers = dict(indexers or {})
        self._index: dict[str, dict[str, dict[str, Obj]]] = {name: {} for name in self._indexers}
        self._indexing = [(self._index[name], indexer) for name, indexer in self._indexers.items()]
        self._added: list[Callable[[Obj], None]] = []
        self._updated: list[Callable[[Obj, Obj], None]] = []
        self._deleted: list[Callable[[Obj], None]] = []
        self._synced = asyncio.Event()
        self._version = ""
        self._retry = FIRST_RETRY

    def __repr__(self) -> str:
        return f"<Informer {self.resource.group_resource} {len(self._objects)} objects at {self._version or 'start'}>"

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def is_synced(self) -> bool:
        """Whether the first list has been taken in."""
        return self._synced.is_set()

    @property
    def resource_version(self) -> str:
        """How far the cache has come."""
        return self._version

    async def synced(self) -> None:
        """Returns once the first list has been taken in."""
        await self._synced.wait()

    def get(self, object_key: str) -> Obj | None:
        return self._objects.get(object_key)

    def list(self) -> Objects:
        return list(self._objects.values())

    def by_index(self, name: str, value: str) -> Objects:
        """Objects for which indexer `name` gave `value`. KeyError when there is no such indexer."""
        return list(self._index[name].get(value, {}).values())

    def has(self, name: str, value: str) -> bool:
        """Whether `by_index` would find any."""
        return value in self._index[name]

    def __len__(self) -> int:
        return len(self._objects)

    # --- handlers ----------------------------------------------------------------------------------------------------

    def on_add(self, handler: Callable[[Obj], None]) -> None:
        self._added.append(handler)
        for obj in self._objects.values():
            self._call(handler, obj)

    def on_update(self, handler: Callable[[Obj, Obj], None]) -> None:
        """`handler(old, new)`."""
        self._updated.append(handler)

    def on_delete(self, handler: Callable[[Obj], None]) -> None:
        """`handler(last known state)`."""
        self._deleted.append(handler)

    def on_change(self, handler: Callable[[Obj], None]) -> None:
        """One handler for all three, given the newest state known."""
        self.on_add(handler)
        self.on_update(lambda _, new: handler(new))
        self.on_delete(handler)

    # --- following the server ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps the cache current until cancelled; every error of the server is survived."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except Unreachable as error:
                log.warning("watch interrupted", resource=self.resource.group_resource, error=str(error))
                await self._client.reach.again(self._clock)
            except ApiError as error:
                if error.code == 410:
                    self._version = ""
                    continue
                log.warning("watch interrupted", resource=self.resource.group_resource, error=str(error))
                await self._pause()

    async def _pause(self) -> None:
        """Waits with jitter, so that a thousand informers do not come back in the same instant."""
        await self._clock.sleep(self._retry * random.uniform(0.7, 1.3))
        self._retry = min(self._retry * 2, LAST_RETRY)

    async def _list(self) -> None:
        listed = await self._whole()
        seen: set[str] = set()
        for obj in listed.items:
            seen.add(key(obj))
            self._store(obj)
        for gone in [known for known in self._objects if known not in seen]:
            self._remove(gone)
        self._version = listed.resource_version
        self._synced.set()

    async def _whole(self) -> ObjectList:
        """Everything there is, as it is kept."""
        selected = {"labels": self._labels, "fields": self._fields}
        if self._transform is None:
            return await self._client.list(self.resource, self._namespace, **selected, limit=500)
        items, version = [], ""
        async for page in self._client.pages(self.resource, self._namespace, **selected, limit=500):
            items += [self._transform(obj) for obj in page.items]
            version = page.resource_version
        return ObjectList(items, version)

    async def _follow(self) -> None:
        stream = self._client.watch(
            self.resource, self._namespace, labels=self._labels, fields=self._fields, since=self._version
        )
        async with stream:
            while events := await stream.batch():
                self._retry = FIRST_RETRY
                for event in events:
                    if event.type != "BOOKMARK":
                        obj = event.obj if self._transform is None else self._transform(event.obj)
                        if event.type == "DELETED":
                            self._remove(key(obj), obj)
                        else:
                            self._store(obj)
                    self._version = event.resource_version
        # A server that closes at once (shutting down) must not be asked again in a tight loop.
        await self._clock.sleep(FIRST_RETRY)

    def _store(self, obj: Obj) -> None:
        object_key = key(obj)
        old = self._objects.get(object_key)
        if old is not None and old["metadata"].get("resourceVersion") == obj["metadata"].get("resourceVersion"):
            return
        replaced = old is not None and old["metadata"].get("uid") != obj["metadata"].get("uid")
        if old is not None and replaced:
            # Deleted and created again between two lists: owners and workers must hear of both.
            self._remove(object_key)
            old = None
        if old is not None:
            self._unindex(object_key, old)
        self._objects[object_key] = obj
        for index, indexer in self._indexing:
            for value in indexer(obj):
                held = index.get(value)
                if held is None:
                    held = index[value] = {}
                held[object_key] = obj
        if old is None:
            for added in self._added:
                try:
                    added(obj)
                except Exception:
                    self._failed()
        else:
            for updated in self._updated:
                self._call(updated, old, obj)

    def _remove(self, object_key: str, last: Obj | None = None) -> None:
        old = self._objects.pop(object_key, None)
        if old is None:
            return
        self._unindex(object_key, old)
        for handler in self._deleted:
            self._call(handler, last or old)

    def _unindex(self, object_key: str, old: Obj) -> None:
        for index, indexer in self._indexing:
            for value in indexer(old):
                bucket = index.get(value)
                if bucket is not None:
                    bucket.pop(object_key, None)
                    if not bucket:
                        del index[value]

    def _call(self, handler: Callable[..., None], *arguments: Obj) -> None:
        try:
            handler(*arguments)
        except Exception:
            self._failed()

    def _failed(self) -> None:
        """One component's fault must not stop the cache that others share."""
        log.exception("informer handler failed", resource=self.resource.group_resource)
