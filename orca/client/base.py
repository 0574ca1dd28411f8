"""The one interface through which components use the API, whatever the transport.

Transports: `orca.client.http.HttpsClient` (agents, tools), `orca.server.local.LocalClient` (controllers and
scheduler inside `orca server`) and `orca.client.fake.FakeClient` (tests). They pass the same contract tests.

Every method raises `orca.api.errors.ApiError` for what the server answered, and for a server that cannot be reached
an `ApiError` with code 503 (reason ServiceUnavailable), so that callers know one family of errors only.

Objects that come out of a client are FROZEN by convention: other components may hold the same dict. Build a new one
to change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Literal, NamedTuple, TypeAlias

from orca.api.builtin import EVENTS, PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.client.reach import Reach

PatchKind = Literal["merge", "json", "strategic", "apply"]
"""merge (RFC 7386), json (RFC 6902, the patch is a list), strategic, apply (server-side apply, forced)."""

Patch: TypeAlias = Obj | list[Obj]

Propagation = Literal["", "Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class ObjectList:
    """One consistent list: `resource_version` is where a watch continues without gap or repetition."""

    items: list[Obj]
    resource_version: str

    def __len__(self) -> int:
        return len(self.items)


class WatchEvent(NamedTuple):
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK (`obj` then carries only kind and metadata.resourceVersion)."""

    type: str
    obj: Obj

    @property
    def resource_version(self) -> str:
        version: str = self.obj["metadata"]["resourceVersion"]
        return version


class WatchStream(ABC):
    """A running watch.

        async with client.watch(PODS, since=listed.resource_version) as events:
            async for event in events:
                ...

    The connection is made at the first `__anext__`. Iteration ends without an error when the server closes the stream
    (resume with the last resourceVersion seen) and raises ApiError 410 when `since` is too old (list again), 503 when
    the peer went away.
    """

    @abstractmethod
    async def __anext__(self) -> WatchEvent: ...

    async def batch(self) -> list[WatchEvent]:
        """What has come, at least one event, without waiting for more; [] when the server has closed the stream."""
        try:
            return [await self.__anext__()]
        except StopAsyncIteration:
            return []

    @abstractmethod
    async def aclose(self) -> None:
        """Ends the watch and frees its connection. May be called more than once."""

    def __aiter__(self) -> AsyncIterator[WatchEvent]:
        return self

    async def __aenter__(self) -> WatchStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Client(ABC):
    """Verbs of the API. `namespace=""` means cluster scope, or for list, watch and delete_collection all namespaces."""

    @cached_property
    def reach(self) -> Reach:
        """How those who use this client come back to a server that was away."""
        return Reach()

    @abstractmethod
    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        """The object, or its `scale` when asked for. ApiError 404 when there is none."""

    @abstractmethod
    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 0
    ) -> ObjectList:
        """All matching objects. `limit` > 0 is a page size; pages are joined, the answer is always complete."""

    async def pages(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 500
    ) -> AsyncIterator[ObjectList]:
        """What `list` answers, a page at a time, for those who keep little of each object. ApiError 410 when the server
        has forgotten meanwhile what it was about to tell: what came before counts for nothing then."""
        yield await self.list(resource, namespace, labels=labels, fields=fields, limit=limit)

    @abstractmethod
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
        """Changes after resourceVersion `since`; with "" first an ADDED for everything that exists."""

    @abstractmethod
    async def create(self, resource: Resource, obj: Obj, namespace: str = "") -> Obj:
        """Creates; the namespace defaults to the object's. ApiError 409 AlreadyExists. Answers what was stored."""

    @abstractmethod
    async def update(self, resource: Resource, obj: Obj, *, subresource: str = "") -> Obj:
        """Replaces, by the object's own name and namespace. 409 Conflict when its resourceVersion is set and old."""

    @abstractmethod
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
        """Changes part of an object. A metadata.resourceVersion in the patch is a precondition (409)."""

    @abstractmethod
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
        """Deletes or, with finalizers or a grace period, marks for deletion. 404 when absent, 409 when a precondition
        fails. Answers the object, or a Status when it is gone."""

    @abstractmethod
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
        """Deletes all that match."""

    @abstractmethod
    async def create_sub(self, resource: Resource, name: str, namespace: str, subresource: str, body: Obj) -> Obj:
        """POST to a subresource: binding, eviction, token."""

    async def bind(self, binding: Obj, event: Obj | None = None) -> bool:
        """Give a pod, the binding's namesake, to its ``target``, and tell it by ``event``: with the very write that
        binds where the transport can, else after it. False when it could not be told, or not at once: then it is left
        to the caller. ApiError as for `create_sub`."""
        metadata = binding["metadata"]
        await self.create_sub(PODS, metadata["name"], metadata["namespace"], "binding", binding)
        return await self._tell(event)

    async def _tell(self, event: Obj | None) -> bool:
        if event is not None:
            with suppress(ApiError):
                await self.create(EVENTS, event)
                return True
        return False

    async def mark(self, pod: Obj, condition: Obj, *, nominated: str | None = None, event: Obj | None = None) -> bool:
        """Set one condition of exactly this pod (of which at least name, namespace and uid are known), and with
        `nominated` the node on which room is made for it, "" for none, and tell it by ``event`` as `bind` does.
        ApiError 404, 409 when it is another one now."""
        metadata = pod["metadata"]
        status: Obj = {"conditions": [condition]}
        if nominated is not None:
            status["nominatedNodeName"] = nominated or None
        patch = {"metadata": {"uid": metadata["uid"]}, "status": status}
        await self.patch(PODS, metadata["name"], patch, metadata["namespace"], kind="strategic", subresource="status")
        return await self._tell(event)

    async def disrupt(self, pod: Obj, condition: Obj, event: Obj | None = None) -> bool:
        """Set a condition of exactly this pod (of which at least name, namespace and uid are known) that says why it
        has to go, delete it, and tell it by ``event``: all in one write where the transport can. False when it could
        not be told, or not at once: then it is left to the caller. ApiError 404, 409 when it is another one now."""
        metadata = pod["metadata"]
        await self.mark(pod, condition)
        await self.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        return await self._tell(event)

    async def aclose(self) -> None:  # noqa: B027 - transports without connections have nothing to do
        """Frees connections."""
