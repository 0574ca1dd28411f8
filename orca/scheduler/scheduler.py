"""The scheduler at work: watches keep the snapshot and the queue current, one loop decides, bindings go out beside it.

A decision is taken in one go without waiting, so nothing changes under it; what it chose is counted at once ("assumed")
and taken back when the binding fails. Pods whose schedulerName no profile has, and gated ones, are left alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import structlog

from orca.api.builtin import (
    CSINODES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
)
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, is_terminating, key, name, namespace, uid
from orca.api.podphase import is_finished
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.informer import Informer
from orca.scheduler.binding import VolumeBinder, VolumesNotBound
from orca.scheduler.budgets import Budgets
from orca.scheduler.decision import Decision, decide
from orca.scheduler.filters import Task
from orca.scheduler.hints import Hints
from orca.scheduler.nominations import Nominations
from orca.scheduler.preemption import Answers, Preemption, find
from orca.scheduler.profile import DEFAULT, DEFAULT_NAME, Profile
from orca.scheduler.queue import FIRST_BACKOFF, LAST_BACKOFF, SchedulingQueue, Waiting
from orca.scheduler.shape import Requests
from orca.scheduler.siblings import Siblings
from orca.scheduler.snapshot import Placed, Snapshot
from orca.scheduler.verdicts import Verdicts
from orca.scheduler.volumes import VolumePlan, claim_keys

log = structlog.get_logger()

EXPLANATIONS = 500
VOLUMES = frozenset(("VolumeBinding", "VolumeZone", "NodeVolumeLimits"))
JOINED = frozenset(("PodTopologySpread", "InterPodAffinity"))


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """`bindings`: how many are under way at the same time; backoffs in seconds."""

    profiles: tuple[Profile, ...] = (DEFAULT,)
    bindings: int = 32
    first_backoff: float = FIRST_BACKOFF
    last_backoff: float = LAST_BACKOFF


class Scheduler:
    """Run it with `run`; `explain` tells how the last decision about a pod came about."""

    def __init__(self, client: Client, *, clock: Clock, config: SchedulerConfig | None = None) -> None:
        self.config = config or SchedulerConfig()
        self.snapshot = Snapshot()
        self.queue = SchedulingQueue(clock, self.config.first_backoff, self.config.last_backoff)
        self._client = client
        self._clock = clock
        self._profiles = {profile.name: profile for profile in self.config.profiles}
        self._recorders = {one: EventRecorder(client, one, clock=clock) for one in self._profiles}
        self._pods = Informer(client, PODS, clock=clock)
        self._nodes = Informer(client, NODES, clock=clock)
        self._namespaces = Informer(client, NAMESPACES, clock=clock)
        self._claims = Informer(client, PERSISTENTVOLUMECLAIMS, clock=clock)
        self._volumes = Informer(client, PERSISTENTVOLUMES, clock=clock)
        self._classes = Informer(client, STORAGECLASSES, clock=clock)
        self._binder = VolumeBinder(client, self.snapshot.storage, clock)
        self._siblings = Siblings(client, clock)
        self._budgets = Budgets(client, clock)
        self._csi_nodes = Informer(client, CSINODES, clock=clock)
        self._nominations = Nominations(self.snapshot)
        self._hints = Hints(self.snapshot, self._profiles)
        self._verdicts = Verdicts(client, clock)
        self._answers: Answers = {}
        self._explanations: OrderedDict[str, Decision] = OrderedDict()
        self._assumed: dict[str, str] = {}
        self._slots = asyncio.Semaphore(self.config.bindings)
        self._bindings: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._listen()

    def __repr__(self) -> str:
        return f"<Scheduler {', '.join(self._profiles)}: {self.snapshot}, {self.queue}>"

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
            self._csi_nodes,
            self._budgets.informer,
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for informer in informers:
                    group.create_task(informer.run())
                for informer in informers:
                    await informer.synced()
                log.info("scheduling", names=list(self._profiles), nodes=len(self._nodes), pods=len(self._pods))
                while True:
                    await self.queue.ready()
                    await self._one()
        finally:
            self.queue.close()
            for binding in self._bindings:
                binding.cancel()

    # --- what happens in the cluster ---------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._pods.on_add(self._pod)
        self._pods.on_update(lambda _, pod: self._pod(pod))
        self._pods.on_delete(self._pod_gone)
        self._nodes.on_add(self._node_added)
        self._nodes.on_update(self._node_changed)
        self._nodes.on_delete(self._node_gone)
        self._namespaces.on_add(self._namespace)
        self._namespaces.on_update(lambda _, space: self._namespace(space))
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
        self._csi_nodes.on_add(self._csi_node)
        self._csi_nodes.on_update(lambda _, one: self._csi_node(one))
        self._csi_nodes.on_delete(self.snapshot.storage.remove_csi_node)
        self._budgets.informer.on_add(self._budget)
        self._budgets.informer.on_update(lambda _, one: self._budget(one))
        self._budgets.informer.on_delete(self._budget)

    def _csi_node(self, one: Obj) -> None:
        self.snapshot.storage.set_csi_node(one)
        self.queue.helped(frozenset(("NodeVolumeLimits",)))

    def _budget(self, _: Obj) -> None:
        self._answers.clear()

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
            confirmed = self._assumed.pop(uid(pod), None) is not None
            self.queue.remove(uid(pod))
            placed = self.snapshot.place(pod, spec["nodeName"])
            self._nominations.drop(uid(pod))
            if known is None or known.awaited or confirmed or known.labels != placed.labels:
                self.queue.helped(JOINED, lambda one: self._hints.joined(one.pod, one.rules, placed), on=placed.node)
            if known is not None and _left(known, placed):
                self._freed(known)
        elif self._mine(pod):
            # One that is being bound may come back, and is then to be judged as it is now.
            if uid(pod) not in self._assumed or uid(pod) in self.queue:
                self.queue.add(pod)
                # Room that was made before this scheduler began is kept.
                nominated = (pod.get("status") or {}).get("nominatedNodeName")
                if nominated and not self._nominations.node(uid(pod)) and not len(self._explanations):
                    self._nominations.add(pod, nominated)
        else:
            self.queue.remove(uid(pod))
            self._give_up_room(pod)

    def _give_up_room(self, pod: Obj) -> None:
        """Nobody comes where room was made."""
        placed = self._nominations.drop(uid(pod))
        if placed is not None:
            self._freed(placed)

    def _freed(self, placed: Placed) -> None:
        self.queue.helped(None, lambda one: self._hints.gone(one.pod, one.rules, placed), on=placed.node)
        there = self.snapshot.by_node.get(placed.node, {}).values()
        for waits in [one for one in there if one.awaited]:
            # With its last victim gone it should have come; if it cannot, the room is to be others'.
            if not any(one.terminating and one.priority < waits.priority for one in there):
                self.queue.retry(waits.uid)

    def _mine(self, pod: Obj) -> bool:
        spec = pod["spec"]
        profile = self._profiles.get(spec.get("schedulerName") or DEFAULT_NAME)
        if profile is None or is_terminating(pod):
            return False
        return not (profile.gates and spec.get("schedulingGates"))

    def _profile(self, pod: Obj) -> Profile:
        return self._profiles[pod["spec"].get("schedulerName") or DEFAULT_NAME]

    def _events(self, pod: Obj) -> EventRecorder:
        return self._recorders[self._profile(pod).name]

    def _pod_gone(self, pod: Obj) -> None:
        self.queue.remove(uid(pod))
        awaited = self.snapshot.placed.get(uid(pod))
        self._nominations.drop(uid(pod))
        if self._assumed.pop(uid(pod), None) is not None:
            self._binder.gone(claim_keys(pod))
        placed = self.snapshot.remove(uid(pod)) or awaited
        if placed is not None:
            self._freed(placed)

    def _namespace(self, space: Obj) -> None:
        before = self.snapshot.namespaces.get(name(space))
        self.snapshot.set_namespace(space)
        if self.snapshot.namespaces[name(space)] != before:
            self.queue.helped(frozenset(("InterPodAffinity",)))

    def _node_gone(self, node: Obj) -> None:
        there = self.snapshot.by_node.get(name(node), {}).values()
        awaited = [one.uid for one in there if one.awaited]
        self.snapshot.remove_node(name(node))
        for pod_uid in awaited:
            self._nominations.drop(pod_uid)
            self.queue.retry(pod_uid)
        # The domain that had the fewest pods may have gone with it.
        self.queue.helped(frozenset(("PodTopologySpread",)))

    def _node_added(self, node: Obj) -> None:
        self.snapshot.set_node(node)
        self.queue.helped(None, self._helped_by(node), on=name(node))

    def _helped_by(self, node: Obj) -> Callable[[Waiting], bool]:
        return lambda one: self._hints.node(one.pod, one.rules, name(node))

    def _node_changed(self, old: Obj, node: Obj) -> None:
        self.snapshot.set_node(node)
        if _differs(old, node):
            # Whatever a pod failed by elsewhere: the node may be one that it has not been tried on.
            self.queue.helped(None, self._helped_by(node), on=name(node))

    # --- deciding ----------------------------------------------------------------------------------------------------

    async def _one(self) -> None:
        await self._slots.acquire()
        waiting = self.queue.pop()
        if waiting is None:
            self._slots.release()
            return
        pod = waiting.pod
        try:
            task = self._task(waiting)
            decision = self._decide(task)
            preemption = Preemption() if decision.node else self._preempt(task, decision)
        except Exception:
            # A pod that cannot be judged must not stop the others.
            log.exception("deciding failed", pod=key(pod))
            self.queue.failed(uid(pod), frozenset())
            self._slots.release()
            return
        if decision.node:
            known = self.snapshot.placed.get(uid(pod))
            placed = self.snapshot.place(pod, decision.node, shape=task.shape)
            if known is not None and _left(known, placed):
                self._freed(known)
            self._assumed[uid(pod)] = decision.node
            volumes = self._reserve(pod, decision.node)
            if volumes:
                # It waits for others, maybe for minutes, and must not hold up who needs no volume.
                self._slots.release()
                self._start(self._bind_with(volumes, pod, decision.node))
                return
            work = self._bind(pod, decision.node)
        else:
            rules = frozenset(decision.rules) or frozenset(("NoNodes",))
            self.queue.failed(uid(pod), rules, awaits=preemption.node)
            work = self._tell(pod, decision, preemption)
        telling = asyncio.create_task(work)
        self._bindings.add(telling)
        telling.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._bindings.discard(task)
        self._slots.release()

    def _task(self, waiting: Waiting) -> Task:
        pod = waiting.pod
        selector = None
        if not pod["spec"].get("topologySpreadConstraints"):
            selector = self._siblings.selector(pod)
        return Task(pod, waiting.shaped(), selector)

    def _decide(self, task: Task) -> Decision:
        pod = task.pod
        self._turn += 1
        with self._nominations.apart(pod):
            nominated = self._nominations.node(uid(pod))
            decision = decide(task, self.snapshot, self._turn, self._profile(pod), nominated)
        decision.at = self._clock.now()
        self._explanations[key(pod)] = decision
        self._explanations.move_to_end(key(pod))
        if len(self._explanations) > EXPLANATIONS:
            self._explanations.popitem(last=False)
        return decision

    def _preempt(self, task: Task, decision: Decision) -> Preemption:
        pod = task.pod
        profile, priority = self._profile(pod), int(pod["spec"].get("priority") or 0)
        nominated = self._nominations.node(uid(pod))
        if nominated and nominated not in decision.final:
            leaving = (one for one in self.snapshot.by_node.get(nominated, {}).values() if one.terminating)
            if any(one.priority < priority for one in leaving):
                decision.preemption = "not eligible due to a terminating pod on the nominated node."
                return Preemption(node=nominated)
        if profile.preemption is None:
            self._give_up_room(pod)
            return Preemption()
        with self._nominations.apart(pod):
            preemption = find(
                task,
                self.snapshot,
                decision,
                self._budgets.violating,
                profile=profile,
                turn=self._turn,
                answers=self._answers,
            )
        decision.preemption = preemption.message
        if preemption.node:
            for other in self._nominations.less_important(preemption.node, priority):
                self._nominations.drop(uid(other))
                self._start(self._verdicts.withdraw(other))
                self.queue.retry(uid(other))
            self._nominations.add(pod, preemption.node)
        else:
            self._give_up_room(pod)
        return preemption

    async def _tell(self, pod: Obj, decision: Decision, preemption: Preemption) -> None:
        if not await self._verdicts.tell(pod, decision, preemption, self._events(pod)):
            # The room will not come about: try again, here or elsewhere.
            self._give_up_room(pod)
            self.queue.retry(uid(pod))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._bindings.add(task)
        task.add_done_callback(self._bindings.discard)

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
            await self._binder.bind(volumes, node, lambda: uid(pod) in self._assumed, self._profile(pod).bind_seconds)
        except (ApiError, VolumesNotBound) as error:
            self._unassume(pod)
            self.queue.failed(uid(pod), frozenset())
            if not is_not_found(error):
                self._events(pod).event(
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
        message = f"Successfully assigned {key(pod)} to {node}"
        try:
            told = await self._client.bind(binding, self._events(pod).new(pod, "Normal", "Scheduled", message))
        except ApiError as error:
            self._unassume(pod)
            if not is_not_found(error):
                report = log.debug if is_conflict(error) else log.warning
                report("binding failed", pod=key(pod), node=node, error=str(error))
                self.queue.failed(uid(pod), frozenset())
                self._events(pod).event(pod, "Warning", "FailedScheduling", f"binding rejected: {error}")
            return
        except asyncio.CancelledError:
            self._unassume(pod)
            raise
        # From here on the watch confirms it; until then it stays assumed.
        self.queue.remove(uid(pod))
        self._nominations.drop(uid(pod))
        if not told:
            self._events(pod).event(pod, "Normal", "Scheduled", message)

    def _unassume(self, pod: Obj) -> None:
        if self._assumed.pop(uid(pod), None) is not None:
            placed = self.snapshot.remove(uid(pod))
            nominated = self._nominations.node(uid(pod))
            if nominated:
                # The room that was made for it is its own until it comes.
                self._nominations.add(pod, nominated)
            if placed is not None:
                self._freed(placed)


def _left(known: Placed, placed: Placed) -> bool:
    """Whether a pod takes less where it was: of resources, or of what others look at in it."""
    if known.node != placed.node:
        return True
    if known.awaited:
        return False
    return known.labels != placed.labels or _shrank(known.shape.requests, placed.shape.requests)


def _shrank(before: Requests, now: Requests) -> bool:
    """A pod that was resized left room."""
    return before is not now and any(amount > now.get(name, 0) for name, amount in before.items())


def _differs(old: Obj, node: Obj) -> bool:
    """Whether a node changed in what rules look at."""
    if old["metadata"].get("labels") != node["metadata"].get("labels"):
        return True
    if (old.get("status") or {}).get("allocatable") != (node.get("status") or {}).get("allocatable"):
        return True
    was, now = old.get("spec") or {}, node.get("spec") or {}
    return any(was.get(part) != now.get(part) for part in ("taints", "unschedulable"))
