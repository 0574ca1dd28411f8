"""Where what became of a pod is written, and asked whether a pod still exists: the API for pods that came from it.

Pods of other sources (files) bring a ``PodRecords`` of their own, which writes to the mirror pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from orca.api.builtin import PODS
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, name, namespace, uid
from orca.client.base import Client


class PodSource(Protocol):
    """This host's pods: the part of an ``orca.client.Informer`` that the pods room uses."""

    def get(self, object_key: str) -> Obj | None: ...

    def list(self) -> Iterable[Obj]: ...

    def on_add(self, handler: Callable[[Obj], None]) -> None:
        """``handler`` also hears of every pod there is already."""

    def on_update(self, handler: Callable[[Obj, Obj], None]) -> None: ...

    def on_delete(self, handler: Callable[[Obj], None]) -> None:
        """The pod is no longer wanted: whatever runs of it is ended within its grace period."""

    async def synced(self) -> None:
        """Returns once ``list`` tells every pod that can be known by now. A container whose pod is not in it, and
        that ``PodRecords.current_uid`` does not tell of either, is taken down."""

    async def run(self) -> None: ...


class PodRecords(Protocol):
    """What is told about pods. Every method raises ``ApiError``."""

    async def write_status(self, pod: Obj, patch: Obj) -> Obj:
        """Apply a strategic merge patch to the status; the pod as it is then."""

    async def delete(self, pod: Obj) -> None:
        """Nothing is left of the pod here: remove its object. Harmless when that is gone, or another pod's."""

    async def current_uid(self, pod_namespace: str, pod_name: str) -> str:
        """Uid of the pod that has the name now, "" when there is none."""


class ApiRecords:
    """``PodRecords`` of pods that came from the API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def write_status(self, pod: Obj, patch: Obj) -> Obj:
        return await self._client.patch(PODS, name(pod), patch, namespace(pod), kind="strategic", subresource="status")

    async def delete(self, pod: Obj) -> None:
        try:
            await self._client.delete(PODS, name(pod), namespace(pod), uid=uid(pod), grace_seconds=0)
        except ApiError as error:
            if not is_not_found(error) and not is_conflict(error):
                raise

    async def current_uid(self, pod_namespace: str, pod_name: str) -> str:
        try:
            return uid(await self._client.get(PODS, pod_name, pod_namespace))
        except ApiError as error:
            if is_not_found(error):
                return ""
            raise
