"""Volumes have a phase; what was released is kept, or removed by the host that can."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from orca.api.builtin import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orca.api.errors import ApiError, is_not_found
from orca.api.finalizers import VOLUME_CONTENT
from orca.api.objects import Obj, finalizers, is_terminating, key, labels, meta, name, uid
from orca.api.times import format_time
from orca.api.volumes import BUILT_IN, LOCAL_PATH, PROVISIONED_BY, RECLAIM_ON, annotation, reachable_from
from orca.controllers.conditions import status_of
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter
from orca.controllers.persistentvolume.claims import EVENTS_FROM
from orca.controllers.persistentvolume.plan import claim_key, plan_volume, unbound

RECLAIM_RETRY_SECONDS = 15.0
RECLAIM_PATIENCE_SECONDS = 120.0
"""How long a host is given before another one is asked, where there is one: it may lack what a mount takes."""


class PersistentVolumeBinder(Controller):
    """Keys are volumes."""

    name = "persistentvolume-reclaim-controller"
    resource = PERSISTENTVOLUMES

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.recorder = context.recorder(EVENTS_FROM)
        self._volumes = self.caches.of(PERSISTENTVOLUMES)
        self._claims = self.caches.of(PERSISTENTVOLUMECLAIMS)
        self._nodes = self.caches.of(NODES)
        self._volumes.informer.on_add(self.enqueue)
        self._volumes.informer.on_update(lambda _, new: self.enqueue(new))
        self._volumes.informer.on_delete(self._gone)
        self._named: dict[str, float] = {}
        """Since when (monotonic) the host that a volume names has been named."""
        self._claims.informer.on_change(self._claim_changed)

    def _gone(self, volume: Obj) -> None:
        self._named.pop(key(volume), None)
        self.queue.forget(key(volume))

    def _claim_changed(self, claim: Obj) -> None:
        wanted = claim["spec"].get("volumeName")
        if wanted:
            self.queue.add(wanted)
        for volume in self._volumes.by_index("claim", key(claim)):
            self.enqueue(volume)

    async def sync(self, key: str) -> Outcome:
        """One volume."""
        volume = self._volumes.get(key)
        if volume is None:
            return DONE
        volume = await self._held(volume)
        claim = self._claims.get(claim_key(volume)) if claim_key(volume) else None
        plan = plan_volume(volume, claim)
        if plan.phase == "Released":
            # There is no way back, and the claim may have come just before the volume: only the server knows.
            plan = plan_volume(volume, await self._claim_now(volume))
        if plan.unbind:
            volume = await self._volumes.update(unbound(volume, wholly=plan.wholly))
            await self._set_phase(volume, "Available", "")
            return DONE
        if plan.phase:
            volume = await self._set_phase(volume, plan.phase, plan.message)
        if plan.phase == "Available" and is_terminating(volume) and annotation(volume, PROVISIONED_BY) in BUILT_IN:
            # Given up by no claim, it will never be Released, which alone has a host empty it: the directory stays.
            if VOLUME_CONTENT in finalizers(volume):
                await self._hold(volume, _without(finalizers(volume)))
            return DONE
        return await self._reclaim(volume) if plan.reclaim else DONE

    async def _held(self, volume: Obj) -> Obj:
        """With the finalizer that its reclaim policy calls for."""
        held = finalizers(volume)
        wanted = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        if annotation(volume, PROVISIONED_BY) not in BUILT_IN or wanted == (VOLUME_CONTENT in held):
            return volume
        if wanted and is_terminating(volume):
            return volume
        return await self._hold(volume, [*held, VOLUME_CONTENT] if wanted else _without(held))

    async def _hold(self, volume: Obj, wanted: list[str]) -> Obj:
        return await self._volumes.update({**volume, "metadata": {**meta(volume), "finalizers": wanted}})

    async def _claim_now(self, volume: Obj) -> Obj | None:
        """The claim that a volume is set aside for. Raises ApiError."""
        reference = volume["spec"]["claimRef"]
        try:
            return await self.client.get(PERSISTENTVOLUMECLAIMS, reference["name"], reference["namespace"])
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    async def _set_phase(self, volume: Obj, phase: str, message: str) -> Obj:
        status = volume.get("status") or {}
        if status.get("phase") == phase:
            return volume
        made = {**status, "phase": phase, "lastPhaseTransitionTime": format_time(self.clock.now())}
        made.pop("message", None)
        if message:
            made["message"] = message
        return await self._volumes.update_status(volume, made) or volume

    async def _reclaim(self, volume: Obj) -> Outcome:
        policy = volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain"
        provisioner = annotation(volume, PROVISIONED_BY)
        if policy == "Retain" or (volume.get("status") or {}).get("phase") == "Failed":
            return DONE
        if policy == "Recycle":
            await self._fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
            return DONE
        if provisioner in BUILT_IN:
            return await self._hand_over(volume, provisioner)
        if not provisioner:
            text = (
                f'error getting deleter volume plugin for volume "{name(volume)}": no deletable volume plugin matched'
            )
            await self._fail(volume, "VolumeFailedDelete", text)
        return DONE  # whoever made it sees that it is released

    async def _fail(self, volume: Obj, reason: str, message: str) -> None:
        await self._set_phase(volume, "Failed", message)
        self.recorder.event(volume, "Warning", reason, message)

    async def _hand_over(self, volume: Obj, provisioner: str) -> Outcome:
        """Name the host that removes what is on the volume, and then the volume."""
        if is_terminating(volume) and VOLUME_CONTENT not in finalizers(volume):
            return DONE
        able = [node for node in self._nodes.all() if reachable_from(volume, name(node), labels(node))]
        if not able and provisioner == LOCAL_PATH:
            # The host is gone for good, and with it what was on its disk.
            if VOLUME_CONTENT in finalizers(volume):
                volume = await self._hold(volume, _without(finalizers(volume)))
            await self._volumes.delete(volume)
            return DONE
        ready = sorted(name(node) for node in able if status_of(node, "Ready") == "True")
        since = self._named.setdefault(key(volume), self.clock.monotonic())
        late = self.clock.monotonic() - since >= RECLAIM_PATIENCE_SECONDS
        chosen = choose_host(volume, ready, labels(volume).get(RECLAIM_ON, ""), late=late)
        if chosen and chosen != labels(volume).get(RECLAIM_ON):
            self._named[key(volume)] = self.clock.monotonic()
            marked = {**labels(volume), RECLAIM_ON: chosen}
            await self._volumes.update({**volume, "metadata": {**meta(volume), "labels": marked}})
        return RetryAfter(RECLAIM_RETRY_SECONDS)


def choose_host(volume: Obj, ready: Sequence[str], named: str, *, late: bool) -> str:
    """Of the hosts that can remove what is on a volume the one that is named already, unless it is ``late``: then the
    next. Another volume begins with another host, so that no host has them all. "" when none is ready. Pure."""
    if not ready:
        return ""
    if named in ready:
        return ready[(ready.index(named) + 1) % len(ready)] if late else named
    return ready[zlib.crc32(uid(volume).encode()) % len(ready)]


def _without(held: Sequence[str]) -> list[str]:
    return [one for one in held if one != VOLUME_CONTENT]
