"""The Client of components inside the server: the same verbs, without HTTP and without copies.

Objects that come out are the cache's own: frozen. Objects that go in are copied once, because the verbs complete them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import orjson

from orca.api.errors import bad_request
from orca.api.objects import Obj, meta, namespace, thaw
from orca.api.resources import Resource
from orca.auth import UserInfo
from orca.client.base import Client, ObjectList, Patch, PatchKind, Propagation, WatchEvent, WatchStream
from orca.server.options import DeleteOptions, ListOptions, WriteOptions
from orca.server.patch_media import BY_KIND
from orca.server.verbs import Call, Verbs
from orca.server.verbs.core import without_managers
from orca.server.verbs.serving import AnyWatch
from orca.store import Event


class LocalClient(Client):
    """Acts as ``user``, who may do everything: it is the server itself."""

    def __init__(self, verbs: Verbs, user: UserInfo, manager: str = "kube-apiserver") -> None:
        self._verbs = verbs
        self._user = user
        self._manager = manager

    def __repr__(self) -> str:
        return f"<LocalClient {self._user.name}>"

    def named(self, manager: str) -> LocalClient:
        """The same client, whose writes belong to the field manager ``manager``."""
        return LocalClient(self._verbs, self._user, manager)

    def _call(self) -> Call:
        return Call(self._user, WriteOptions(field_validation="Strict"), trusted=True, manager=self._manager)

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        if subresource == "scale":
            return await self._verbs.get_scale(resource, name, namespace)
        return (await self._verbs.get(resource, name, namespace)).obj

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 0
    ) -> ObjectList:
        page = await self._verbs.list(resource, namespace, ListOptions(labels=labels, fields=fields))
        return ObjectList([entry.obj for entry in page.entries], str(page.revision))

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        since: str = "",
        bookmarks: bool = True,
    ) -> WatchStream:
        options = ListOptions(labels=labels, fields=fields, resource_version=since, bookmarks=bookmarks, watch=True)
        return LocalWatch(self._verbs, resource, namespace, options)

    async def create(self, resource: Resource, obj: Obj, namespace: str = "") -> Obj:
        space = namespace or _space(resource, obj)
        copy = thaw(obj)
        if resource.virtual:
            return await self._verbs.create_virtual(self._call(), resource, space, copy)
        return (await self._verbs.create(self._call(), resource, space, copy)).obj

    async def update(self, resource: Resource, obj: Obj, *, subresource: str = "") -> Obj:
        name, space = meta(obj).get("name") or "", _space(resource, obj)
        copy = thaw(without_managers(obj))  # the verbs keep them up
        if subresource == "scale":
            return await self._verbs.update_scale(self._call(), resource, name, space, copy)
        written = await self._verbs.update(self._call(), resource, name, space, copy, subresource=subresource)
        return written.entry.obj

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Patch,
        namespace: str = "",
        *,
        kind: PatchKind = "merge",
        subresource: str = "",
    ) -> Obj:
        body: Any = orjson.loads(orjson.dumps(patch))
        call = self._call()
        if kind == "apply":
            call.options.field_manager, call.options.force = self._manager, True
            if subresource == "scale":
                return await self._verbs.apply_scale(call, resource, name, namespace, body)
            written = await self._verbs.apply(call, resource, name, namespace, body, subresource=subresource)
            return written.entry.obj
        if subresource == "scale":
            return await self._verbs.patch_scale(call, resource, name, namespace, body, BY_KIND[kind])
        entry = await self._verbs.patch(call, resource, name, namespace, body, BY_KIND[kind], subresource=subresource)
        return entry.obj

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
        propagation: Propagation = "",
    ) -> Obj:
        options = DeleteOptions(grace_seconds, uid, resource_version, propagation)
        deleted = await self._verbs.delete(self._call(), resource, name, namespace, options)
        if deleted.entry is not None:
            return deleted.entry.obj
        assert deleted.status is not None
        return deleted.status

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        grace_seconds: int | None = None,
        propagation: Propagation = "",
    ) -> None:
        options = DeleteOptions(grace_seconds=grace_seconds, propagation=propagation)
        selection = ListOptions(labels=labels, fields=fields)
        await self._verbs.delete_collection(self._call(), resource, namespace, selection, options)

    async def create_sub(self, resource: Resource, name: str, namespace: str, subresource: str, body: Obj) -> Obj:
        return await self._verbs.create_sub(self._call(), resource, name, namespace, subresource, thaw(body))

    async def bind(self, binding: Obj, event: Obj | None = None) -> bool:
        return await self._verbs.bind(self._call(), binding, event)

    async def mark(self, pod: Obj, condition: Obj, *, nominated: str | None = None, event: Obj | None = None) -> bool:
        return await self._verbs.mark(self._call(), pod["metadata"], condition, nominated, event)

    async def disrupt(self, pod: Obj, condition: Obj, event: Obj | None = None) -> bool:
        return await self._verbs.disrupt(self._call(), pod["metadata"], condition, event)


class LocalWatch(WatchStream):
    """A watch on the store, in the Client's words. Bookmarks come as objects with kind and resourceVersion."""

    def __init__(self, verbs: Verbs, resource: Resource, space: str, options: ListOptions) -> None:
        self._verbs = verbs
        self._resource = resource
        self._space = space
        self._options = options
        self._watch: AnyWatch | None = None
        self._pending: deque[Event] = deque()
        self._closed = False

    async def __anext__(self) -> WatchEvent:
        if not self._pending:
            self._pending.extend(await self._next())
            if not self._pending:
                raise StopAsyncIteration
        event = self._pending.popleft()
        return WatchEvent(event.type, event.entry.obj)

    async def batch(self) -> list[WatchEvent]:
        events = [*self._pending] or await self._next()
        self._pending.clear()
        return [WatchEvent(event.type, event.entry.obj) for event in events]

    async def _next(self) -> list[Event]:
        """[] once it is closed."""
        if self._closed:
            return []
        if self._watch is None:
            self._watch = await self._verbs.watch(self._resource, self._space, self._options)
        found = await self._watch.batch()
        if not found:
            self._closed = True
        return found

    async def aclose(self) -> None:
        self._closed = True
        if self._watch is not None:
            await self._watch.aclose()


def _space(resource: Resource, obj: Obj) -> str:
    if not resource.namespaced:
        return ""
    space = namespace(obj)
    if not space:
        raise bad_request("an empty namespace may not be set during creation")
    return space
