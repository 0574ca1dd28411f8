"""Carries out what was decided about a pod's volumes, before the pod is bound.

Reference: k8s.io/kubernetes ``pkg/scheduler/framework/plugins/volumebinding`` (PreBind).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orca.api.objects import Obj, annotations, key, meta, name, namespace, uid
from orca.api.volumes import BOUND_BY_CONTROLLER, SELECTED_NODE, annotation, is_bound, refers_to
from orca.client.base import Client
from orca.client.clock import Clock
from orca.scheduler.volumes import VolumePlan, Volumes


class VolumesNotBound(Exception):
    """The volumes did not come; the text says why."""


class VolumeBinder:
    """``changed`` has to be called for every claim that changes or goes."""

    def __init__(self, client: Client, storage: Volumes, clock: Clock) -> None:
        self._client = client
        self._storage = storage
        self._clock = clock
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def changed(self, claim: Obj) -> None:
        """Wake whoever waits for this claim."""
        for event in self._waiting.get(key(claim), ()):
            event.set()

    async def bind(self, plan: VolumePlan, node: str, alive: Callable[[], bool], seconds: float) -> None:
        """Write what was decided and wait until all claims are bound, as long as the pod is there to want them,
        and for so many seconds at most.

        Raises VolumesNotBound, ApiError.
        """
        for claim, volume in plan.static:
            if not refers_to(volume, claim) or not volume["spec"]["claimRef"].get("uid"):
                await self._client.update(PERSISTENTVOLUMES, _set_aside(volume, claim))
        for claim in plan.dynamic:
            if annotation(claim, SELECTED_NODE) != node:
                marks = {**annotations(claim), SELECTED_NODE: node}
                await self._client.update(
                    PERSISTENTVOLUMECLAIMS, {**claim, "metadata": {**meta(claim), "annotations": marks}}
                )
        wanted = [key(claim) for claim in plan.claims]
        event = asyncio.Event()
        for one in wanted:
            self._waiting.setdefault(one, set()).add(event)
        try:
            await self._wait(wanted, event, alive, seconds, {key(claim): node for claim in plan.dynamic})
        finally:
            for one in wanted:
                self._waiting[one].discard(event)
                if not self._waiting[one]:
                    del self._waiting[one]

    async def _wait(
        self,
        wanted: list[str],
        event: asyncio.Event,
        alive: Callable[[], bool],
        seconds: float,
        chosen: Mapping[str, str],
    ) -> None:
        """``chosen``: the node by claim whose volume has to be made."""
        told: set[str] = set()
        expired = asyncio.Event()
        timer = asyncio.create_task(self._after(seconds, event, expired))
        try:
            while not all(self._is_bound(one) for one in wanted):
                if not alive():
                    raise VolumesNotBound("the pod is gone")
                if expired.is_set():
                    raise VolumesNotBound("timed out waiting for the condition")
                for one, node in chosen.items():
                    claim = self._storage.claims.get(one)
                    if claim is not None and annotation(claim, SELECTED_NODE) == node:
                        told.add(one)
                    elif one in told and claim is not None and not is_bound(claim):
                        # Whoever was to make the volume takes the node's name away when it cannot there.
                        raise VolumesNotBound(f'provisioning failed for PVC "{one.rpartition("/")[2]}"')
                event.clear()
                await event.wait()
        finally:
            timer.cancel()

    async def _after(self, seconds: float, event: asyncio.Event, expired: asyncio.Event) -> None:
        await self._clock.sleep(seconds)
        expired.set()
        event.set()

    def _is_bound(self, claim_key: str) -> bool:
        claim = self._storage.claims.get(claim_key)
        if claim is None:
            raise VolumesNotBound(f'persistentvolumeclaim "{claim_key.rpartition("/")[2]}" not found')
        return is_bound(claim)

    def gone(self, claim_keys: Iterable[str]) -> None:
        """A pod that used these claims is gone: whoever waits for it looks again."""
        for one in claim_keys:
            for event in self._waiting.get(one, ()):
                event.set()


def _set_aside(volume: Obj, claim: Obj) -> Obj:
    reference = {
        "kind": PERSISTENTVOLUMECLAIMS.kind,
        "apiVersion": PERSISTENTVOLUMECLAIMS.api_version,
        "namespace": namespace(claim),
        "name": name(claim),
        "uid": uid(claim),
        "resourceVersion": meta(claim).get("resourceVersion"),
    }
    marks = {**annotations(volume), BOUND_BY_CONTROLLER: "yes"}
    return {
        **volume,
        "metadata": {**meta(volume), "annotations": marks},
        "spec": {**volume["spec"], "claimRef": reference},
    }
