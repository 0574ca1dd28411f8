"""Keeps the status of PodDisruptionBudgets, and takes stale announcements of disruptions back."""

from collections.abc import Sequence
from datetime import datetime

from orca.api.builtin import (
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, controller_of, key, labels, name, namespace, uid
from orca.api.selectors import from_label_selector
from orca.controllers.deployment.sizes import replicas_of
from orca.controllers.disruption.plan import (
    CannotCount,
    Scale,
    called_off,
    count,
    expected_pods,
    failed_status,
    needs_scales,
    new_status,
    overdue,
    stale_in,
    still_evicted,
)
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter
from orca.controllers.selectortext import selector_text

POD = "pod:"
RETRY_SECONDS = 15.0
"""After a failure that only somebody else can mend."""
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of "
    "the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please "
    'set ".spec.minAvailable" field of the PDB to an integer value.'
)
_SCALED = {row.kind: row for row in (REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS)}


class DisruptionController(Controller):
    """Keys are budgets, and pods (`pod:namespace/name`) whose announced disruption may have been called off."""

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
        self._pods.informer.on_add(self._pod_added)
        self._pods.informer.on_update(self._pod_updated)
        self._pods.informer.on_delete(self._pod_changed)
        for cache in (*self._owners.values(), self._deployments):
            cache.informer.on_update(self._scaled)

    def _pod_added(self, pod: Obj) -> None:
        if self._budgets.informer.has("namespace", namespace(pod)):
            self._tell_if_ambiguous(pod)
        self._pod_changed(pod)

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if labels(old) != labels(new):
            self._tell_if_ambiguous(new)
            self._pod_changed(old)
        self._pod_changed(new)

    def _pod_changed(self, pod: Obj) -> None:
        if self._budgets.informer.has("namespace", namespace(pod)):
            for budget in self._over(pod):
                self.queue.add_after(key(budget), 0.05)
        if not (pod.get("status") or {}).get("conditions"):
            return  # nothing is announced
        wait = stale_in(pod, self.clock.now())
        if wait is not None:
            self.queue.add_after(POD + key(pod), wait)

    def _over(self, pod: Obj) -> list[Obj]:
        """The budgets that cover a pod."""
        budgets = self._budgets.informer.by_index("namespace", namespace(pod))
        return [one for one in budgets if from_label_selector(one["spec"].get("selector")).matches(labels(pod))]

    def _tell_if_ambiguous(self, pod: Obj) -> None:
        """The API server evicts no pod that several budgets cover."""
        several = sorted(map(name, self._over(pod)))
        if len(several) > 1:
            text = (
                f'Pod "{namespace(pod)}"/"{name(pod)}" matches multiple PodDisruptionBudgets.  '
                f'Chose "{several[0]}" arbitrarily.'
            )
            self.recorder.event(_as_pod(pod), "Warning", "MultiplePodDisruptionBudgets", text)

    def _scaled(self, old: Obj, new: Obj) -> None:
        if old["spec"].get("replicas") != new["spec"].get("replicas"):
            for budget in self._budgets.informer.by_index("namespace", namespace(new)):
                self.enqueue(budget)

    async def sync(self, key: str) -> Outcome:
        """One budget, or one pod."""
        if key.startswith(POD):
            return await self._call_off(key.removeprefix(POD))
        budget = self._budgets.get(key)
        if budget is None:
            return DONE
        now = self.clock.now()
        try:
            status, wait = await self._count(budget, now)
        except (ApiError, CannotCount) as error:
            if isinstance(error, ApiError) and is_conflict(error):
                raise
            text = f"Failed to calculate the number of expected pods: {error}"
            self.recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
            status, wait = failed_status(budget, str(error), now), RETRY_SECONDS
        if status != budget.get("status"):
            await self._budgets.update_status(budget, status)
        return DONE if wait is None else RetryAfter(wait)

    async def _count(self, budget: Obj, now: datetime) -> tuple[Obj, float | None]:
        """The new status, and the seconds until it has to be looked at again. ApiError, CannotCount."""
        selector = from_label_selector(budget["spec"].get("selector"))
        everyone = self._pods.by_index("namespace", namespace(budget))
        pods = [pod for pod in everyone if selector.matches(labels(pod))]
        if not pods:
            self.recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        expected, unmanaged = await self._expected(pods) if needs_scales(budget) else (len(pods), False)
        if unmanaged:
            text = UNMANAGED.format(selector_text(budget["spec"].get("selector")))
            self.recorder.event(budget, "Warning", "UnmanagedPods", text)
        for pod in overdue(budget, pods, now):
            text = f"Pod was expected by PDB {namespace(budget)}/{name(budget)} to be deleted but it wasn't"
            self.recorder.event(_as_pod(pod), "Warning", "NotDeleted", text)
        evicted, wait = still_evicted(budget, pods, now)
        return new_status(budget, count(budget, pods, expected, evicted), evicted, now), wait

    async def _call_off(self, pod_key: str) -> Outcome:
        """Takes the announcement of a disruption back that nobody has carried out."""
        pod = self._pods.get(pod_key)
        now = self.clock.now()
        wait = stale_in(pod, now) if pod is not None else None
        if pod is None or wait is None:
            return DONE
        if wait > 0:
            return RetryAfter(wait)
        await self._pods.update_status(pod, called_off(pod, now))
        return DONE

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
        # Of a Scale, unlike of our own kinds, a count that is left out is none.
        wanted = int((scale.get("spec") or {}).get("replicas") or 0)
        return Scale(uid(scale), wanted) if uid(scale) == reference["uid"] else None


def _as_pod(pod: Obj) -> Obj:
    """Items of lists may come without their kind, which events need."""
    return {"apiVersion": PODS.api_version, "kind": PODS.kind, **pod}
