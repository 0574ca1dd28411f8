"""Rules of Jobs and CronJobs, judged at every change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from orca.api.objects import finalizers
from tests.api.chaos.recent import Recent, uid_of
from tests.api.chaos.world import Change, Obj, World, is_active, is_going, owner_of, phase

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class Completions:
    """Jobs: no more pods than needed, none for an index that has one or has succeeded, each end counted once."""

    def __init__(self) -> None:
        self._parallelism = Recent()
        self.ended: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"succeeded": set(), "failed": set()})
        """By uid of the Job: uids of pods that ended so."""
        self._indexes: dict[str, dict[str, str]] = defaultdict(dict)
        self._unsure: set[str] = set()
        """Uids of pods that succeeded when nobody was to count them any more."""

    def __call__(self, world: World, change: Change) -> Iterator[str]:
        if change.kind == "jobs" and change.after is not None:
            self._parallelism.note(uid_of(change.after), change.after["spec"].get("parallelism", 1), change.at)
            yield from self._counted(change.after)
        elif change.kind == "pods" and change.after is not None:
            owner = owner_of(change.after, "Job")
            if owner:
                yield from self._pod(world, owner, change)

    def _pod(self, world: World, owner: str, change: Change) -> Iterator[str]:
        pod = change.after
        assert pod is not None
        index = (pod["metadata"].get("annotations") or {}).get(INDEX)
        if phase(pod) == "Succeeded":
            if uid_of(pod) not in self.ended[owner]["succeeded"] and TRACKING not in finalizers(pod):
                self._unsure.add(uid_of(pod))
            self.ended[owner]["succeeded"].add(uid_of(pod))
            # For the index it counts as it does for the Job: not when nobody was to count it, or it was told to end.
            sure = uid_of(pod) not in self._unsure and uid_of(pod) not in self.ended[owner]["failed"]
            if index is not None and sure:
                first = self._indexes[owner].setdefault(index, uid_of(pod))
                if first != uid_of(pod):
                    yield f"index {index} has succeeded twice, first of {self._told(world, first)}"
        elif phase(pod) == "Failed" or is_going(pod):
            # A pod that is told to end counts as failed, whatever becomes of it.
            self.ended[owner]["failed"].add(uid_of(pod))
        if change.before is not None:
            return
        active = [one for one in world.pods_of(owner) if is_active(one)]
        most = self._parallelism.most(owner, change.at)
        if len(active) > most:
            yield f"the {len(active)}th pod side by side, parallelism is {most:.0f}"
        if index is not None:
            if any(one is not pod and (one["metadata"]["annotations"] or {}).get(INDEX) == index for one in active):
                yield f"a second pod for index {index}"
            if index in self._indexes[owner]:
                yield f"a pod for index {index}, which has succeeded: {self._told(world, self._indexes[owner][index])}"
            return
        job = world.by_uid("jobs", owner)
        wanted = job["spec"].get("completions") if job is not None else None
        # Those that were told to end and succeeded all the same may have been counted as failed already. Those whose
        # finalizer had been taken away were to be deleted next, by who died before that: they are not counted.
        done = len(self.ended[owner]["succeeded"] - self.ended[owner]["failed"] - self._unsure)
        if wanted is not None and done + len(active) > wanted:
            yield f"{len(active)} pods and {done} completions, of which {wanted} are wanted"

    def _told(self, world: World, uid: str) -> str:
        pod = world.by_uid("pods", uid)
        return f"{pod['metadata']} {phase(pod)}" if pod is not None else "a pod that is gone"

    def _counted(self, job: Obj) -> Iterator[str]:
        status, uid = job.get("status") or {}, uid_of(job)
        indexed = job["spec"].get("completionMode") == "Indexed"
        for part in ("succeeded", "failed"):
            there = len(self._indexes[uid] if indexed and part == "succeeded" else self.ended[uid][part])
            uncounted = (status.get("uncountedTerminatedPods") or {}).get(part) or ()
            counted = (status.get(part) or 0) + len(uncounted)
            if counted > there:
                yield f"counts {counted} {part}, {there} there were"
        complete = any(one["type"] == "Complete" and one["status"] == "True" for one in status.get("conditions") or ())
        wanted = job["spec"].get("completions")
        if complete and wanted is not None and status.get("succeeded") != wanted:
            yield f"complete with {status.get('succeeded')} of {wanted}"


class Times:
    """CronJobs: no scheduled time is started twice."""

    def __init__(self) -> None:
        self._started: dict[tuple[str, str], str] = {}

    def __call__(self, world: World, change: Change) -> Iterator[str]:
        if change.kind != "jobs" or change.before is not None or change.after is None:
            return
        owner, when = (
            owner_of(change.after, "CronJob"),
            (change.after["metadata"].get("annotations") or {}).get(SCHEDULED),
        )
        if owner and when:
            first = self._started.setdefault((owner, when), uid_of(change.after))
            if first != uid_of(change.after):
                yield f"{when} is started for the second time"
