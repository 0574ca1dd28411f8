"""sig-apps: Jobs whose pods end as the test wants."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api.conformance.cases import eventually, gone, ok, template, when
from tests.api.conformance.host import NAME, Host, now
from tests.api.server.api import Api

LONG_AGO = "2026-01-01T00:00:00Z"
"""Pods that failed then are replaced at once: the back-off counts from their end."""
INDEX = "batch.kubernetes.io/job-completion-index"


class Jobs:
    """The Jobs of a namespace and their pods."""

    def __init__(self, api: Api, space: str) -> None:
        self.api, self.path = api, f"/apis/batch/v1/namespaces/{space}/jobs"
        self.pods_path = f"/api/v1/namespaces/{space}/pods"

    async def make(self, name: str, **spec: Any) -> Any:
        body = {"template": template({"job": name}, restartPolicy="Never"), **spec}
        return ok(await self.api.post(self.path, {"metadata": {"name": name}, "spec": body}), 201)

    async def patch(self, name: str, **spec: Any) -> Any:
        return await self.api.patch(f"{self.path}/{name}", {"spec": spec}, "strategic")

    async def pods(self) -> list[Any]:
        found = ok(await self.api.get(self.pods_path))["items"]
        return sorted(found, key=lambda one: one["metadata"]["name"])

    async def running(self, count: int) -> list[Any]:
        """Those that run, once there are so many."""

        async def look() -> list[Any]:
            found = await self.pods()
            return [p for p in found if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]]

        return await eventually(look, lambda found: len(found) == count)

    async def end(self, one: Any, code: int = 0) -> None:
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": LONG_AGO}
        container = {**one["status"]["containerStatuses"][0], "ready": False, "state": {"terminated": ended}}
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]}
        ok(await self.api.patch(f"{self.pods_path}/{one['metadata']['name']}/status", {"status": status}))

    async def has(self, name: str, kind: str, reason: str) -> Any:
        """The Job, once it has a condition for a reason."""

        def told(job: Any) -> bool:
            found = job.get("status", {}).get("conditions") or ()
            return any((c["type"], c["status"], c.get("reason")) == (kind, "True", reason) for c in found)

        return await when(self.api, f"{self.path}/{name}", told)


async def test_a_success_policy_ends_a_job_while_indexes_are_pending(api: Api, space: str, running: Host) -> None:
    jobs = Jobs(api, space)
    policy = {"rules": [{"succeededIndexes": "1-2", "succeededCount": 1}]}
    await jobs.make("e2e", completionMode="Indexed", completions=5, parallelism=2, successPolicy=policy)
    first, second = await jobs.running(2)
    assert [one["metadata"]["labels"][INDEX] for one in (first, second)] == ["0", "1"]
    await jobs.end(first)  # not one of those that count
    await jobs.running(2)
    await jobs.end(second)
    await jobs.has("e2e", "SuccessCriteriaMet", "SuccessPolicy")
    status = (await jobs.has("e2e", "Complete", "SuccessPolicy"))["status"]
    assert (status["completedIndexes"], status["ready"], status["terminating"]) == ("0,1", 0, 0)
    assert not status.get("active")
    assert not status.get("failed")


async def test_a_pod_is_replaced_when_it_has_failed_not_while_it_ends(api: Api, space: str, running: Host) -> None:
    jobs = Jobs(api, space)
    held = template({"job": "e2e"}, restartPolicy="Never")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await jobs.make("e2e", podReplacementPolicy="Failed", template=held)
    (pod,) = await jobs.running(1)
    path = f"{jobs.pods_path}/{pod['metadata']['name']}"
    ok(await api.delete(path, {"gracePeriodSeconds": 30}))
    waiting = await when(api, f"{jobs.path}/e2e", lambda j: j["status"].get("terminating") == 1)
    assert not waiting["status"].get("active")
    await asyncio.sleep(0.5)
    assert len(await jobs.pods()) == 1
    await jobs.end(pod, 143)
    await when(
        api,
        f"{jobs.path}/e2e",
        lambda j: (j["status"].get("failed"), j["status"].get("active"), j["status"]["terminating"]) == (1, 1, 0),
    )
    for one in await jobs.pods():
        change = {"metadata": {"finalizers": None}}
        ok(await api.patch(f"{jobs.pods_path}/{one['metadata']['name']}", change))


async def test_failures_by_disruption_are_ignored(api: Api, space: str, running: Host) -> None:
    jobs = Jobs(api, space)
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    await jobs.make("e2e", backoffLimit=0, podFailurePolicy={"rules": [ignore]})
    (first,) = await jobs.running(1)
    target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    path = f"{jobs.pods_path}/{first['metadata']['name']}/status"
    ok(await api.patch(path, {"status": {"conditions": [target]}}, "strategic"))
    await jobs.end(first, 137)
    (second,) = await jobs.running(1)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    await jobs.end(second)
    status = (await jobs.has("e2e", "Complete", "CompletionsReached"))["status"]
    assert not status.get("failed")


async def test_a_suspended_job_takes_another_size_and_place(api: Api, space: str, running: Host) -> None:
    jobs = Jobs(api, space)
    await jobs.make("e2e")
    await jobs.running(1)
    sized = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "10m"}}}]}
    refused = await jobs.patch("e2e", template={"spec": sized})
    assert refused.failure[:2] == (422, "Invalid")
    ok(await jobs.patch("e2e", suspend=True))
    await jobs.has("e2e", "Suspended", "JobSuspended")
    await when(api, f"{jobs.path}/e2e", lambda j: not j["status"].get("active") and not j["status"]["terminating"])
    placed = {"nodeSelector": {"kubernetes.io/hostname": NAME}, **sized}
    ok(await jobs.patch("e2e", template={"metadata": {"labels": {"x": "y"}}, "spec": placed}))
    other = await jobs.patch("e2e", template={"spec": {"containers": [{"name": "main", "image": "other:1"}]}})
    assert other.failure[:2] == (422, "Invalid")
    ok(await jobs.patch("e2e", suspend=False))
    (pod,) = await jobs.running(1)
    assert pod["metadata"]["labels"]["x"] == "y"
    assert pod["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "10m"}}


async def test_an_indexed_job_changes_its_size(api: Api, space: str, running: Host) -> None:
    jobs = Jobs(api, space)
    await jobs.make("e2e", completionMode="Indexed", completions=3, parallelism=3)
    await jobs.running(3)
    ok(await jobs.patch("e2e", completions=2, parallelism=2))
    left = await jobs.running(2)
    assert [one["metadata"]["labels"][INDEX] for one in left] == ["0", "1"]
    alone = await jobs.patch("e2e", completions=5)
    assert "can only be modified in tandem with spec.parallelism" in alone.failure[2]
    ok(await jobs.patch("e2e", completions=4, parallelism=4))
    for one in await jobs.running(4):
        assert one["spec"]["hostname"] == f"e2e-{one['metadata']['labels'][INDEX]}"
        await jobs.end(one)
    status = (await jobs.has("e2e", "Complete", "CompletionsReached"))["status"]
    assert status["completedIndexes"] == "0-3"


async def test_the_job_of_another_controller_is_left_alone(api: Api, space: str, running: Host) -> None:
    jobs = Jobs(api, space)
    await jobs.make("theirs", managedBy="example.com/mine")
    await jobs.make("ours")
    await jobs.running(1)
    assert ok(await api.get(f"{jobs.path}/theirs")).get("status", {}) == {}
    changed = await jobs.patch("theirs", managedBy="example.com/other")
    assert changed.failure[:2] == (422, "Invalid")
    status = {"active": 1, "startTime": now(), "ready": 0, "terminating": 0, "uncountedTerminatedPods": {}}
    assert ok(await api.patch(f"{jobs.path}/theirs/status", {"status": status}))["status"]["active"] == 1


async def test_the_deadline_of_a_job_ends_its_pods(api: Api, space: str, running: Host) -> None:
    jobs = Jobs(api, space)
    await jobs.make("e2e", activeDeadlineSeconds=1, parallelism=2, ttlSecondsAfterFinished=1)
    await jobs.has("e2e", "FailureTarget", "DeadlineExceeded")
    failed = await jobs.has("e2e", "Failed", "DeadlineExceeded")
    (told,) = [c for c in failed["status"]["conditions"] if c["type"] == "Failed"]
    assert told["message"] == "Job was active longer than specified deadline"
    assert failed["status"]["failed"] == 2
    await gone(api, f"{jobs.path}/e2e")
    await eventually(jobs.pods, lambda found: not found)
