"""Carries out the plan for one Job, and lets go of pods whose job is gone."""

from collections.abc import Sequence

from orca.api.builtin import JOBS, PODS
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, controller_of, finalizers, is_terminating, key, labels, meta, namespace, uid
from orca.api.selectors import Selector, from_label_selector
from orca.controllers.claims import claim
from orca.controllers.harness import (
    DONE,
    Coalescer,
    Context,
    Controller,
    Outcome,
    RetryAfter,
    gather_all,
    owner_key,
    raise_first,
    slow_start,
)
from orca.controllers.job.plan import Plan, is_ours, plan
from orca.controllers.job.pods import TRACKING, is_tracked
from orca.controllers.job.policy import Backoff
from orca.controllers.podcontrol import PodControl, namespace_is_terminating

ORPHAN = "orphan:"
"""Before the key of a pod whose finalizer may have outlived its job."""


class JobController(Controller):
    """Keys are Jobs, or pods without one (`orphan:namespace/name`)."""

    name = "job-controller"
    resource = JOBS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs = self.caches.of(JOBS)
        self._pods = self.caches.of(PODS)
        self._control = PodControl(self._pods, self.recorder)
        self._backoffs: dict[str, Backoff] = {}
        self._soon = Coalescer(self.queue, self.clock, 0.03)
        self._jobs.informer.on_add(self.enqueue)
        self._jobs.informer.on_update(lambda _, new: self.enqueue(new))
        self._jobs.informer.on_delete(self._job_gone)
        self._pods.informer.on_add(self._pod_changed)
        self._pods.informer.on_update(self._pod_updated)
        self._pods.informer.on_delete(self._pod_changed)

    def _job_gone(self, job: Obj) -> None:
        self.queue.forget(key(job))
        self._backoffs.pop(uid(job), None)
        for pod in self._pods.informer.by_index("owner", uid(job)):
            if is_tracked(pod):
                self.queue.add(ORPHAN + key(pod))

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if controller_of(old) != controller_of(new):
            self._pod_changed(old)
        self._pod_changed(new)

    def _pod_changed(self, pod: Obj) -> None:
        if self._jobs.empty and not is_tracked(pod):
            return
        reference = controller_of(pod)
        if reference is not None:
            found = owner_key(self._jobs, JOBS.kind, pod)
            if found is not None:
                self._soon.add(found)
            elif reference["kind"] == JOBS.kind and is_tracked(pod):
                self.queue.add(ORPHAN + key(pod))
            return
        for candidate in self._jobs.by_index("namespace", namespace(pod)):
            if _selector(candidate).matches(labels(pod)):
                self._soon.add(key(candidate))
        if is_tracked(pod):
            self.queue.add(ORPHAN + key(pod))

    async def sync(self, key: str) -> Outcome:
        """One look at one Job, or at one pod that may have lost its own."""
        if key.startswith(ORPHAN):
            return await self._free(key.removeprefix(ORPHAN))
        found = self._jobs.get(key)
        if found is None or not is_ours(found):
            return DONE
        job = {"apiVersion": JOBS.api_version, "kind": JOBS.kind, **found}
        pods = await claim(self._jobs, job, self._pods, _selector(job), finalizer=TRACKING)
        now = self.clock.now()
        todo = plan(job, pods, now, self._backoffs.get(uid(job)))
        self._note(job, todo.backoff)
        created, errors = await self._apply(job, todo)
        if created < len(todo.create):
            todo.status["active"] -= len(todo.create) - created
        # Pods that cannot be made (a quota) do not keep those that ended from being counted.
        if not await self._write_status(job, todo):
            return DONE
        errors += await gather_all(self._untrack(pod) for pod in todo.untrack)
        raise_first([error for error in errors if not is_not_found(error) and not namespace_is_terminating(error)])
        if todo.create or todo.delete or todo.discard or todo.untrack:
            self._soon.add(key)
        return DONE if todo.wake is None else RetryAfter(todo.wake)

    def _note(self, job: Obj, backoff: Backoff | None) -> None:
        if backoff is None:
            self._backoffs.pop(uid(job), None)
        else:
            self._backoffs[uid(job)] = backoff

    async def _apply(self, job: Obj, todo: Plan) -> tuple[int, list[BaseException]]:
        """Pods away, pods made; answers how many were made, and the errors."""

        async def discard(pod: Obj) -> None:
            await self._control.delete(job, await self._untrack(pod))

        errors = await gather_all(
            [*(self._control.delete(job, pod) for pod in todo.delete), *map(discard, todo.discard)]
        )
        waiting = iter(todo.create)
        created, failed = await slow_start(len(todo.create), lambda: self._control.create(job, next(waiting)))
        return created, errors + failed

    async def _untrack(self, pod: Obj) -> Obj:
        """Without the finalizer: whoever deletes the pod may have it. ApiError 404, 409."""
        if not is_tracked(pod):
            return pod
        kept = [one for one in finalizers(pod) if one != TRACKING]
        change = {"finalizers": kept or None, "resourceVersion": meta(pod)["resourceVersion"]}
        return await self._pods.patch(pod, {"metadata": change})

    async def _write_status(self, job: Obj, todo: Plan) -> bool:
        """Writes it where it differs and tells the events; False: the job is gone."""
        if todo.status == (job.get("status") or {}):
            return True
        if await self._jobs.update_status(job, todo.status) is None:
            return False
        self._tell(job, todo.events)
        return True

    def _tell(self, job: Obj, events: Sequence[tuple[str, str, str]]) -> None:
        for kind, reason, message in events:
            self.recorder.event(job, kind, reason, message)

    async def _free(self, pod_key: str) -> Outcome:
        """Takes the finalizer off a pod that no job will count."""
        pod = self._pods.get(pod_key)
        if pod is None or not is_tracked(pod) or await self._has_job(pod):
            return DONE
        try:
            await self._untrack(pod)
        except ApiError as error:
            if not is_not_found(error):
                raise
        return DONE

    async def _has_job(self, pod: Obj) -> bool:
        """There is a job that counts it, or may adopt it."""
        reference = controller_of(pod)
        if reference is None:
            return any(
                _selector(job).matches(labels(pod)) and not is_terminating(job)
                for job in self._jobs.by_index("namespace", namespace(pod))
            )
        if reference["kind"] != JOBS.kind:
            return False
        try:
            job = await self.client.get(JOBS, reference["name"], namespace(pod))
        except ApiError as error:
            if is_not_found(error):
                return False
            raise
        return uid(job) == reference["uid"]


def _selector(job: Obj) -> Selector:
    return from_label_selector(job["spec"].get("selector") or {"matchLabels": {"": ""}})
