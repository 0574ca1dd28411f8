"""Carries out the plan for one Deployment."""

from orca.api.builtin import DEPLOYMENTS, PODS, REPLICASETS
from orca.api.errors import ApiError, is_already_exists
from orca.api.objects import Obj, annotations, controller_of, key, labels, meta, name, namespace, uid
from orca.api.selectors import Selector, from_label_selector
from orca.controllers.claims import claim
from orca.controllers.deployment import revisions, status
from orca.controllers.deployment.plan import Plan, Scaled, plan
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter, owner_key
from orca.controllers.podcontrol import namespace_is_terminating


class DeploymentController(Controller):
    """Looks at a Deployment when it, one of its ReplicaSets or (while Recreate waits) one of their pods changes."""

    name = "deployment-controller"
    resource = DEPLOYMENTS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._deployments = self.caches.of(DEPLOYMENTS)
        self._sets = self.caches.of(REPLICASETS)
        self._pods = self.caches.of(PODS)
        self._deployments.informer.on_add(self.enqueue)
        self._deployments.informer.on_update(lambda _, new: self.enqueue(new))
        self._deployments.informer.on_delete(lambda gone: self.queue.forget(key(gone)))
        self._sets.informer.on_add(self._set_changed)
        self._sets.informer.on_update(self._set_updated)
        self._sets.informer.on_delete(self._set_changed)
        self._pods.informer.on_update(self._pod_updated)
        self._pods.informer.on_delete(self._pod_gone)

    def _set_updated(self, old: Obj, new: Obj) -> None:
        if controller_of(old) != controller_of(new):
            self._set_changed(old)
        self._set_changed(new)

    def _set_changed(self, replicaset: Obj) -> None:
        if controller_of(replicaset) is not None:
            found = owner_key(self._deployments, DEPLOYMENTS.kind, replicaset)
            if found is not None:
                self.queue.add(found)
            return
        for candidate in self._deployments.by_index("namespace", namespace(replicaset)):
            if _selector(candidate).matches(labels(replicaset)):
                self.enqueue(candidate)

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if (old.get("status") or {}).get("phase") != (new.get("status") or {}).get("phase"):
            self._pod_gone(new)

    def _pod_gone(self, pod: Obj) -> None:
        """Recreate waits for the last old pod."""
        of_set = owner_key(self._sets, REPLICASETS.kind, pod)
        replicaset = self._sets.get(of_set) if of_set else None
        found = owner_key(self._deployments, DEPLOYMENTS.kind, replicaset) if replicaset else None
        deployment = self._deployments.get(found) if found else None
        if deployment is not None and (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            self.enqueue(deployment)

    async def sync(self, key: str) -> Outcome:
        """One look at one Deployment."""
        deployment = self._deployments.get(key)
        if deployment is None:
            return DONE
        selector = deployment["spec"].get("selector") or {}
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            self.recorder.event(
                deployment,
                "Warning",
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            )
            generation, shown = meta(deployment).get("generation", 0), deployment.get("status") or {}
            if shown.get("observedGeneration", 0) < generation:
                await self._deployments.update_status(deployment, {**shown, "observedGeneration": generation})
            return DONE
        replicasets = await claim(self._deployments, deployment, self._sets, _selector(deployment))
        pods = [pod for rs in replicasets for pod in self._pods.by_index("owner", uid(rs))]
        todo = plan(deployment, replicasets, pods, self.clock.now())
        return await self._apply(deployment, todo)

    async def _apply(self, deployment: Obj, todo: Plan) -> Outcome:
        if todo.rewritten is not None:
            await self._deployments.update(todo.rewritten)
            for kind, reason, message in todo.told:
                self.recorder.event(deployment, kind, reason, message)
            return DONE
        if todo.create is not None and not await self._create(deployment, todo.create):
            return RetryAfter()
        for scaled in todo.update:
            await self._scale(deployment, scaled)
        for surplus in todo.delete:
            await self._sets.delete(surplus)
        await self._write_status(deployment, todo.status, todo.revision)
        return DONE if todo.after is None else RetryAfter(todo.after)

    async def _create(self, deployment: Obj, replicaset: Obj) -> bool:
        """False when the name is taken by another template's set: the next look uses another hash."""
        try:
            created = await self._sets.create(replicaset)
        except ApiError as error:
            if is_already_exists(error):
                return await self._resolve_collision(deployment, replicaset)
            if namespace_is_terminating(error):
                return False
            message = f'Failed to create new replica set "{name(replicaset)}": {error}'
            await self._tell_failure(deployment, message)
            raise
        size = created["spec"].get("replicas") or 0
        if size:
            text = f"Scaled up replica set {name(created)} from 0 to {size}"
            self.recorder.event(deployment, "Normal", "ScalingReplicaSet", text)
        return True

    async def _resolve_collision(self, deployment: Obj, replicaset: Obj) -> bool:
        found = await self._sets.fetch(replicaset)
        controller = controller_of(found)
        mine = controller is not None and controller["uid"] == uid(deployment)
        if mine and revisions.same_template(found["spec"]["template"], replicaset["spec"]["template"]):
            # Ours, created by a look whose answer was lost; the watch will show it.
            return False
        old = deployment.get("status") or {}
        changed = {**old, "collisionCount": (old.get("collisionCount") or 0) + 1}
        await self._deployments.update({**deployment, "status": changed}, subresource="status")
        return False

    async def _tell_failure(self, deployment: Obj, message: str) -> None:
        self.recorder.event(deployment, "Warning", status.CREATE_FAILED, message)
        old = deployment.get("status") or {}
        shown = {**old, "conditions": old.get("conditions") or []}
        shown = status.announced(deployment, shown, status.CREATE_FAILED, message, self.clock.now())
        if shown["conditions"] != (old.get("conditions") or []):
            await self._deployments.update({**deployment, "status": shown}, subresource="status")

    async def _scale(self, deployment: Obj, scaled: Scaled) -> None:
        await self._sets.update(scaled.replicaset)
        if scaled.before != scaled.after:
            way = "up" if scaled.after > scaled.before else "down"
            text = f"Scaled {way} replica set {name(scaled.replicaset)} from {scaled.before} to {scaled.after}"
            self.recorder.event(deployment, "Normal", "ScalingReplicaSet", text)

    async def _write_status(self, deployment: Obj, wanted: Obj, revision: str) -> None:
        if not revision and wanted == _comparable(deployment.get("status") or {}):
            return
        if revision:
            # Together with the status: through the main door it would be a new generation.
            noted = {**annotations(deployment), revisions.REVISION: revision}
            deployment = {**deployment, "metadata": {**meta(deployment), "annotations": noted}}
        await self._deployments.update_status(deployment, wanted)


def _comparable(found: Obj) -> Obj:
    """A status without the zeros that are not written."""
    return {k: v for k, v in found.items() if v or k in ("observedGeneration", "terminatingReplicas", "collisionCount")}


def _selector(deployment: Obj) -> Selector:
    return from_label_selector(deployment["spec"].get("selector") or {})
