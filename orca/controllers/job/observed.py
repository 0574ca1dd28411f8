"""One job and its pods, sorted out: what is counted, what has just ended, which indexes are done. Pure."""

from collections.abc import Sequence

from orca.api.objects import Obj, is_terminating, uid
from orca.controllers import podstate
from orca.controllers.job import policy
from orca.controllers.job.indexes import index_of, parse
from orca.controllers.job.pods import FAILURES, IGNORED, count_of, is_tracked


def failures_of(pod: Obj) -> int:
    """How often the pod's index had failed before it, ignored failures among them."""
    return count_of(pod, FAILURES) + count_of(pod, IGNORED)


class Observed:
    """`base_*` are counted for good, `uncounted_*` are uids whose finalizer is still to go, `new_*` are pods whose end
    is not in the status yet; `done` and `lost` are indexes that succeeded and that failed for good."""

    def __init__(self, job: Obj, pods: Sequence[Obj]) -> None:
        spec, status = job["spec"], job.get("status") or {}
        self.job, self.pods, self.spec = job, pods, spec
        self.indexed = bool(spec.get("completionMode") == "Indexed")
        self.completions: int | None = spec.get("completions")
        self.per_index: int | None = spec.get("backoffLimitPerIndex") if self.indexed else None
        self.active = [pod for pod in pods if podstate.is_active(pod)]
        self.terminating = [pod for pod in pods if is_terminating(pod) and not podstate.is_finished(pod)]
        tracked = {uid(pod) for pod in pods if is_tracked(pod)}
        before = status.get("uncountedTerminatedPods") or {}
        listed_ok, listed_bad = before.get("succeeded") or [], before.get("failed") or []
        self.uncounted_ok = [one for one in listed_ok if one in tracked]
        self.uncounted_bad = [one for one in listed_bad if one in tracked]
        self.base_ok = (status.get("succeeded") or 0) + len(listed_ok) - len(self.uncounted_ok)
        self.base_bad = (status.get("failed") or 0) + len(listed_bad) - len(self.uncounted_bad)
        self.known_bad = set(self.uncounted_bad)
        self.new_ok = [
            pod
            for pod in pods
            if is_tracked(pod)
            and podstate.phase(pod) == "Succeeded"
            and uid(pod) not in self.known_bad
            and uid(pod) not in self.uncounted_ok
            and self.index_is_valid(pod)
        ]
        self.failed_pods = [pod for pod in pods if is_tracked(pod) and policy.has_failed(job, pod)]
        self.verdicts = {uid(pod): policy.match_failure(job, pod) for pod in self.failed_pods}
        self.new_bad = [
            pod
            for pod in self.failed_pods
            if uid(pod) not in self.known_bad and self.verdicts[uid(pod)][0] != "Ignore" and self.index_is_valid(pod)
        ]
        self.failed = self.base_bad + len(self.uncounted_bad) + len(self.new_bad)
        self.done: set[int] = set()
        self.lost: set[int] = set()
        if self.indexed:
            limit = self.completions or 0
            self.done = parse(status.get("completedIndexes"), limit)
            self.done |= {index for pod in self.new_ok if (index := index_of(pod)) is not None}
            if self.per_index is not None:
                self.lost = parse(status.get("failedIndexes"), limit)
                self.lost |= {index for pod in self.new_bad if (index := self._fails_index(pod)) is not None}
                self.lost -= self.done
            self.succeeded = len(self.done)
        else:
            self.succeeded = self.base_ok + len(self.uncounted_ok) + len(self.new_ok)

    def index_is_valid(self, pod: Obj) -> bool:
        """It has an index that the job has; true for a job without indexes."""
        if not self.indexed:
            return True
        index = index_of(pod)
        return index is not None and index < (self.completions or 0)

    def _fails_index(self, pod: Obj) -> int | None:
        assert self.per_index is not None
        if self.verdicts[uid(pod)][0] == "FailIndex" or count_of(pod, FAILURES) >= self.per_index:
            return index_of(pod)
        return None

    def awaiting(self) -> dict[int, Obj]:
        """Index -> the failed pod whose successor is still to be made: it holds the index's number of failures."""
        if self.per_index is None:
            return {}
        following = {index_of(pod) for pod in self.active}
        found: dict[int, Obj] = {}
        for pod in self.failed_pods:
            index = index_of(pod)
            if index is None or index in self.done or index in self.lost or index in following:
                continue
            other = found.get(index)
            if self.index_is_valid(pod) and (other is None or failures_of(other) < failures_of(pod)):
                found[index] = pod
        return found
