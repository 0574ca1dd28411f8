"""Jobs and CronJobs as people use them with kubectl, on real hosts."""

from __future__ import annotations

from typing import Any

from tests.cluster import workloads
from tests.support.kubectl import Kubectl, eventually

IMAGE = "busybox:1.36"


def job(name: str, command: str, **spec: Any) -> workloads.Manifest:
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", command]}
    template = {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template, **spec}}


def test_create_job_and_wait_for_it(kubectl: Kubectl) -> None:
    done = kubectl.try_("create", "job", "hello", f"--image={IMAGE}", "--", "echo", "hello from a job")
    assert done.code == 0
    assert "Warning" not in done.err
    kubectl("wait", "--for=condition=complete", "job/hello", "--timeout=120s")
    assert kubectl("logs", "job/hello").strip() == "hello from a job"
    status = kubectl.json("get", "job", "hello")["status"]
    assert status["succeeded"] == 1
    assert status["completionTime"]
    assert status["uncountedTerminatedPods"] == {}
    (pod,) = kubectl.items("pods", "-l", "job-name=hello")
    assert not pod["metadata"].get("finalizers")
    kubectl("delete", "job", "hello")
    eventually(lambda: not kubectl.items("pods"), what="the job's pod to go")


def test_a_failing_job_stops_at_its_limit(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=workloads.text(job("broken", "exit 3", backoffLimit=0)))
    kubectl("wait", "--for=condition=failed", "job/broken", "--timeout=120s")
    status = kubectl.json("get", "job", "broken")["status"]
    assert status["failed"] == 1
    failed = next(one for one in status["conditions"] if one["type"] == "Failed")
    assert failed["reason"] == "BackoffLimitExceeded"
    eventually(lambda: "BackoffLimitExceeded" in kubectl("describe", "job", "broken"), what="the event")


def test_indexed_job(kubectl: Kubectl) -> None:
    spec = {"completions": 3, "parallelism": 2, "completionMode": "Indexed"}
    command = 'echo "$JOB_COMPLETION_INDEX $(hostname)"'
    kubectl("apply", "-f", "-", stdin=workloads.text(job("indexed", command, **spec)))
    kubectl("wait", "--for=condition=complete", "job/indexed", "--timeout=120s")
    assert kubectl.json("get", "job", "indexed")["status"]["completedIndexes"] == "0-2"
    said = {kubectl("logs", pod["metadata"]["name"]).strip() for pod in kubectl.items("pods")}
    assert said == {f"{index} indexed-{index}" for index in range(3)}


def test_suspend_and_resume(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=workloads.text(job("paused", "sleep 600", suspend=True)))
    kubectl("wait", "--for=condition=suspended", "job/paused", "--timeout=120s")
    assert not kubectl.items("pods")
    kubectl("patch", "job", "paused", "-p", '{"spec":{"suspend":false}}')
    eventually(lambda: kubectl.json("get", "job", "paused")["status"].get("ready") == 1, what="the pod to run")
    kubectl("patch", "job", "paused", "-p", '{"spec":{"suspend":true}}')
    eventually(lambda: not kubectl.items("pods"), what="the pod to go")
    assert not kubectl.json("get", "job", "paused")["status"].get("failed")


def test_job_from_a_cronjob(kubectl: Kubectl) -> None:
    kubectl("create", "cronjob", "nightly", f"--image={IMAGE}", "--schedule=0 3 1 1 *", "--", "echo", "by hand")
    kubectl("create", "job", "now", "--from=cronjob/nightly")
    kubectl("wait", "--for=condition=complete", "job/now", "--timeout=120s")
    assert kubectl("logs", "job/now").strip() == "by hand"
    owner = kubectl.json("get", "job", "now")["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"]) == ("CronJob", "nightly")
