"""ReplicaSet and ReplicationController: keep `spec.replicas` pods alive. Both differ only in kind and selector."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orca.api.builtin import PODS, REPLICASETS, REPLICATIONCONTROLLERS
from orca.api.objects import Obj, controller_of, is_terminating, key, labels, uid
from orca.api.resources import Resource
from orca.api.selectors import Selector, from_label_selector
from orca.controllers import conditions, podstate
from orca.controllers.claims import claim
from orca.controllers.harness import (
    DONE,
    Coalescer,
    Context,
    Controller,
    Outcome,
    RetryAfter,
    gather_all,
    slow_start,
)
from orca.controllers.podcontrol import PodControl, namespace_is_terminating, pod_from_template
from orca.controllers.podevents import follow_pods

BURST = 500
"""Most pods created or deleted in one look."""
COALESCE = 0.03
COST_FACTOR = 10
"""After a look a set is not looked at again for so many times as long, however many of its pods change."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many pods to make, which to delete."""

    create: int = 0
    delete: tuple[Obj, ...] = ()


def plan(replicaset: Obj, pods: Sequence[Obj], crowd: dict[str, int], now: datetime) -> Plan:
    """`pods` are those the set controls; `crowd` counts, by node, the active pods of all sets of the same owner."""
    if is_terminating(replicaset):
        return Plan()
    active = [pod for pod in pods if podstate.is_active(pod)]
    missing = wanted(replicaset) - len(active)
    if missing >= 0:
        return Plan(create=min(missing, BURST))
    return Plan(delete=tuple(podstate.deletion_order(active, crowd, now)[: min(-missing, BURST)]))


def wanted(replicaset: Obj) -> int:
    """`spec.replicas`, 1 when not given."""
    replicas = replicaset["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def selector_of(replicaset: Obj) -> Selector:
    """The selector; that of a ReplicationController is a plain map."""
    selector = replicaset["spec"].get("selector") or {}
    if replicaset.get("kind") == REPLICATIONCONTROLLERS.kind:
        return from_label_selector({"matchLabels": selector})
    return from_label_selector(selector)


def new_status(replicaset: Obj, pods: Sequence[Obj], failure: tuple[str, str] | None, now: datetime) -> Obj:
    """The status that describes `pods`; `failure` is (reason, message) of what could not be done just now."""
    old = replicaset.get("status") or {}
    min_ready = replicaset["spec"].get("minReadySeconds") or 0
    template_labels = (replicaset["spec"].get("template") or {}).get("metadata", {}).get("labels") or {}
    replicas = labeled = ready = available = terminating = 0
    for pod in pods:
        if podstate.is_finished(pod):
            continue
        if is_terminating(pod):
            terminating += 1
            continue
        replicas += 1
        labeled += template_labels.items() <= labels(pod).items()
        if podstate.is_ready(pod):
            ready += 1
            available += not min_ready or podstate.available_in(pod, min_ready, now) == 0
    status: Obj = {"replicas": replicas}
    for part, count in (
        ("fullyLabeledReplicas", labeled),
        ("readyReplicas", ready),
        ("availableReplicas", available),
    ):
        if count:
            status[part] = count
    if replicaset.get("kind") == REPLICASETS.kind:
        status["terminatingReplicas"] = terminating
    status["observedGeneration"] = replicaset["metadata"].get("generation", 0)
    found = old.get("conditions") or []
    if failure is None:
        found = conditions.without(found, "ReplicaFailure")
    elif conditions.find(found, "ReplicaFailure") is None:
        # The first failure is shown until all is well.
        found = [*found, conditions.build("ReplicaFailure", "True", *failure, now)]
    if found:
        status["conditions"] = found
    return status


def next_look(replicaset: Obj, pods: Sequence[Obj], now: datetime) -> float | None:
    """Seconds until the next ready pod becomes available, None when none is waiting for that."""
    min_ready = replicaset["spec"].get("minReadySeconds") or 0
    if not min_ready:
        return None
    waits = (podstate.available_in(pod, min_ready, now) for pod in pods if podstate.is_active(pod))
    return min((wait for wait in waits if wait), default=None)


class ReplicaSetController(Controller):
    """Reconciles one of the two kinds."""

    name = "replicaset-controller"
    resource: Resource = REPLICASETS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = self.caches.of(self.resource)
        self._pods = self.caches.of(PODS)
        self._control = PodControl(self._pods, self.recorder)
        self._soon = Coalescer(self.queue, self.clock, COALESCE, COST_FACTOR)
        self._sets.informer.on_add(self.enqueue)
        self._sets.informer.on_update(lambda _, new: self.enqueue(new))
        self._sets.informer.on_delete(lambda gone: self.queue.forget(key(gone)))
        follow_pods(self._pods, self._sets, kind=self.resource.kind, selector=selector_of, wake=self._soon.add)

    async def sync(self, key: str) -> Outcome:
        """One look at one set."""
        found = self._sets.get(key)
        if found is None:
            return DONE
        # Items of lists may come without their kind, which tells the two kinds apart.
        replicaset = found if "kind" in found else {**found, "kind": self.resource.kind}
        began = self.clock.monotonic()
        pods = await claim(self._sets, replicaset, self._pods, selector_of(replicaset), podstate.is_active)
        now = self.clock.now()
        todo = plan(replicaset, pods, self._crowd(replicaset, pods), now)
        # What it costs to look: a burst of creations is no reason to wait before the next.
        self._soon.cost(key, self.clock.monotonic() - began)
        failure, errors = await self._apply(replicaset, todo)
        await self._write_status(replicaset, new_status(replicaset, pods, failure, now))
        if errors:
            return RetryAfter()
        if todo.create or todo.delete:
            # The watch will report what was written, and more may be left than one burst.
            self._soon.add(key)
        wait = next_look(replicaset, pods, now)
        return DONE if wait is None else RetryAfter(wait)

    def _crowd(self, replicaset: Obj, pods: Sequence[Obj]) -> dict[str, int]:
        """Active pods by node of this set and of those with the same owner, as ReplicaSets of one Deployment are."""
        if wanted(replicaset) >= sum(map(podstate.is_active, pods)):
            return {}
        owner = controller_of(replicaset)
        related = list(pods)
        if owner is not None:
            for sibling in self._sets.by_index("owner", owner["uid"]):
                if uid(sibling) != uid(replicaset):
                    related += self._pods.by_index("owner", uid(sibling))
        return Counter(pod["spec"].get("nodeName") or "" for pod in related if podstate.is_active(pod))

    async def _apply(self, replicaset: Obj, todo: Plan) -> tuple[tuple[str, str] | None, list[BaseException]]:
        """Answers the failure to show in the status, and the errors to retry."""
        if todo.create:
            template = replicaset["spec"].get("template") or {}
            _, errors = await slow_start(
                todo.create,
                lambda: self._control.create(replicaset, pod_from_template(self.resource, replicaset, template)),
            )
            reason, before = "FailedCreate", ""
        else:
            errors = await gather_all(self._control.delete(replicaset, pod) for pod in todo.delete)
            reason, before = "FailedDelete", "unable to delete pods: "
        errors = [error for error in errors if not namespace_is_terminating(error)]
        return ((reason, f"{before}{errors[0]}") if errors else None), errors

    async def _write_status(self, replicaset: Obj, status: Obj) -> None:
        if status != {k: v for k, v in (replicaset.get("status") or {}).items() if v or k in _ALWAYS}:
            await self._sets.update_status(replicaset, status)


_ALWAYS = frozenset({"replicas", "terminatingReplicas", "observedGeneration"})


class ReplicationControllerController(ReplicaSetController):
    """The older kind, unchanged in behaviour."""

    name = "replication-controller"
    resource = REPLICATIONCONTROLLERS
