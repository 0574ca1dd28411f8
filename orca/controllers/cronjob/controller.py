"""Carries out the plan for one CronJob."""

from datetime import datetime

from orca.api.builtin import CRONJOBS, JOBS
from orca.api.errors import ApiError, is_already_exists
from orca.api.objects import Obj, controller_of, key, name, uid
from orca.api.times import format_time
from orca.controllers.cronjob.plan import Plan, make_job, next_look, plan, reference
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter, owner_key
from orca.controllers.podcontrol import namespace_is_terminating


class CronJobController(Controller):
    """Keys are CronJobs; each wakes itself for the next time of its schedule."""

    name = "cronjob-controller"
    resource = CRONJOBS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._cronjobs = self.caches.of(CRONJOBS)
        self._jobs = self.caches.of(JOBS)
        self._cronjobs.informer.on_add(self.enqueue)
        self._cronjobs.informer.on_update(self._changed)
        self._cronjobs.informer.on_delete(lambda gone: self.queue.forget(key(gone)))
        self._jobs.informer.on_add(self._job_changed)
        self._jobs.informer.on_update(lambda _, new: self._job_changed(new))
        self._jobs.informer.on_delete(self._job_changed)

    def _changed(self, old: Obj, new: Obj) -> None:
        """A new schedule begins with its next time: it has not missed the times it would have had before."""
        if any(old["spec"].get(part) != new["spec"].get(part) for part in ("schedule", "timeZone")):
            wait = next_look(new, self.clock.now())
            if wait is not None:
                self.queue.add_after(key(new), wait)
                return
        self.enqueue(new)

    def _job_changed(self, job: Obj) -> None:
        found = owner_key(self._cronjobs, CRONJOBS.kind, job)
        if found is not None:
            self.queue.add(found)

    async def sync(self, key: str) -> Outcome:
        """One look at one CronJob."""
        found = self._cronjobs.get(key)
        if found is None:
            return DONE
        cronjob = {"apiVersion": CRONJOBS.api_version, "kind": CRONJOBS.kind, **found}
        todo = plan(cronjob, self._jobs.by_index("owner", uid(cronjob)), self.clock.now())
        for kind, reason, message in todo.events:
            self.recorder.event(cronjob, kind, reason, message)
        started = await self._start(cronjob, todo, todo.start) if todo.start is not None else True
        if todo.status != (cronjob.get("status") or {}) and (
            await self._cronjobs.update_status(cronjob, todo.status) is None
        ):
            return DONE
        # Not before: what tells that a time was served goes only when the status says it as well.
        pruned = [await self._prune(cronjob, job) for job in todo.prune]
        if not started or not all(pruned):
            return RetryAfter()
        return DONE if todo.wake is None else RetryAfter(todo.wake)

    async def _start(self, cronjob: Obj, todo: Plan, when: datetime) -> bool:
        """Creates the job and notes it in the plan's status; False: try again."""
        for job in todo.replace:
            await self._delete(cronjob, job)
        gone = set(map(uid, todo.replace))
        active = [entry for entry in todo.status.pop("active", ()) if entry["uid"] not in gone]
        wanted = make_job(cronjob, when)
        try:
            job = await self._jobs.create(wanted)
        except ApiError as error:
            if active:
                todo.status["active"] = active
            if namespace_is_terminating(error):
                return True
            if not is_already_exists(error):
                self.recorder.event(cronjob, "Warning", "FailedCreate", f"Error creating job: {error}")
                return False
            # Created before a crash kept it out of the status, or somebody else's.
            job = await self._jobs.fetch(wanted)
            owner = controller_of(job)
            if owner is None or owner["uid"] != uid(cronjob):
                text = f"Job with the name already exists: {name(job)}"
                self.recorder.event(cronjob, "Warning", "JobAlreadyExists", text)
                return True
        else:
            self.recorder.event(cronjob, "Normal", "SuccessfulCreate", f"Created job {name(job)}")
        todo.status["active"] = [*active, reference(job)]
        todo.status["lastScheduleTime"] = format_time(when)
        return True

    async def _prune(self, cronjob: Obj, job: Obj) -> bool:
        """Whether it could be deleted."""
        try:
            await self._delete(cronjob, job)
        except ApiError:
            return False
        return True

    async def _delete(self, cronjob: Obj, job: Obj) -> None:
        try:
            await self._jobs.delete(job, propagation="Background")
        except ApiError as error:
            self.recorder.event(cronjob, "Warning", "FailedDelete", f"Deleted job: {error}")
            raise
        self.recorder.event(cronjob, "Normal", "SuccessfulDelete", f"Deleted job {name(job)}")
