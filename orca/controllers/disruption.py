"""PodDisruptionBudgets: how many of the pods they cover may be evicted now.

The API server takes from `disruptionsAllowed` when it grants an eviction and notes the pod in `disruptedPods`; here the
count is brought in line with what really runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orca.api.builtin import (
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)
from orca.api.objects import Obj, controller_of, is_terminating, key, labels, name, namespace, uid
from orca.api.selectors import from_label_selector
from orca.api.times import format_time, parse_time
from orca.controllers import conditions, podstate
from orca.controllers.deployment.sizes import resolve
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter

FORGET_EVICTION = timedelta(minutes=2)
"""An evicted pod that is still there after that long was not deleted after all."""
_SCALED = {row.kind: row for row in (REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS)}


@dataclass(frozen=True, slots=True)
class Counts:
    """In pods. `expected`: what the workloads want, `desired`: what has to stay healthy."""

    expected: int
    healthy: int
    desired: int

    @property
    def allowed(self) -> int:
        """Evictions that may be granted now."""
        return max(self.healthy - self.desired, 0) if self.expected else 0


def count(budget: Obj, pods: Sequence[Obj], expected: int, evicted: dict[str, str]) -> Counts:
    """`pods`: those covered; `expected`: sum of the scales of their controllers; `evicted`: pod name -> time."""
    spec = budget["spec"]
    healthy = sum(podstate.is_ready(pod) and not is_terminating(pod) and name(pod) not in evicted for pod in pods)
    if spec.get("maxUnavailable") is not None:
        return Counts(expected, healthy, max(expected - resolve(spec["maxUnavailable"], expected, up=True), 0))
    wanted = spec.get("minAvailable", 1)
    if isinstance(wanted, int):
        return Counts(len(pods), healthy, wanted)
    return Counts(expected, healthy, resolve(wanted, expected, up=True))


def new_status(budget: Obj, counts: Counts, evicted: dict[str, str], now: datetime) -> Obj:
    """The whole status."""
    old = budget.get("status") or {}
    enough = counts.allowed > 0
    condition = conditions.build(
        "DisruptionAllowed", "True" if enough else "False", "SufficientPods" if enough else "InsufficientPods", "", now
    )
    condition["observedGeneration"] = budget["metadata"].get("generation", 0)
    condition["message"] = ""
    status: Obj = {
        "currentHealthy": counts.healthy,
        "desiredHealthy": counts.desired,
        "expectedPods": counts.expected,
        "disruptionsAllowed": counts.allowed,
        "observedGeneration": budget["metadata"].get("generation", 0),
        "conditions": conditions.put(old.get("conditions"), condition),
    }
    if evicted:
        status["disruptedPods"] = evicted
    return status


def still_evicted(budget: Obj, pods: Sequence[Obj], now: datetime) -> tuple[dict[str, str], float | None]:
    """Granted evictions whose pods are about to go, and the seconds until the first of them is given up."""
    found: dict[str, str] = {}
    waits = []
    present = {name(pod): pod for pod in pods}
    for pod_name, stamp in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
        pod = present.get(pod_name)
        left = (parse_time(stamp) + FORGET_EVICTION - now).total_seconds()
        if pod is not None and not is_terminating(pod) and left > 0:
            found[pod_name] = format_time(parse_time(stamp))
            waits.append(left)
    return found, min(waits, default=None)


class DisruptionController(Controller):
    """Keys are budgets."""

    name = "disruption-controller"
    resource = PODDISRUPTIONBUDGETS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._budgets = self.caches.of(PODDISRUPTIONBUDGETS)
        self._pods = self.caches.of(PODS)
        self._owners = {kind: self.caches.of(row) for kind, row in _SCALED.items()}
        self._deployments = self.caches.of(DEPLOYMENTS)
        self._budgets.informer.on_add(self.enqueue)
        self._budgets.informer.on_update(lambda _, new: self.enqueue(new))
        self._budgets.informer.on_delete(lambda gone: self.queue.forget(key(gone)))
        self._pods.informer.on_change(self._pod_changed)
        for cache in (*self._owners.values(), self._deployments):
            cache.informer.on_update(self._scaled)

    def _pod_changed(self, pod: Obj) -> None:
        for budget in self._budgets.informer.by_index("namespace", namespace(pod)):
            if from_label_selector(budget["spec"].get("selector")).matches(labels(pod)):
                self.queue.add_after(key(budget), 0.05)

    def _scaled(self, old: Obj, new: Obj) -> None:
        if old["spec"].get("replicas") != new["spec"].get("replicas"):
            for budget in self._budgets.informer.by_index("namespace", namespace(new)):
                self.enqueue(budget)

    async def sync(self, key: str) -> Outcome:
        """One budget."""
        budget = self._budgets.get(key)
        if budget is None:
            return DONE
        selector = from_label_selector(budget["spec"].get("selector"))
        everyone = self._pods.by_index("namespace", namespace(budget))
        pods = [pod for pod in everyone if selector.matches(labels(pod)) and not podstate.is_finished(pod)]
        now = self.clock.now()
        evicted, wait = still_evicted(budget, pods, now)
        counts = count(budget, pods, self._expected(pods), evicted)
        status = new_status(budget, counts, evicted, now)
        if status != budget.get("status"):
            await self._budgets.update_status(budget, status)
        return DONE if wait is None else RetryAfter(wait)

    def _expected(self, pods: Sequence[Obj]) -> int:
        """What the controllers of the pods want together; a pod without one counts as itself."""
        wanted: dict[str, int] = {}
        for pod in pods:
            reference = controller_of(pod)
            cache = self._owners.get(reference["kind"]) if reference else None
            owner = cache.get(f"{namespace(pod)}/{reference['name']}") if cache and reference else None
            if owner is None or reference is None or uid(owner) != reference["uid"]:
                wanted[uid(pod)] = 1
                continue
            replicas = owner["spec"].get("replicas")
            size, identity = (1 if replicas is None else int(replicas)), uid(owner)
            above = controller_of(owner)
            if above is not None and above["kind"] == DEPLOYMENTS.kind:
                deployment = self._deployments.get(f"{namespace(pod)}/{above['name']}")
                if deployment is not None and uid(deployment) == above["uid"]:
                    # In the middle of a rollout two sets belong to one Deployment.
                    size, identity = int(deployment["spec"].get("replicas", 1)), uid(deployment)
            wanted[identity] = size
        return sum(wanted.values())
