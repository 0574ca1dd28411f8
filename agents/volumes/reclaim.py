"""Removes what is on volumes that nobody has any more, where this host was named for it, and then the volumes."""

from __future__ import annotations

import asyncio

import structlog

from agents.volumes.errors import VolumeError
from agents.volumes.provisioned import Exports, remove_directory
from orca.api.builtin import PERSISTENTVOLUMES
from orca.api.errors import ApiError, is_not_found
from orca.api.finalizers import VOLUME_CONTENT
from orca.api.objects import Obj, finalizers, is_terminating, key, name, uid
from orca.api.volumes import LOCAL_PATH, NFS_SUBDIR, PROVISIONED_BY, RECLAIM_ON, annotation
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.informer import Informer
from orca.client.workqueue import DONE, Outcome, RetryAfter, WorkQueue

log = structlog.get_logger()

WORKERS = 2


class Reclaimer:
    """``run`` until cancelled. Nothing but one watch while no volume is to be removed."""

    def __init__(
        self, client: Client, node_name: str, *, exports: Exports, recorder: EventRecorder, clock: Clock
    ) -> None:
        self._client = client
        self._exports = exports
        self._recorder = recorder
        self._volumes = Informer(client, PERSISTENTVOLUMES, labels=f"{RECLAIM_ON}={node_name}", clock=clock)
        self._queue = WorkQueue(self._sync, clock=clock, workers=WORKERS, name="volume reclaim")
        self._volumes.on_add(lambda volume: self._queue.add(key(volume)))
        self._volumes.on_update(lambda _, volume: self._queue.add(key(volume)))
        self._volumes.on_delete(lambda volume: self._queue.forget(key(volume)))

    def __repr__(self) -> str:
        return f"<Reclaimer of {len(self._volumes)} volumes>"

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._volumes.run())
            group.create_task(self._queue.run())

    async def _sync(self, volume_key: str) -> Outcome:
        volume = self._volumes.get(volume_key)
        if volume is None or not _is_to_go(volume):
            return DONE
        try:
            # It is for good: somebody may have said otherwise since the watch told of it.
            volume = await self._client.get(PERSISTENTVOLUMES, name(volume))
        except ApiError as error:
            return DONE if is_not_found(error) else RetryAfter()
        if not _is_to_go(volume):
            return DONE
        try:
            await self._remove(volume)
        except (VolumeError, OSError) as error:
            log.warning("a released volume could not be removed", volume=name(volume), error=str(error))
            self._recorder.event(volume, "Warning", "VolumeFailedDelete", str(error))
            return RetryAfter()
        try:
            await self._delete(volume)
        except ApiError as error:
            if not is_not_found(error):
                log.warning("a released volume could not be deleted", volume=name(volume), error=str(error))
                return RetryAfter()
        return DONE

    async def _delete(self, volume: Obj) -> None:
        """And only then let go of it: whoever dies in between finds it again. Raises ApiError."""
        if not is_terminating(volume):
            await self._client.delete(PERSISTENTVOLUMES, name(volume), uid=uid(volume))
        if VOLUME_CONTENT in finalizers(volume):
            volume = await self._client.get(PERSISTENTVOLUMES, name(volume))
            kept = [one for one in finalizers(volume) if one != VOLUME_CONTENT]
            change = {"finalizers": kept or None, "resourceVersion": volume["metadata"]["resourceVersion"]}
            await self._client.patch(PERSISTENTVOLUMES, name(volume), {"metadata": change})

    async def _remove(self, volume: Obj) -> None:
        provisioner = annotation(volume, PROVISIONED_BY)
        if provisioner == LOCAL_PATH:
            await asyncio.to_thread(remove_directory, volume)
        elif provisioner == NFS_SUBDIR:
            await self._exports.remove_directory(volume)
        else:
            raise VolumeError(f"volumes of {provisioner or 'nobody'} are not removed by hosts")


def _is_to_go(volume: Obj) -> bool:
    """Whether what is on a volume is nobody's. The label alone does not say so: it stays when somebody decides to
    retain the volume, or gives it to another claim."""
    released = (volume.get("status") or {}).get("phase") == "Released"
    # One that somebody deleted before its claim went is still there for this.
    held = not is_terminating(volume) or VOLUME_CONTENT in finalizers(volume)
    return released and held and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
