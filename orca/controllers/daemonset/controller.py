"""Carries out the plan for one DaemonSet and keeps the history of its templates."""

from collections.abc import Sequence

from orca.api.builtin import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS
from orca.api.defaults.apps import TEMPLATE_GENERATION
from orca.api.objects import Obj, annotations, is_terminating, key, labels, meta, uid
from orca.api.selectors import Selector, from_label_selector
from orca.controllers import controllerrevisions, podstate
from orca.controllers.claims import claim
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.daemonset.backoff import FailureBackoff
from orca.controllers.daemonset.placement import aimed_at, place, target_of
from orca.controllers.daemonset.plan import new_status, next_look, plan
from orca.controllers.harness import (
    DONE,
    Coalescer,
    Context,
    Controller,
    Outcome,
    RetryAfter,
    gather_all,
    raise_first,
    slow_start,
)
from orca.controllers.podcontrol import PodControl, namespace_is_terminating, pod_from_template
from orca.controllers.podevents import follow_pods
from orca.controllers.revisionhistory import RevisionHistory

BURST = 250
REQUIRED = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
"""What every status has."""
GENERATION_LABEL = "pod-template-generation"


class DaemonSetController(Controller):
    """Looks at a DaemonSet when it, one of its pods or what matters of a node changes."""

    name = "daemonset-controller"
    resource = DAEMONSETS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = self.caches.of(DAEMONSETS)
        self._pods = self.caches.of(PODS)
        self._nodes = self.caches.of(NODES)
        self._revisions = self.caches.of(CONTROLLERREVISIONS)
        self._history = RevisionHistory(self._sets, self._revisions, dict.fromkeys(REQUIRED, 0))
        self._control = PodControl(self._pods, self.recorder)
        self._backoff = FailureBackoff()
        self._soon = Coalescer(self.queue, self.clock, 0.03)
        self._sets.informer.on_add(self.enqueue)
        self._sets.informer.on_update(lambda _, new: self.enqueue(new))
        self._sets.informer.on_delete(self._gone)
        follow_pods(self._pods, self._sets, kind=DAEMONSETS.kind, selector=_selector, wake=self._soon.add)
        self._nodes.informer.on_add(self._all)
        self._nodes.informer.on_update(self._node_updated)
        self._nodes.informer.on_delete(self._all)

    def _gone(self, daemonset: Obj) -> None:
        self.queue.forget(key(daemonset))
        self._backoff.forget(daemonset)

    def _all(self, node: Obj) -> None:
        del node
        for found in self._sets.informer.list():
            self._soon.add(key(found))

    def _node_updated(self, old: Obj, new: Obj) -> None:
        for found in self._sets.informer.list():
            spec = found["spec"]["template"].get("spec") or {}
            if place(spec, old) != place(spec, new):
                self._soon.add(key(found))

    async def sync(self, key: str) -> Outcome:
        """One DaemonSet."""
        daemonset = self._sets.get(key)
        if daemonset is None:
            return DONE
        history = await claim(self._sets, daemonset, self._revisions, _selector(daemonset))
        pods = await claim(self._sets, daemonset, self._pods, _selector(daemonset))
        if meta(daemonset).get("deletionTimestamp"):
            return DONE
        wanted, changed = controllerrevisions.current(DAEMONSETS, daemonset, history)
        current = await self._history.keep(daemonset, wanted, changed=changed)
        if current is None:
            return RetryAfter()
        revision = controllerrevisions.hash_of(current)
        nodes, now = self._nodes.all(), self.clock.now()
        waits = self._backoff.waits(daemonset, now)
        todo = plan(daemonset, nodes, pods, revision, now, waits)
        for node in {target_of(pod) for pod in todo.failed if podstate.phase(pod) == "Failed"}:
            self._backoff.note(daemonset, node, now)
        # First those that are one too many go: a surging set has two pods on a node, never three.
        errors = await self._delete(daemonset, todo.delete, todo.failed)
        errors += await self._create(daemonset, todo.create[:BURST], revision)
        status = new_status(daemonset, nodes, pods, revision, now)
        if status != daemonset.get("status"):
            await self._sets.update_status(daemonset, status)
        raise_first([error for error in errors if not namespace_is_terminating(error)])
        live = {labels(pod).get(HASH_LABEL, "") for pod in pods}
        limit = daemonset["spec"].get("revisionHistoryLimit", 10)
        await self._history.delete(controllerrevisions.surplus(history, revision, live, limit))
        if todo.create or todo.delete:
            self._soon.add(key)
        held = {target_of(pod) for pod in pods if podstate.phase(pod) == "Failed" and not is_terminating(pod)}
        soon = [waits[node] for node in held if node in waits]
        wait = next_look(daemonset, pods, now)
        soon += [] if wait is None else [wait]
        return RetryAfter(min(soon)) if soon else DONE

    async def _delete(self, daemonset: Obj, pods: Sequence[Obj], failed: Sequence[Obj]) -> list[BaseException]:
        for pod in failed:
            subject = f"daemon pod {key(pod)} on node {target_of(pod)}"
            if podstate.phase(pod) == "Failed":
                text = f"Found failed {subject}, will try to kill it"
                self.recorder.event(daemonset, "Warning", "FailedDaemonPod", text)
            else:
                text = f"Found succeeded {subject}, will try to delete it"
                self.recorder.event(daemonset, "Normal", "SucceededDaemonPod", text)
        unique = {uid(pod): pod for pod in pods}
        return await gather_all(self._control.delete(daemonset, pod) for pod in list(unique.values())[:BURST])

    async def _create(self, daemonset: Obj, nodes: Sequence[str], revision: str) -> list[BaseException]:
        template = daemonset["spec"]["template"]
        remaining = iter(nodes)

        async def create() -> None:
            pod = pod_from_template(DAEMONSETS, daemonset, template)
            pod["spec"] = aimed_at(pod["spec"], next(remaining))
            found = pod["metadata"].setdefault("labels", {})
            found[HASH_LABEL] = revision
            generation = annotations(daemonset).get(TEMPLATE_GENERATION)
            if generation:
                found[GENERATION_LABEL] = generation
            await self._control.create(daemonset, pod)

        _, errors = await slow_start(len(nodes), create)
        return errors


def _selector(daemonset: Obj) -> Selector:
    return from_label_selector(daemonset["spec"].get("selector") or {})
