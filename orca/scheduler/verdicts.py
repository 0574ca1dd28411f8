"""Carries out what was decided about a pod that no node was found for: condition, event, the end of its victims."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from orca.api.builtin import PODS
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, key, meta, name, namespace, uid
from orca.api.times import format_time
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.scheduler.decision import Decision
from orca.scheduler.preemption import Preemption
from orca.scheduler.snapshot import Placed

log = structlog.get_logger()


class Verdicts:
    """Writes only what says something new."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def tell(self, pod: Obj, decision: Decision, preemption: Preemption, events: EventRecorder) -> bool:
        """Why there is no node, and the victims' end. False when a victim could not be ended."""
        leaving = [one for one in preemption.victims if not one.terminating]
        _, *ended = await asyncio.gather(
            self._explain(pod, decision, preemption, events),
            *(self._end(pod, one, preemption.node, events) for one in leaving),
        )
        return all(ended)

    async def _explain(self, pod: Obj, decision: Decision, preemption: Preemption, events: EventRecorder) -> None:
        message = decision.message()
        saying = (pod, "Warning", "FailedScheduling", message)
        status = pod.get("status") or {}
        conditions = status.get("conditions") or []
        old: Obj = next((one for one in conditions if one["type"] == "PodScheduled"), {})
        generation = meta(pod).get("generation")
        same = (old.get("status"), old.get("reason"), old.get("message")) == ("False", "Unschedulable", message)
        same = same and old.get("observedGeneration") == generation
        nominated = status.get("nominatedNodeName") or ""
        if same and preemption.node == nominated:
            events.event(*saying)
            return
        moment = format_time(self._clock.now())
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": moment if old.get("status") != "False" else old.get("lastTransitionTime", moment),
        }
        if generation:
            condition["observedGeneration"] = generation
        waits = decision.preemption.startswith("not eligible due to a terminating")
        renamed = preemption.node if preemption.node != nominated and not waits else None
        with self._best_effort(pod), events.telling(*saying) as telling:
            telling.done = await self._client.mark(pod, condition, nominated=renamed, event=telling.event)

    async def withdraw(self, pod: Obj) -> None:
        """Room that was made for a pod goes to a more important one."""
        patch = {"metadata": {"uid": uid(pod)}, "status": {"nominatedNodeName": None}}
        with self._best_effort(pod):
            await self._client.patch(PODS, name(pod), patch, namespace(pod), kind="strategic", subresource="status")

    @contextmanager
    def _best_effort(self, pod: Obj) -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            if not (is_not_found(error) or is_conflict(error)):
                log.warning("condition not written", pod=key(pod), error=str(error))

    async def _end(self, pod: Obj, victim: Placed, node: str, events: EventRecorder) -> bool:
        space, _, victim_name = victim.key.partition("/")
        scheduler = pod["spec"].get("schedulerName") or "default-scheduler"
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{scheduler}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": format_time(self._clock.now()),
        }
        reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": victim_name, "namespace": space, "uid": victim.uid},
        }
        message = f"Preempted by pod {uid(pod)} on node {node}"
        try:
            preempted = events.new(reference, "Normal", "Preempted", message)
            if not await self._client.disrupt(reference, condition, preempted):
                events.event(reference, "Normal", "Preempted", message)
        except ApiError as error:
            # Not there any longer, or another by now: then it is gone.
            gone = is_not_found(error) or is_conflict(error)
            if not gone:
                log.warning("preemption failed", victim=victim.key, error=str(error))
            return gone
        return True
