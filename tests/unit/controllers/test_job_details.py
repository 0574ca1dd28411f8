"""Jobs in the particulars that users of kube-controller-manager know: counts, conditions, orders, pauses."""

from datetime import timedelta
from typing import Any

from orca.api.builtin import JOBS, PODS
from orca.api.objects import Obj, finalizers, is_terminating, name, uid
from orca.api.times import format_time
from orca.controllers import conditions
from orca.controllers.job import JobController
from orca.controllers.job.plan import plan
from orca.controllers.job.pods import TRACKING
from orca.controllers.job.policy import Backoff, delay, finished_at, follow, match_failure, match_success
from orca.controllers.podstate import active_order
from tests.unit.controllers.support import NOW, running_one
from tests.unit.controllers.test_job import job, one_pod

LATER = NOW + timedelta(hours=1)


def with_status(found: Obj, **status: Any) -> Obj:
    return {**found, "status": {"uncountedTerminatedPods": {}, "startTime": format_time(NOW), **status}}


def interim(kind: str) -> Obj:
    return {
        "type": kind,
        "status": "True",
        "reason": "Why",
        "message": "because",
        "lastTransitionTime": format_time(NOW),
    }


def test_pods_that_end_with_a_failed_job_count_as_failed_without_being_awaited() -> None:
    pods = [one_pod(1, deleting=True), one_pod(2, phase="Failed"), one_pod(3, phase="Succeeded")]
    for policy in ("Failed", "TerminatingOrFailed"):
        found = with_status(job(podReplacementPolicy=policy), conditions=[interim("FailureTarget")])
        todo = plan(found, pods, LATER)
        assert todo.status["uncountedTerminatedPods"] == {"failed": ["u1", "u2"], "succeeded": ["u3"]}
        assert todo.untrack == pods
        assert conditions.find(todo.status["conditions"], "Failed") is None, "one still runs"


def test_pods_that_a_success_made_superfluous_do_not_count() -> None:
    found = job(
        completionMode="Indexed", completions=3, parallelism=3, successPolicy={"rules": [{"succeededIndexes": "0"}]}
    )
    first = [one_pod(0, phase="Succeeded", index=0), one_pod(1, index=1), one_pod(2, index=2)]
    todo = plan(found, first, LATER)
    assert todo.delete == first[1:]
    ended = {**found, "status": todo.status}
    left = [one_pod(1, index=1, deleting=True), one_pod(2, phase="Failed", index=2, deleting=True)]
    todo = plan(ended, left, LATER)
    assert todo.untrack == left
    assert todo.status["uncountedTerminatedPods"] == {"failed": ["u2"]}


def test_a_job_that_ends_has_started_even_if_it_is_suspended_and_nobody_noted_it() -> None:
    # A controller made the pod and died before it wrote the status; then the job was suspended.
    found = job(suspend=True, completions=1)
    done = one_pod(1, phase="Succeeded")
    for _ in range(3):
        todo = plan(found, [done], LATER)
        assert todo.status["startTime"] == format_time(LATER)
        found = {**found, "status": todo.status}
        done = {**done, "metadata": {**done["metadata"], "finalizers": []}}
    assert conditions.find(todo.status["conditions"], "Complete")
    assert plan(job(suspend=True, completions=0), [], LATER).status["startTime"] == format_time(LATER)
    assert "startTime" not in plan(job(suspend=True), [], LATER).status


def test_conditions_have_the_time_of_the_last_probe_and_keep_their_place() -> None:
    found = with_status(
        job(suspend=False), conditions=[{**interim("Suspended"), "reason": "JobSuspended"}, {"type": "X"}]
    )
    todo = plan(found, [], LATER)
    suspended, other = todo.status["conditions"]
    assert other == {"type": "X"}
    assert suspended == {
        "type": "Suspended",
        "status": "False",
        "lastProbeTime": format_time(LATER),
        "lastTransitionTime": format_time(LATER),
        "reason": "JobResumed",
        "message": "Job resumed",
    }


def test_too_many_successes_are_told() -> None:
    found = with_status(job(completions=1), succeeded=2)
    todo = plan(found, [], LATER)
    assert [reason for _, reason, _ in todo.events] == ["TooManySucceededPods", "Completed"]


def test_a_job_on_its_way_out_lets_go_of_its_pods_and_makes_none() -> None:
    found = job(completions=3, parallelism=3)
    found["metadata"]["deletionTimestamp"] = format_time(NOW)
    pods = [one_pod(1), one_pod(2, phase="Succeeded")]
    todo = plan(found, pods, LATER)
    assert not todo.create
    assert todo.untrack == pods
    assert todo.status["uncountedTerminatedPods"] == {"succeeded": ["u2"]}


def test_exit_codes_of_containers_are_looked_at_before_those_of_init_containers() -> None:
    def ended(container: str, code: int) -> Obj:
        return {"name": container, "state": {"terminated": {"exitCode": code}}}

    pod = one_pod(1, phase="Failed")
    pod["status"] |= {"initContainerStatuses": [ended("init", 3)], "containerStatuses": [ended("main", 4)]}
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3, 4]}}]
    action, text = match_failure(job(podFailurePolicy={"rules": rules}), pod)
    assert action == "FailJob"
    assert text == "Container main for pod default/p1 failed with exit code 4 matching FailJob rule at index 0"


def test_a_success_rule_about_indexes_that_do_not_exist_is_never_met() -> None:
    found = job(completionMode="Indexed", completions=2, successPolicy={"rules": [{"succeededIndexes": "5-7"}]})
    assert match_success(found, {0, 1}) == ""


def test_failures_are_remembered_when_their_pods_are_gone() -> None:
    found = job(podReplacementPolicy="TerminatingOrFailed")
    evicted = one_pod(1, deleting=True)
    first = follow(None, found, [evicted])
    assert first == Backoff(1, NOW - timedelta(seconds=30), frozenset({"u1"}))
    assert follow(first, found, [evicted]) == first, "once a pod"
    second = follow(follow(first, found, []), found, [one_pod(2, phase="Failed")])
    assert second.failures == 2
    assert delay(second.failures, second.last, NOW) == 20
    assert follow(second, found, [one_pod(3, phase="Succeeded")]).failures == 0


def test_when_a_pod_ended() -> None:
    def done(at: int) -> Obj:
        return {"name": "main", "state": {"terminated": {"finishedAt": format_time(NOW + timedelta(seconds=at))}}}

    pod = one_pod(1, phase="Failed", deleting=True)
    assert finished_at(pod) == NOW - timedelta(seconds=30)
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": format_time(NOW + timedelta(seconds=5))}
    pod["status"]["conditions"] = [unready]
    assert finished_at(pod) == NOW + timedelta(seconds=5)
    pod["status"]["containerStatuses"] = [done(7), {"name": "other", "state": {"running": {}}}]
    assert finished_at(pod) == NOW + timedelta(seconds=5), "not all containers have ended"
    pod["status"]["containerStatuses"] = [done(7), done(9)]
    assert finished_at(pod) == NOW + timedelta(seconds=9)


def test_the_youngest_of_the_ready_pods_goes_first_whatever_its_cost() -> None:
    pods = []
    for number, (seconds, cost) in enumerate([(0, "-5"), (40, "7"), (20, "0")]):
        pod = one_pod(number)
        pod["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
        since = format_time(NOW + timedelta(seconds=seconds))
        pod["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
        pods.append(pod)
    unready = one_pod(9)
    assert [name(pod) for pod in active_order([*pods, unready])] == ["p9", "p1", "p2", "p0"]


async def test_adopts_pods_with_the_finalizer_that_tracks_them_and_releases_them_without() -> None:
    async with running_one(JobController) as (cluster, _):
        orphan = one_pod(1)
        orphan["metadata"] |= {"finalizers": ["example.com/mine"]}
        cluster.api.seed(PODS, orphan)
        await cluster.api.create(JOBS, job(completions=None))
        await cluster.settle(2)
        adopted = await cluster.api.get(PODS, "p1", "default")
        assert finalizers(adopted) == ["example.com/mine", TRACKING]
        assert adopted["metadata"]["ownerReferences"][0]["kind"] == "Job"
        await cluster.api.patch(PODS, "p1", {"metadata": {"labels": {"job": None}}}, "default")
        await cluster.settle(2)
        released = await cluster.api.get(PODS, "p1", "default")
        assert finalizers(released) == ["example.com/mine"]
        assert not released["metadata"].get("ownerReferences")
        assert uid(released) == uid(adopted)
        assert not is_terminating(released)
