"""Finished Jobs go `ttlSecondsAfterFinished` after they finished."""

from datetime import datetime, timedelta

from orca.api.builtin import JOBS
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, is_terminating, key, uid
from orca.api.times import parse_time
from orca.controllers import conditions
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter


def expires_at(job: Obj) -> datetime | None:
    """When the Job may go; None while it runs or when it is kept."""
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is None:
        return None
    found = (job.get("status") or {}).get("conditions")
    for kind in ("Complete", "Failed"):
        condition = conditions.find(found, kind)
        if condition is not None and condition["status"] == "True" and condition.get("lastTransitionTime"):
            return parse_time(condition["lastTransitionTime"]) + timedelta(seconds=ttl)
    return None


class TTLAfterFinishedController(Controller):
    """Keys are Jobs."""

    name = "ttl-after-finished-controller"
    resource = JOBS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs = self.caches.of(JOBS)
        self._jobs.informer.on_add(self._seen)
        self._jobs.informer.on_update(lambda _, new: self._seen(new))
        self._jobs.informer.on_delete(lambda gone: self.queue.forget(key(gone)))

    def _seen(self, job: Obj) -> None:
        if expires_at(job) is not None and not is_terminating(job):
            self.enqueue(job)

    async def sync(self, key: str) -> Outcome:
        """One Job."""
        job = self._jobs.get(key)
        ends = expires_at(job) if job is not None else None
        if job is None or ends is None or is_terminating(job):
            return DONE
        left = (ends - self.clock.now()).total_seconds()
        if left > 0:
            return RetryAfter(left)
        try:
            fresh = await self._jobs.fetch(job)
        except ApiError as error:
            if is_not_found(error):
                return DONE
            raise
        # What somebody just gave more time is kept.
        ends = expires_at(fresh) if uid(fresh) == uid(job) else None
        if ends is None or is_terminating(fresh):
            return DONE
        left = (ends - self.clock.now()).total_seconds()
        if left > 0:
            return RetryAfter(left)
        await self._jobs.delete(fresh, propagation="Foreground")
        return DONE
