"""ConfigMaps and Secrets that pods of this host use, each watched by its own name while a pod uses it.

By name, because a node may read only what its pods refer to: it has no right to list a namespace. An immutable one is
watched no longer, once it was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.informer import Informer

SYNC_SECONDS = 20.0

Reference = tuple[Resource, str, str]
"""Resource, namespace, name."""


@dataclass(slots=True)
class _Watched:
    informer: Informer
    task: asyncio.Task[None]
    users: set[str] = field(default_factory=set)
    last: Obj | None = None
    """What an immutable object is for good."""


class ObjectSource:
    """Answers from the watches. `on_change` is told the uids of the pods that use a changed object."""

    def __init__(self, client: Client, clock: Clock, on_change: Callable[[set[str]], None]) -> None:
        self._client = client
        self._clock = clock
        self._on_change = on_change
        self._watched: dict[Reference, _Watched] = {}

    def __repr__(self) -> str:
        return f"<ObjectSource watching {len(self._watched)}>"

    def __len__(self) -> int:
        return len(self._watched)

    async def get(self, resource: Resource, namespace: str, name: str, *, user: str) -> Obj | None:
        """The object, None when there is none; from now on `user` (a pod's uid) is told of changes.

        Raises ApiError when the server refuses, TimeoutError when it does not answer.
        """
        reference = (resource, namespace, name)
        watched = self._watched.get(reference)
        if watched is None:
            watched = self._watched[reference] = self._watch(reference)
        watched.users.add(user)
        if watched.last is not None:
            return watched.last
        async with asyncio.timeout(SYNC_SECONDS):
            await watched.informer.synced()
        found = watched.informer.get(f"{namespace}/{name}")
        if found is not None:
            return found
        # A watch may lag behind the pod that was created just after its ConfigMap: ask once.
        try:
            return await self._client.get(resource, name, namespace)
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    def release(self, user: str) -> None:
        """The pod is gone: end watches that nobody else needs."""
        for reference, watched in list(self._watched.items()):
            watched.users.discard(user)
            if not watched.users:
                del self._watched[reference]
                watched.task.cancel()

    async def close(self) -> None:
        tasks = [watched.task for watched in self._watched.values()]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, reference: Reference) -> _Watched:
        resource, namespace, name = reference
        informer = Informer(
            self._client, resource, namespace=namespace, fields=f"metadata.name={name}", clock=self._clock
        )
        task = asyncio.create_task(informer.run(), name=f"watch {resource.plural} {namespace}/{name}")
        watched = _Watched(informer, task)

        def changed(_: Obj) -> None:
            found = informer.get(f"{namespace}/{name}")
            if found is not None and found.get("immutable"):
                watched.last = found
                task.cancel()
            self._on_change(set(watched.users))

        informer.on_change(changed)
        return watched
