"""Jobs: the plan's safety rules from any state, and whole lives of jobs over the fake API in virtual time."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api.builtin import EVENTS, JOBS, PODS
from orca.api.objects import Obj, annotations, is_terminating, labels, name, uid
from orca.api.times import format_time
from orca.controllers import conditions, podstate
from orca.controllers.job import JobController
from orca.controllers.job.indexes import INDEX, index_of, parse, show
from orca.controllers.job.plan import plan
from orca.controllers.job.pods import FAILURES, TRACKING, is_tracked
from orca.controllers.job.policy import match_success
from tests.unit.controllers.support import NOW, Cluster, running_one


def job(**spec: Any) -> Obj:
    """Job default/web with the API server's defaults."""
    indexed = spec.get("completionMode") == "Indexed"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "web", "namespace": "default", "uid": "job-uid"},
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 6,
            "completionMode": "Indexed" if indexed else "NonIndexed",
            "suspend": False,
            "podReplacementPolicy": "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed",
            "selector": {"matchLabels": {"job": "web"}},
            "template": {
                "metadata": {"labels": {"job": "web"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]},
            },
            **spec,
        },
    }


def one_pod(number: int, *, phase: str = "Running", index: int | None = None, deleting: bool = False) -> Obj:
    made: Obj = {
        "metadata": {
            "name": f"p{number}",
            "namespace": "default",
            "uid": f"u{number}",
            "labels": {"job": "web"},
            "finalizers": [TRACKING],
            "creationTimestamp": format_time(NOW),
        },
        "spec": {},
        "status": {"phase": phase},
    }
    if index is not None:
        made["metadata"]["annotations"] = {INDEX: str(index)}
    if deleting:
        made["metadata"] |= {"deletionTimestamp": format_time(NOW), "deletionGracePeriodSeconds": 30}
    return made


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Obj, list[Obj]]:
    indexed = draw(st.booleans())
    spec: dict[str, Any] = {"parallelism": draw(st.integers(0, 5)), "suspend": draw(st.booleans())}
    spec["completions"] = draw(st.integers(0, 6) if indexed else st.one_of(st.none(), st.integers(0, 6)))
    spec["backoffLimit"] = draw(st.integers(0, 6))
    spec["podReplacementPolicy"] = draw(st.sampled_from(["Failed", "TerminatingOrFailed"]))
    if indexed:
        spec["completionMode"] = "Indexed"
        spec["backoffLimitPerIndex"] = draw(st.one_of(st.none(), st.integers(0, 2)))
    phases = st.sampled_from(["Pending", "Running", "Succeeded", "Failed"])
    pods = [
        one_pod(
            n,
            phase=draw(phases),
            index=draw(st.integers(0, 7)) if indexed else None,
            deleting=draw(st.booleans()),
        )
        for n in range(draw(st.integers(0, 8)))
    ]
    return job(**spec), pods


@given(worlds())
def test_is_never_over_parallelism_and_never_doubles_an_index(world: tuple[Obj, list[Obj]]) -> None:
    found, pods = world
    todo = plan(found, pods, NOW + timedelta(hours=1))
    going = {uid(one) for one in (*todo.delete, *todo.discard)}
    left = [one for one in pods if podstate.is_active(one) and uid(one) not in going]
    ended = any(c["type"] in ("FailureTarget", "SuccessCriteriaMet") for c in todo.status.get("conditions", ()))
    allowed = 0 if ended or found["spec"]["suspend"] else found["spec"]["parallelism"]
    if found["spec"]["completions"] is None and todo.status["uncountedTerminatedPods"].get("succeeded") and not going:
        assert not todo.create, "after the first success what runs ends by itself"
    else:
        assert len(left) + len(todo.create) <= allowed
    assert todo.status.get("active", 0) == len(left) + len(todo.create)
    assert not (todo.create and going)
    assert all(is_tracked(one) for one in todo.create)
    if found["spec"]["completionMode"] == "Indexed":
        indexes = [index_of(one) for one in (*left, *todo.create)]
        assert len(set(indexes)) == len(indexes)
        assert all(index is not None and index < found["spec"]["completions"] for index in indexes if not ended)
        assert not set(indexes) & parse(todo.status.get("completedIndexes"), 100)


@given(worlds())
@settings(max_examples=200)
def test_counts_every_pod_once_wherever_it_is_interrupted(world: tuple[Obj, list[Obj]]) -> None:
    found, pods = world
    now = NOW + timedelta(hours=1)
    good = [one for one in pods if podstate.phase(one) == "Succeeded"]
    limit = found["spec"]["completions"] or 0
    indexed = found["spec"]["completionMode"] == "Indexed"
    seen: set[str] = set()
    for step in range(30):
        todo = plan(found, pods, now)
        listed = todo.status.get("uncountedTerminatedPods") or {}
        seen |= {*listed.get("succeeded", ()), *listed.get("failed", ())}
        found = {**found, "status": todo.status}
        # Only some finalizers go in the odd looks, as when the controller dies between two of them.
        gone = {uid(one) for n, one in enumerate(todo.untrack) if step % 2 or n % 2}
        pods = [{**one, "metadata": {**one["metadata"], "finalizers": []}} if uid(one) in gone else one for one in pods]
        leaving = {uid(one) for one in (*todo.delete, *todo.discard)}
        pods = [one for one in pods if uid(one) not in leaving]
    status = found["status"]
    listed = status.get("uncountedTerminatedPods") or {}
    total = len(listed.get("failed", ())) + status.get("failed", 0)
    if indexed:
        assert parse(status.get("completedIndexes"), 100) == {
            i for i in map(index_of, good) if i is not None and i < limit
        }
        assert total == len(seen)
    else:
        assert status.get("succeeded", 0) == len(good)
        assert total + status.get("succeeded", 0) == len(seen)


def test_intervals() -> None:
    assert show({1, 3, 4, 5, 7}) == "1,3-5,7"
    assert show({0, 1}) == "0,1"
    assert parse("1,3-5,7", 6) == {1, 3, 4, 5}
    assert show(()) == ""


@given(st.sets(st.integers(0, 60)))
def test_intervals_round_trip(indexes: set[int]) -> None:
    assert parse(show(indexes), 100) == indexes


def test_success_policy() -> None:
    rules = [{"succeededIndexes": "0,2-3", "succeededCount": 2}, {"succeededCount": 4}]
    found = job(completionMode="Indexed", completions=6, successPolicy={"rules": rules})
    assert match_success(found, {0}) == ""
    assert match_success(found, {0, 3}) == "Matched rules at index 0"
    assert match_success(found, {0, 1, 4, 5}) == "Matched rules at index 1"


Verdict = Callable[[Obj], int | None]


class Host:
    """Ends pods: `verdict` is the exit code of a pod's container, None lets it run."""

    def __init__(self, cluster: Cluster, verdict: Verdict) -> None:
        self.cluster, self.verdict = cluster, verdict
        self.most = 0

    async def run(self, seconds: int) -> None:
        api = self.cluster.api
        for _ in range(seconds):
            await self.cluster.settle(1)
            live = [one for one in api.objects(PODS) if podstate.is_active(one)]
            self.most = max(self.most, len(live))
            for one in live:
                code = self.verdict(one)
                if code is not None:
                    ended = {"exitCode": code, "finishedAt": format_time(self.cluster.clock.now())}
                    containers = [{"name": "main", "state": {"terminated": ended}}]
                    status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": containers}
                    await api.patch(PODS, name(one), {"status": status}, "default", subresource="status")
        await self.cluster.settle(1)

    async def status(self) -> Obj:
        found: Obj = (await self.cluster.api.get(JOBS, "web", "default"))["status"]
        return found


def _types(status: Obj) -> list[str]:
    return [c["type"] for c in status.get("conditions", ()) if c["status"] == "True"]


def _reasons(cluster: Cluster) -> list[str]:
    return [event["reason"] for event in cluster.api.objects(EVENTS)]


async def test_runs_to_completion() -> None:
    async with running_one(JobController) as (cluster, controller):
        host = Host(cluster, lambda _: 0)
        await cluster.api.create(JOBS, job(completions=5, parallelism=2))
        await host.run(8)
        status = await host.status()
        assert status["succeeded"] == 5
        assert _types(status) == ["SuccessCriteriaMet", "Complete"]
        assert status["completionTime"]
        assert status["uncountedTerminatedPods"] == {}
        assert host.most == 2
        pods = cluster.api.objects(PODS)
        assert len(pods) == 5
        assert not any(map(is_tracked, pods))
        await controller.recorder.flush()
        assert _reasons(cluster).count("SuccessfulCreate") == 5
        assert "Completed" in _reasons(cluster)


async def test_backs_off_and_fails_at_the_limit() -> None:
    async with running_one(JobController) as (cluster, controller):
        host = Host(cluster, lambda _: 1)
        await cluster.api.create(JOBS, job(backoffLimit=2))
        await host.run(8)
        assert (await host.status())["failed"] == 1
        await host.run(20)
        assert (await host.status())["failed"] == 2
        await host.run(25)
        status = await host.status()
        assert status["failed"] == 3
        assert _types(status) == ["FailureTarget", "Failed"]
        assert status["conditions"][-1]["reason"] == "BackoffLimitExceeded"
        assert status["conditions"][-1]["message"] == "Job has reached the specified backoff limit"
        await controller.recorder.flush()
        assert "BackoffLimitExceeded" in _reasons(cluster)


async def test_indexed_pods_say_their_index() -> None:
    async with running_one(JobController) as (cluster, _):
        host = Host(cluster, lambda one: 0 if index_of(one) != 1 else None)
        await cluster.api.create(JOBS, job(completions=4, parallelism=4, completionMode="Indexed"))
        await host.run(3)
        assert (await host.status())["completedIndexes"] == "0,2,3"
        host.verdict = lambda _: 0
        await host.run(3)
        status = await host.status()
        assert status["completedIndexes"] == "0-3"
        assert "Complete" in _types(status)
        first = min(cluster.api.objects(PODS), key=lambda one: index_of(one) or 0)
        assert name(first).startswith("web-0-")
        assert first["spec"]["hostname"] == "web-0"
        assert labels(first)[INDEX] == annotations(first)[INDEX] == "0"
        assert first["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"


async def test_backoff_limit_per_index() -> None:
    async with running_one(JobController) as (cluster, _):
        host = Host(cluster, lambda one: 1 if index_of(one) == 1 else 0)
        spec = job(
            completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=1, backoffLimit=2**31 - 1
        )
        await cluster.api.create(JOBS, spec)
        await host.run(30)
        status = await host.status()
        assert status["failedIndexes"] == "1"
        assert status["completedIndexes"] == "0,2"
        assert status["failed"] == 2
        assert status["conditions"][-1]["reason"] == "FailedIndexes"
        tries = [annotations(one)[FAILURES] for one in cluster.api.objects(PODS) if index_of(one) == 1]
        assert tries == ["0", "1"]


async def test_too_many_failed_indexes() -> None:
    async with running_one(JobController) as (cluster, _):
        host = Host(cluster, lambda one: 1 if index_of(one) else None)
        spec = job(completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=0, maxFailedIndexes=1)
        await cluster.api.create(JOBS, spec)
        await host.run(3)
        assert (await host.status())["conditions"][-1]["reason"] == "MaxFailedIndexesExceeded"


@pytest.mark.parametrize("action", ["FailJob", "Ignore", "Count"])
async def test_failure_policy(action: str) -> None:
    rule = {"action": action, "onExitCodes": {"operator": "In", "values": [42]}}
    async with running_one(JobController) as (cluster, _):
        host = Host(cluster, lambda _: 42)
        await cluster.api.create(JOBS, job(backoffLimit=0, podFailurePolicy={"rules": [rule]}))
        await host.run(4)
        status = await host.status()
        if action == "Ignore":
            assert _types(status) == []
            assert not status.get("failed")
            return
        reason = "PodFailurePolicy" if action == "FailJob" else "BackoffLimitExceeded"
        assert status["conditions"][-1]["reason"] == reason
        if action == "FailJob":
            assert "failed with exit code 42 matching FailJob rule at index 0" in status["conditions"][-1]["message"]


async def test_success_policy_ends_the_rest() -> None:
    async with running_one(JobController) as (cluster, _):
        host = Host(cluster, lambda one: 0 if index_of(one) == 0 else None)
        policy = {"rules": [{"succeededIndexes": "0"}]}
        await cluster.api.create(
            JOBS, job(completions=3, parallelism=3, completionMode="Indexed", successPolicy=policy)
        )
        await host.run(4)
        status = await host.status()
        assert _types(status) == ["SuccessCriteriaMet", "Complete"]
        assert status["conditions"][0]["reason"] == "SuccessPolicy"
        assert not any(podstate.is_active(one) for one in cluster.api.objects(PODS))


async def test_suspend_and_resume() -> None:
    async with running_one(JobController) as (cluster, controller):
        host = Host(cluster, lambda _: None)
        await cluster.api.create(JOBS, job(completions=3, parallelism=3, suspend=True))
        await host.run(2)
        status = await host.status()
        assert _types(status) == ["Suspended"]
        assert "startTime" not in status
        await cluster.api.patch(JOBS, "web", {"spec": {"suspend": False}}, "default")
        await host.run(2)
        status = await host.status()
        assert status["active"] == 3
        assert status["startTime"]
        await cluster.api.patch(JOBS, "web", {"spec": {"suspend": True}}, "default")
        await host.run(2)
        status = await host.status()
        assert not status.get("active")
        assert not status.get("failed")
        assert not cluster.api.objects(PODS)
        await controller.recorder.flush()
        assert {"Suspended", "Resumed"} <= set(_reasons(cluster))


async def test_deadline() -> None:
    async with running_one(JobController) as (cluster, _):
        host = Host(cluster, lambda _: None)
        await cluster.api.create(JOBS, job(activeDeadlineSeconds=5))
        await host.run(2)
        assert _types(await host.status()) == []
        await host.run(4)
        status = await host.status()
        assert status["conditions"][-1]["reason"] == "DeadlineExceeded"
        assert not cluster.api.objects(PODS)


async def test_frees_pods_of_a_deleted_job_and_leaves_others_alone() -> None:
    async with running_one(JobController) as (cluster, _):
        host = Host(cluster, lambda _: None)
        await cluster.api.create(JOBS, job(parallelism=2, completions=2))
        await host.run(1)
        assert len(cluster.api.objects(PODS)) == 2
        await cluster.api.delete(JOBS, "web", "default")
        await cluster.settle(1)
        assert not any(map(is_tracked, cluster.api.objects(PODS)))


async def test_leaves_jobs_of_other_controllers_alone() -> None:
    async with running_one(JobController) as (cluster, _):
        await cluster.api.create(JOBS, job(managedBy="example.com/queue"))
        await cluster.settle(2)
        assert not cluster.api.objects(PODS)


async def test_waits_for_the_end_of_pods_that_it_replaces_when_failed() -> None:
    async with running_one(JobController) as (cluster, _):
        host = Host(cluster, lambda _: None)
        await cluster.api.create(JOBS, job(podReplacementPolicy="Failed"))
        await host.run(1)
        first = cluster.api.objects(PODS)[0]
        await cluster.api.create_sub(PODS, name(first), "default", "binding", {"target": {"name": "host-1"}})
        await cluster.api.delete(PODS, name(first), "default")
        await host.run(2)
        assert [is_terminating(one) for one in cluster.api.objects(PODS)] == [True]
        assert (await host.status())["terminating"] == 1
        await cluster.api.patch(PODS, name(first), {"status": {"phase": "Failed"}}, "default", subresource="status")
        await host.run(60)
        assert conditions.find((await host.status()).get("conditions"), "Failed") is None
        assert sum(podstate.is_active(one) for one in cluster.api.objects(PODS)) == 1
