"""Jobs: never over parallelism, no pod counted twice or forgotten whenever the controller dies, and an end for each."""

from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import JOBS
from orca.api.objects import Obj, is_terminating, uid
from orca.controllers import conditions, podstate
from orca.controllers.claims import owner_reference
from orca.controllers.job.indexes import index_of, parse
from orca.controllers.job.plan import is_finished, plan
from orca.controllers.job.pods import FAILURES, TRACKING, count_of, is_tracked, make_pod
from orca.controllers.job.policy import only_failed
from tests.unit.controllers.properties.world import QUICK, Story, World, stories
from tests.unit.controllers.test_job import job

RULES = [
    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
]


@st.composite
def jobs(draw: st.DrawFn) -> Obj:
    indexed = draw(st.booleans())
    spec: dict[str, Any] = {
        "parallelism": draw(st.integers(0, 4)),
        "completions": draw(st.integers(0, 5) if indexed else st.one_of(st.none(), st.integers(0, 5))),
        "backoffLimit": draw(st.sampled_from([0, 1, 3, 100])),
        "podReplacementPolicy": draw(st.sampled_from(["Failed", "TerminatingOrFailed"])),
        "suspend": draw(st.sampled_from([False, False, True])),
    }
    if indexed:
        spec["completionMode"] = "Indexed"
        if draw(st.booleans()):
            spec |= {"backoffLimit": 2**31 - 1, "backoffLimitPerIndex": draw(st.integers(0, 2))}
            if draw(st.booleans()):
                spec["maxFailedIndexes"] = draw(st.integers(0, spec["completions"]))
        if spec["completions"] and draw(st.booleans()):
            spec["successPolicy"] = {"rules": [{"succeededCount": draw(st.integers(1, spec["completions"]))}]}
    if draw(st.booleans()):
        spec |= {"podFailurePolicy": {"rules": RULES}, "podReplacementPolicy": "Failed"}
    if draw(st.booleans()):
        spec["activeDeadlineSeconds"] = draw(st.integers(1, 60))
    return job(**spec)


class Work(World):
    """A Job whose controller may die after any of its writes. `counted` is how often each end entered the status."""

    def __init__(self, one: Obj) -> None:
        super().__init__()
        self.job = {**one, "metadata": {**one["metadata"], "generation": 1}, "status": {}}
        self.ended: dict[str, str] = {}

    def edit(self, **spec: Any) -> None:
        self.job = {**self.job, "spec": {**self.job["spec"], **spec}}

    def step(self, what: str, number: int) -> None:
        match what:
            case "sync":
                self.sync()
            case "dies":
                self.sync(writes=number % 6)
                self.seen = dict(self.pods)  # its successor lists anew
            case "suspend":
                self.edit(suspend=not self.job["spec"]["suspend"])
            case "resize" if "successPolicy" not in self.job["spec"]:
                self.edit(parallelism=number % 5)
            case "resize":
                pass
            case _:
                self.happen(what, number)

    def sync(self, writes: int = 1000) -> bool:
        """One look that gets as far as so many writes, checked; answers whether it wanted anything."""
        view, before = self.view(), self.job["status"]
        todo = plan(self.job, view, self.now)
        self._check_creations(todo.create, view)
        for pod in (*todo.delete, *todo.discard):
            assert podstate.is_active(pod)
        for pod in todo.untrack:
            assert is_tracked(pod)
        gone = {uid(pod) for pod in (*todo.delete, *todo.discard)}
        if self.job["spec"]["completionMode"] == "Indexed" and not is_finished(self.job):
            kept = [index_of(pod) for pod in view if podstate.is_active(pod) and uid(pod) not in gone]
            assert len(kept) == len(set(kept)), "two pods of one index"
        actions: list[Any] = []
        for pod in todo.delete:
            actions.append(lambda pod=pod: self.delete(pod))
        for pod in todo.discard:
            actions += [lambda pod=pod: self.untrack(pod, TRACKING), lambda pod=pod: self.delete(pod)]
        for pod in todo.create:
            actions.append(lambda pod=pod: self.create(_owned(self.job, pod)))
        actions.append(lambda: self._write_status(todo.status))
        for pod in todo.untrack:
            actions.append(lambda pod=pod: self.untrack(pod, TRACKING))
        for action in actions[:writes]:
            action()
            self.reap()
        return bool(len(actions) > 1 or todo.status != before)

    def reap(self) -> None:
        """What is being deleted and was held by the finalizer alone goes."""
        for pod in list(self.pods.values()):
            if is_terminating(pod) and podstate.is_finished(pod) and not is_tracked(pod):
                del self.pods[uid(pod)]

    def _check_creations(self, create: list[Obj], view: list[Obj]) -> None:
        spec = self.job["spec"]
        active = [pod for pod in view if podstate.is_active(pod)]
        terminating = [pod for pod in view if is_terminating(pod) and not podstate.is_finished(pod)]
        assert not create or not spec["suspend"]
        beside = len(active) + (len(terminating) if only_failed(self.job) else 0)
        assert not create or beside + len(create) <= spec["parallelism"]
        if spec["completionMode"] != "Indexed":
            done = self.job["status"].get("succeeded") or 0
            assert not create or spec["completions"] is None or done + len(active) + len(create) <= spec["completions"]
            return
        running = {index_of(pod) for pod in active}
        done = parse(self.job["status"].get("completedIndexes"), spec["completions"])
        lost = parse(self.job["status"].get("failedIndexes"), spec["completions"])
        made = [index_of(pod) for pod in create]
        assert len(made) == len(set(made))
        assert not set(made) & (running | done | lost)
        assert all(index is not None and index < spec["completions"] for index in made)
        assert all(count_of(pod, FAILURES) <= spec.get("backoffLimitPerIndex", 0) for pod in create)

    def _write_status(self, status: Obj) -> None:
        old = self.job["status"]
        for part in ("succeeded", "failed"):
            assert (status.get(part) or 0) >= (old.get(part) or 0), "counts never go back"
        assert set(parse(old.get("completedIndexes"), 99)) <= set(parse(status.get("completedIndexes"), 99))
        kinds = [one["type"] for one in status.get("conditions", ())]
        assert len(kinds) == len(set(kinds))
        assert not {"Complete", "Failed"} <= set(kinds)
        assert not {"SuccessCriteriaMet", "FailureTarget"} <= set(kinds)
        for last, target in (("Complete", "SuccessCriteriaMet"), ("Failed", "FailureTarget")):
            if last in kinds:
                assert kinds.index(target) < kinds.index(last)
                assert all(map(podstate.is_finished, self.view())), "ended with pods that run"
                assert not any(status["uncountedTerminatedPods"].values())
        assert ("completionTime" in status) == ("Complete" in kinds)
        self.job = {**self.job, "status": status}
        self._audit(status)

    def _audit(self, status: Obj) -> None:
        """No pod is in two places of the count; counted are never more than have ended."""
        uncounted = status["uncountedTerminatedPods"]
        listed = Counter([*uncounted.get("succeeded", ()), *uncounted.get("failed", ())])
        assert not listed or max(listed.values()) == 1
        counted = (status.get("failed") or 0) + len(uncounted.get("failed", ()))
        if self.job["spec"]["completionMode"] != "Indexed":
            counted += (status.get("succeeded") or 0) + len(uncounted.get("succeeded", ()))
        assert counted <= self.made

    def happen(self, what: str, number: int) -> None:
        super().happen(what, number)
        self.note_ends()

    def note_ends(self) -> None:
        for pod in self.pods.values():
            if podstate.is_finished(pod) and is_tracked(pod):
                self.ended.setdefault(uid(pod), podstate.phase(pod))


def _owned(one: Obj, pod: Obj) -> Obj:
    return {**pod, "metadata": {**pod["metadata"], "ownerReferences": [owner_reference(JOBS, one)]}}


def _finish(world: Work, *, fail: bool = False) -> None:
    """From now on all pods end by themselves."""
    for _ in range(25):
        world.now += timedelta(minutes=10, seconds=1)
        for pod in list(world.pods.values()):
            if is_terminating(pod):
                world.end(pod)
            elif not podstate.is_finished(pod):
                world.become(pod, "Running", ready=True)
                world.become(world.pods[uid(pod)], "Failed" if fail else "Succeeded", ready=False)
        world.note_ends()
        world.reap()
        world.seen = dict(world.pods)
        for writes in (1, 2, 3, 5, 1000, 1000):
            world.sync(writes)
        if is_finished(world.job):
            break
    world.sync()


@QUICK
@given(jobs(), stories("dies", "dies", "suspend", "resize", longest=40), st.lists(st.integers(0, 3), max_size=6))
def test_every_job_ends_and_counts_each_pod_once(one: Obj, story: Story, there: list[int]) -> None:
    world = Work(one)
    for index in there:
        world.create(_owned(one, make_pod(one, index if one["spec"]["completionMode"] == "Indexed" else None)))
    world.sync()
    for what, number in story:
        world.step(what, number)
        if world.job["spec"]["completionMode"] == "Indexed" and not there:
            indexes = [index_of(pod) for pod in world.active()]
            assert len(indexes) == len(set(indexes))
    world.edit(suspend=False, parallelism=max(world.job["spec"]["parallelism"], 1))
    _finish(world)
    assert is_finished(world.job)
    status, spec = world.job["status"], world.job["spec"]
    assert not any(map(is_tracked, world.pods.values()))
    assert status["terminating"] == status.get("active", 0) == 0
    if conditions.status_of(world.job, "Complete") == "True":
        if spec["completionMode"] == "Indexed":
            done = parse(status.get("completedIndexes"), spec["completions"])
            assert len(done) == status.get("succeeded", 0)
            assert len(done) == spec["completions"] or "successPolicy" in spec
        else:
            assert status.get("succeeded", 0) >= (1 if spec["completions"] is None else spec["completions"])


@QUICK
@given(st.integers(1, 4), st.integers(0, 5), stories("dies", "dies", "resize", troubles=("succeed", "fail")))
def test_the_count_is_the_number_of_pods_that_ended(parallelism: int, completions: int, story: Story) -> None:
    """Nobody takes pods away here, so that every end has to be in the count, once."""
    world = Work(job(parallelism=parallelism, completions=completions, backoffLimit=1000))
    for what, number in story:
        if what != "resize":
            world.step(what, number)
    _finish(world)
    assert is_finished(world.job)
    ends = Counter(world.ended.values())
    assert world.job["status"].get("succeeded", 0) == ends["Succeeded"] == completions
    assert world.job["status"].get("failed", 0) == ends["Failed"]


@QUICK
@given(jobs(), stories("dies", "suspend"))
def test_a_job_whose_pods_all_fail_fails_within_its_limits(one: Obj, story: Story) -> None:
    world = Work(one)
    for what, number in story:
        world.step(what, number)
    world.edit(suspend=False)
    _finish(world, fail=True)
    spec, status = world.job["spec"], world.job["status"]
    if spec["backoffLimit"] <= 3 and spec["parallelism"]:
        assert is_finished(world.job)
        reasons = {one["reason"] for one in status["conditions"] if one["type"] == "Failed"}
        if reasons == {"BackoffLimitExceeded"}:
            # Those that ran beside the last one fail with it.
            most = spec["backoffLimit"] + spec["parallelism"] + sum(is_tracked(pod) for pod in world.pods.values())
            assert spec["backoffLimit"] < status["failed"] <= most
