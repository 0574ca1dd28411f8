"""A client for what has to start before it is known who it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.client.base import Client, ObjectList, Patch, PatchKind, Propagation, WatchStream
from orca.client.reach import Reach, Unreachable


class LateClient(Client):
    """Until `use` is called, every call is answered as by a server that cannot be reached (503)."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._nobody = Reach()

    def __repr__(self) -> str:
        return f"<LateClient {self._client or 'of nobody yet'}>"

    def use(self, client: Client) -> None:
        """Hand every call to `client` from now on; it is closed with this one."""
        self._client = client
        self._nobody.heard()

    @property
    def reach(self) -> Reach:
        return self._nobody if self._client is None else self._client.reach

    @property
    def _now(self) -> Client:
        if self._client is None:
            raise Unreachable("this host has not joined a cluster yet")
        return self._client

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        return await self._now.get(resource, name, namespace, subresource=subresource)

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 0
    ) -> ObjectList:
        return await self._now.list(resource, namespace, labels=labels, fields=fields, limit=limit)

    async def pages(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 500
    ) -> AsyncIterator[ObjectList]:
        async for page in self._now.pages(resource, namespace, labels=labels, fields=fields, limit=limit):
            yield page

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
        return self._now.watch(resource, namespace, labels=labels, fields=fields, since=since, bookmarks=bookmarks)

    async def create(self, resource: Resource, obj: Obj, namespace: str = "") -> Obj:
        return await self._now.create(resource, obj, namespace)

    async def update(self, resource: Resource, obj: Obj, *, subresource: str = "") -> Obj:
        return await self._now.update(resource, obj, subresource=subresource)

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
        return await self._now.patch(resource, name, patch, namespace, kind=kind, subresource=subresource)

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
        return await self._now.delete(
            resource,
            name,
            namespace,
            uid=uid,
            resource_version=resource_version,
            grace_seconds=grace_seconds,
            propagation=propagation,
        )

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
        await self._now.delete_collection(
            resource,
            namespace,
            labels=labels,
            fields=fields,
            grace_seconds=grace_seconds,
            propagation=propagation,
        )

    async def create_sub(self, resource: Resource, name: str, namespace: str, subresource: str, body: Obj) -> Obj:
        return await self._now.create_sub(resource, name, namespace, subresource, body)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
