"""PodDisruptionBudgets: how many of the pods they cover may be evicted now.

The API server takes from `disruptionsAllowed` when it grants an eviction and notes the pod in `disruptedPods`; here the
count is brought in line with what really runs.
"""

from collections.abc import Mapping, Sequence
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
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, controller_of, is_terminating, key, labels, name, namespace, uid
from orca.api.selectors import from_label_selector
from orca.api.times import format_time, parse_time
from orca.controllers import conditions, podstate
from orca.controllers.deployment.sizes import replicas_of, resolve
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter

FORGET_EVICTION = timedelta(minutes=2)
"""An evicted pod that is still there after that long was not deleted after all."""
RETRY_SECONDS = 15.0
"""After a failure that only somebody else can mend."""
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget were found to be unmanaged and are not counted. To account for them set "
    "the budget's .spec.minAvailable to an integer."
)
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


class CannotCount(Exception):
    """How many pods there should be cannot be told; the text says why."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A workload's uid and how many pods it wants."""

    uid: str
    replicas: int


def needs_scales(budget: Obj) -> bool:
    """Whether it counts in parts of what the workloads want: all but a `minAvailable` in pods."""
    return budget["spec"].get("maxUnavailable") is not None or isinstance(budget["spec"].get("minAvailable"), str)


def expected_pods(pods: Sequence[Obj], scales: Mapping[str, Scale | None]) -> tuple[int, bool]:
    """What the controllers of the pods (`scales`, by the uid that the pods name) want together, and whether there are
    pods without a controller, which count for nothing. CannotCount for one whose controller is gone."""
    wanted: dict[str, int] = {}
    unmanaged = False
    for pod in pods:
        reference = controller_of(pod)
        if reference is None:
            unmanaged = True
            continue
        scale = scales.get(reference["uid"])
        if scale is None:
            raise CannotCount(f'found no controllers for pod "{name(pod)}"')
        wanted[scale.uid] = scale.replicas
    return sum(wanted.values()), unmanaged


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


def failed_status(budget: Obj, message: str, now: datetime) -> Obj:
    """The status while nobody can tell what may go: then nothing may."""
    old = budget.get("status") or {}
    condition = conditions.build("DisruptionAllowed", "False", "SyncFailed", message, now)
    condition["observedGeneration"] = old.get("observedGeneration", 0)
    counted = {part: old.get(part, 0) for part in ("currentHealthy", "desiredHealthy", "expectedPods")}
    return {
        **old,
        **counted,
        "disruptionsAllowed": 0,
        "conditions": conditions.put(old.get("conditions"), condition),
    }


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
        try:
            expected, unmanaged = await self._expected(pods) if needs_scales(budget) else (len(pods), False)
        except CannotCount as error:
            text = f"Failed to calculate the number of expected pods: {error}"
            self.recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
            status, wait = failed_status(budget, str(error), now), RETRY_SECONDS
        else:
            if unmanaged:
                self.recorder.event(budget, "Warning", "UnmanagedPods", UNMANAGED)
            status = new_status(budget, count(budget, pods, expected, evicted), evicted, now)
        if status != budget.get("status"):
            await self._budgets.update_status(budget, status)
        return DONE if wait is None else RetryAfter(wait)

    async def _expected(self, pods: Sequence[Obj]) -> tuple[int, bool]:
        """As `expected_pods`."""
        scales: dict[str, Scale | None] = {}
        for pod in pods:
            reference = controller_of(pod)
            if reference is not None and reference["uid"] not in scales:
                scales[reference["uid"]] = await self._scale_of(reference, namespace(pod))
        return expected_pods(pods, scales)

    async def _scale_of(self, reference: Obj, space: str) -> Scale | None:
        """What a pod's controller wants; None when it is gone. CannotCount where it has no size."""
        cache = self._owners.get(reference["kind"])
        if cache is None or cache.resource.api_version != reference.get("apiVersion"):
            return await self._foreign_scale(reference, space)
        owner = cache.get(f"{space}/{reference['name']}")
        if owner is None or uid(owner) != reference["uid"]:
            return None
        above = controller_of(owner)
        if above is not None and above["kind"] == DEPLOYMENTS.kind:
            deployment = self._deployments.get(f"{space}/{above['name']}")
            if deployment is not None and uid(deployment) == above["uid"]:
                # In the middle of a rollout two sets belong to one Deployment.
                return Scale(uid(deployment), replicas_of(deployment))
        return Scale(uid(owner), replicas_of(owner))

    async def _foreign_scale(self, reference: Obj, space: str) -> Scale | None:
        """Of a kind that is not ours: whoever defined it says how it is scaled."""
        row = self.context.config.table.by_kind(reference.get("apiVersion") or "v1", reference["kind"])
        if row is None:
            raise CannotCount(f'no matches for kind "{reference["kind"]}" in version "{reference.get("apiVersion")}"')
        if not row.has("scale"):
            raise CannotCount(f"{row.group_resource} does not implement the scale subresource")
        try:
            scale = await self.client.get(row, reference["name"], space, subresource="scale")
        except ApiError as error:
            if is_not_found(error):
                return None
            raise
        return Scale(uid(scale), replicas_of(scale)) if uid(scale) == reference["uid"] else None
