"""The scheduler at work: watches keep the snapshot and the queue current, one loop decides, bindings go out beside it.

A decision is taken in one go without waiting, so nothing changes under it; what it chose is counted at once ("assumed")
and taken back when the binding fails. Pods of other schedulers and pods with scheduling gates are left alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import structlog

from orca.api.builtin import NAMESPACES, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, is_terminating, key, name, namespace, uid
from orca.api.podphase import is_finished
from orca.api.times import format_time
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.informer import Informer
from orca.scheduler.binding import VolumeBinder, VolumesNotBound
from orca.scheduler.budgets import Budgets
from orca.scheduler.decision import Decision, decide
from orca.scheduler.filters import Task
from orca.scheduler.preemption import Preemption, find
from orca.scheduler.queue import SchedulingQueue
from orca.scheduler.shape import Requests
from orca.scheduler.siblings import Siblings
from orca.scheduler.snapshot import Placed, Snapshot
from orca.scheduler.volumes import VolumePlan, claim_keys

log = structlog.get_logger()

EXPLANATIONS = 2000
FREED = frozenset(("NodeResourcesFit", "NodePorts", "PodTopologySpread", "InterPodAffinity", "VolumeRestrictions"))
VOLUMES = frozenset(("VolumeBinding", "VolumeZone"))
JOINED = frozenset(("PodTopologySpread", "InterPodAffinity"))


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """`bindings`: how many are under way at the same time."""

    name: str = "default-scheduler"
    bindings: int = 32


class Scheduler:
    """Run it with `run`; `explain` tells how the last decision about a pod came about."""

    def __init__(self, client: Client, *, clock: Clock, config: SchedulerConfig | None = None) -> None:
        self.config = config or SchedulerConfig()
        self.snapshot = Snapshot()
        self.queue = SchedulingQueue(clock)
        self._client = client
        self._clock = clock
        self._events = EventRecorder(client, self.config.name, clock=clock)
        self._pods = Informer(client, PODS, clock=clock)
        self._nodes = Informer(client, NODES, clock=clock)
        self._namespaces = Informer(client, NAMESPACES, clock=clock)
        self._claims = Informer(client, PERSISTENTVOLUMECLAIMS, clock=clock)
        self._volumes = Informer(client, PERSISTENTVOLUMES, clock=clock)
        self._classes = Informer(client, STORAGECLASSES, clock=clock)
        self._binder = VolumeBinder(client, self.snapshot.storage, clock)
        self._siblings = Siblings(client, clock)
        self._budgets = Budgets(client, clock)
        self._nominated: dict[str, tuple[Obj, str]] = {}
        self._explanations: OrderedDict[str, Decision] = OrderedDict()
        self._assumed: dict[str, str] = {}
        self._slots = asyncio.Semaphore(self.config.bindings)
        self._bindings: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._listen()

    def __repr__(self) -> str:
        return f"<Scheduler {self.config.name}: {self.snapshot}, {self.queue}>"

    def explain(self, pod_key: str) -> Decision | None:
        """The last decision about "namespace/name"."""
        return self._explanations.get(pod_key)

    async def run(self) -> None:
        """Schedules until cancelled."""
        informers = [
            self._nodes,
            self._pods,
            self._namespaces,
            self._claims,
            self._volumes,
            self._classes,
            *self._siblings.informers,
            self._budgets.informer,
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for informer in informers:
                    group.create_task(informer.run())
                for informer in informers:
                    await informer.synced()
                log.info("scheduling", name=self.config.name, nodes=len(self._nodes), pods=len(self._pods))
                while True:
                    await self.queue.ready()
                    await self._one()
        finally:
            for binding in self._bindings:
                binding.cancel()

    # --- what happens in the cluster ---------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._pods.on_add(self._pod)
        self._pods.on_update(lambda _, pod: self._pod(pod))
        self._pods.on_delete(self._pod_gone)
        self._nodes.on_add(self._node_added)
        self._nodes.on_update(self._node_changed)
        self._nodes.on_delete(lambda node: self.snapshot.remove_node(name(node)))
        self._namespaces.on_add(self.snapshot.set_namespace)
        self._namespaces.on_update(lambda _, space: self.snapshot.set_namespace(space))
        self._namespaces.on_delete(lambda space: self.snapshot.remove_namespace(name(space)))
        self._claims.on_add(self._claim)
        self._claims.on_update(lambda _, claim: self._claim(claim))
        self._claims.on_delete(self._claim_gone)
        self._volumes.on_add(self._volume)
        self._volumes.on_update(lambda _, one: self._volume(one))
        self._volumes.on_delete(self.snapshot.storage.remove_volume)
        self._classes.on_add(self._class)
        self._classes.on_update(lambda _, one: self._class(one))
        self._classes.on_delete(self.snapshot.storage.remove_class)

    def _claim(self, claim: Obj) -> None:
        self.snapshot.storage.set_claim(claim)
        self._binder.changed(claim)
        self.queue.helped(VOLUMES)

    def _claim_gone(self, claim: Obj) -> None:
        self.snapshot.storage.remove_claim(claim)
        self._binder.changed(claim)

    def _volume(self, volume: Obj) -> None:
        self.snapshot.storage.set_volume(volume)
        self.queue.helped(VOLUMES)

    def _class(self, storage_class: Obj) -> None:
        self.snapshot.storage.set_class(storage_class)
        self.queue.helped(VOLUMES)

    def _pod(self, pod: Obj) -> None:
        spec = pod["spec"]
        if is_finished(pod):
            self._pod_gone(pod)
        elif spec.get("nodeName"):
            known = self.snapshot.placed.get(uid(pod))
            self._assumed.pop(uid(pod), None)
            self.queue.remove(uid(pod))
            self.snapshot.place(pod, spec["nodeName"])
            placed = self.snapshot.placed[uid(pod)]
            if known is None or known.labels != placed.labels:
                self.queue.helped(JOINED)
            if known is not None and _shrank(known.shape.requests, placed.shape.requests):
                self.queue.helped(FREED)
        elif self._mine(pod):
            if uid(pod) not in self._assumed:
                self.queue.add(pod)
        else:
            self.queue.remove(uid(pod))

    def _mine(self, pod: Obj) -> bool:
        spec = pod["spec"]
        wanted = spec.get("schedulerName") or "default-scheduler"
        return wanted == self.config.name and not spec.get("schedulingGates") and not is_terminating(pod)

    def _pod_gone(self, pod: Obj) -> None:
        self.queue.remove(uid(pod))
        self._nominated.pop(uid(pod), None)
        if self._assumed.pop(uid(pod), None) is not None:
            self._binder.gone(claim_keys(pod))
        if self.snapshot.remove(uid(pod)) is not None:
            self.queue.helped(FREED)

    def _node_added(self, node: Obj) -> None:
        self.snapshot.set_node(node)
        self.queue.helped(None)

    def _node_changed(self, old: Obj, node: Obj) -> None:
        self.snapshot.set_node(node)
        rules = set()
        if (old.get("status") or {}).get("allocatable") != (node.get("status") or {}).get("allocatable"):
            rules.add("NodeResourcesFit")
        if old["metadata"].get("labels") != node["metadata"].get("labels"):
            rules |= {"NodeAffinity", "PodTopologySpread", "InterPodAffinity"}
        for part, names in (("taints", {"TaintToleration"}), ("unschedulable", {"NodeUnschedulable"})):
            if (old.get("spec") or {}).get(part) != (node.get("spec") or {}).get(part):
                rules |= names | {"PodTopologySpread"}
        if rules:
            self.queue.helped(frozenset(rules))

    # --- deciding ----------------------------------------------------------------------------------------------------

    async def _one(self) -> None:
        await self._slots.acquire()
        waiting = self.queue.pop()
        if waiting is None:
            self._slots.release()
            return
        pod = waiting.pod
        try:
            decision = self._decide(pod)
        except Exception:
            # A pod that cannot be judged must not stop the others.
            log.exception("deciding failed", pod=key(pod))
            self.queue.failed(uid(pod), frozenset())
            self._slots.release()
            return
        if decision.node:
            self.snapshot.place(pod, decision.node)
            self._assumed[uid(pod)] = decision.node
            volumes = self._reserve(pod, decision.node)
            if volumes:
                # It waits for others, maybe for minutes, and must not hold up who needs no volume.
                self._slots.release()
                waiting_for_volumes = asyncio.create_task(self._bind_with(volumes, pod, decision.node))
                self._bindings.add(waiting_for_volumes)
                waiting_for_volumes.add_done_callback(self._bindings.discard)
                return
            work = self._bind(pod, decision.node)
        else:
            preemption = self._preempt(pod, decision)
            self.queue.failed(uid(pod), frozenset(decision.rules) or frozenset(("NoNodes",)))
            work = self._tell(pod, decision, preemption)
        task = asyncio.create_task(work)
        self._bindings.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._bindings.discard(task)
        self._slots.release()

    def _decide(self, pod: Obj) -> Decision:
        selector = None
        if not pod["spec"].get("topologySpreadConstraints"):
            selector = self._siblings.selector(pod)
        self._turn += 1
        # Room that was made for a pod of at least this priority is not free.
        priority = int(pod["spec"].get("priority") or 0)
        others = [
            (other, node)
            for other, node in self._nominated.values()
            if uid(other) != uid(pod)
            and uid(other) not in self.snapshot.placed
            and int(other["spec"].get("priority") or 0) >= priority
        ]
        for other, node in others:
            self.snapshot.place(other, node)
        try:
            decision = decide(Task.of(pod, selector), self.snapshot, self._turn)
        finally:
            for other, _ in others:
                self.snapshot.remove(uid(other))
        decision.at = self._clock.now()
        self._explanations[key(pod)] = decision
        self._explanations.move_to_end(key(pod))
        if len(self._explanations) > EXPLANATIONS:
            self._explanations.popitem(last=False)
        return decision

    def _preempt(self, pod: Obj, decision: Decision) -> Preemption:
        nominated = self._nominated.get(uid(pod))
        if nominated is not None:
            leaving = (one for one in self.snapshot.by_node.get(nominated[1], {}).values() if one.terminating)
            if any(one.priority < int(pod["spec"].get("priority") or 0) for one in leaving):
                decision.preemption = "not eligible due to a terminating pod on the nominated node."
                return Preemption()
        preemption = find(Task.of(pod), self.snapshot, decision, self._budgets.protects)
        decision.preemption = preemption.message
        if preemption.node:
            self._nominated[uid(pod)] = (pod, preemption.node)
        return preemption

    def _reserve(self, pod: Obj, node: str) -> VolumePlan:
        """What the pod's claims get on the node; nobody else gets it from here on."""
        storage = self.snapshot.storage
        claims = storage.waiting(pod) if pod["spec"].get("volumes") else []
        if not claims:
            return VolumePlan()
        labels = next((one.labels for one in self.snapshot.nodes if one is not None and one.name == node), {})
        plan = storage.plan(claims, node, labels) or VolumePlan()
        storage.reserve(plan, node)
        return plan

    async def _bind_with(self, volumes: VolumePlan, pod: Obj, node: str) -> None:
        """Volumes first: a pod on a host without its volumes would only wait there, and could not go elsewhere."""
        try:
            await self._binder.bind(volumes, node, lambda: uid(pod) in self._assumed)
        except (ApiError, VolumesNotBound) as error:
            self._unassume(pod)
            self.queue.failed(uid(pod), frozenset())
            if not is_not_found(error):
                self._events.event(
                    pod, "Warning", "FailedScheduling", f'running PreBind plugin "VolumeBinding": {error}'
                )
            return
        except asyncio.CancelledError:
            self._unassume(pod)
            raise
        finally:
            self.snapshot.storage.release(volumes)
        await self._bind(pod, node)

    async def _bind(self, pod: Obj, node: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name(pod), "namespace": namespace(pod), "uid": uid(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create_sub(PODS, name(pod), namespace(pod), "binding", binding)
        except ApiError as error:
            self._unassume(pod)
            if not is_not_found(error):
                report = log.debug if is_conflict(error) else log.warning
                report("binding failed", pod=key(pod), node=node, error=str(error))
                self.queue.failed(uid(pod), frozenset())
                self._events.event(pod, "Warning", "FailedScheduling", f"binding rejected: {error}")
            return
        except asyncio.CancelledError:
            self._unassume(pod)
            raise
        # From here on the watch confirms it; until then it stays assumed.
        self.queue.remove(uid(pod))
        self._nominated.pop(uid(pod), None)
        self._events.event(pod, "Normal", "Scheduled", f"Successfully assigned {key(pod)} to {node}")

    def _unassume(self, pod: Obj) -> None:
        if self._assumed.pop(uid(pod), None) is not None:
            self.snapshot.remove(uid(pod))
            self.queue.helped(FREED)

    async def _end(self, pod: Obj, victim: Placed, node: str) -> None:
        space, _, victim_name = victim.key.partition("/")
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{self.config.name}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": format_time(self._clock.now()),
        }
        patch = {"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(PODS, victim_name, patch, space, kind="strategic", subresource="status")
            await self._client.delete(PODS, victim_name, space, uid=victim.uid)
        except ApiError as error:
            if not (is_not_found(error) or is_conflict(error)):
                log.warning("preemption failed", victim=victim.key, error=str(error))
            return
        told = {"kind": "Pod", "apiVersion": "v1", "namespace": space, "name": victim_name, "uid": victim.uid}
        self._events.event(told, "Normal", "Preempted", f"Preempted by pod {uid(pod)} on node {node}")

    async def _tell(self, pod: Obj, decision: Decision, preemption: Preemption) -> None:
        """The event, the condition when it says something new, and the end of the victims."""
        for victim in preemption.victims:
            if not victim.terminating:
                await self._end(pod, victim, preemption.node)
        message = decision.message()
        self._events.event(pod, "Warning", "FailedScheduling", message)
        conditions = (pod.get("status") or {}).get("conditions") or []
        old: Obj = next((one for one in conditions if one["type"] == "PodScheduled"), {})
        same = (old.get("status"), old.get("reason"), old.get("message")) == ("False", "Unschedulable", message)
        if same and not preemption.node:
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
        status: Obj = {"conditions": [condition]}
        if preemption.node:
            status["nominatedNodeName"] = preemption.node
        patch = {"metadata": {"uid": uid(pod)}, "status": status}
        try:
            await self._client.patch(PODS, name(pod), patch, namespace(pod), kind="strategic", subresource="status")
        except ApiError as error:
            if not (is_not_found(error) or is_conflict(error)):
                log.warning("condition not written", pod=key(pod), error=str(error))


def _shrank(before: Requests, now: Requests) -> bool:
    """A pod that was resized left room."""
    return before is not now and any(amount > now.get(name, 0) for name, amount in before.items())
