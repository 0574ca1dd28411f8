"""Jobs that fail: limits, policies, deadlines; and what becomes of them afterwards."""

from __future__ import annotations

import json

from tests.cluster.kinds.manifests import apply, condition, job, living, messages, names, row, soon
from tests.cluster.kinds.stories import story
from tests.support.kubectl import Kubectl


@story
def test_jobs_that_fail_say_why(kubectl: Kubectl) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}}
    apply(
        kubectl,
        job("retried", "exit 1", backoffLimit=1),
        job("judged", "exit 42", backoffLimit=5, podFailurePolicy={"rules": [rule]}),
        job("late", "sleep 600", activeDeadlineSeconds=3),
        job("gone", "true", ttlSecondsAfterFinished=1),
    )
    for name in ("retried", "judged", "late"):
        kubectl("wait", "--for=condition=failed", f"job/{name}", "--timeout=120s")
        assert row(kubectl, "job", name)["STATUS"] == "Failed"
    found = {name: condition(kubectl, f"job/{name}", "Failed") for name in ("retried", "judged", "late")}
    assert {name: one["reason"] for name, one in found.items()} == {
        "retried": "BackoffLimitExceeded",
        "judged": "PodFailurePolicy",
        "late": "DeadlineExceeded",
    }
    assert found["retried"]["message"] == "Job has reached the specified backoff limit"
    assert found["late"]["message"] == "Job was active longer than specified deadline"
    assert "failed with exit code 42 matching FailJob rule at index 0" in found["judged"]["message"]
    counts = {name: kubectl.json("get", "job", name)["status"].get("failed", 0) for name in found}
    assert counts == {"retried": 2, "judged": 1, "late": 1}
    for name in found:
        assert kubectl.json("get", "job", name)["status"]["uncountedTerminatedPods"] == {}
    soon(lambda: "DeadlineExceeded" in kubectl("describe", "job", "late"), "the event")
    soon(lambda: kubectl.try_("get", "job", "gone").code == 1, "a finished Job's time is over")
    soon(lambda: not kubectl.items("pods", "-l", "job-name=gone"), "and its pod is gone with it")


@story
def test_an_indexed_job_goes_on_without_an_index_that_fails(kubectl: Kubectl) -> None:
    indexed = {"completions": 4, "completionMode": "Indexed"}
    apply(
        kubectl,
        job("spared", "[ $JOB_COMPLETION_INDEX != 1 ]", parallelism=2, backoffLimitPerIndex=0, **indexed),
        job(
            "enough",
            "[ $JOB_COMPLETION_INDEX = 0 ] || sleep 600",
            parallelism=4,
            successPolicy={"rules": [{"succeededIndexes": "0"}]},
            **indexed,
        ),
    )
    kubectl("wait", "--for=condition=failed", "job/spared", "--timeout=120s")
    status = kubectl.json("get", "job", "spared")["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2,3", "1")
    assert (status["succeeded"], status["failed"]) == (3, 1)
    assert condition(kubectl, "job/spared", "Failed")["reason"] == "FailedIndexes"

    kubectl("wait", "--for=condition=complete", "job/enough", "--timeout=120s")
    assert condition(kubectl, "job/enough", "Complete")["reason"] == "SuccessPolicy"
    assert kubectl.json("get", "job", "enough")["status"]["completedIndexes"] == "0"
    soon(lambda: all(pod["status"]["phase"] != "Running" for pod in kubectl.items("pods")), "the others are ended")


@story
def test_a_job_grows_is_suspended_and_resumed_without_losing_count(kubectl: Kubectl) -> None:
    # Each pod waits for a file that the test puts into it.
    apply(kubectl, job("work", "until [ -e /tmp/go ]; do sleep 1; done", parallelism=1, completions=3))
    soon(lambda: kubectl.json("get", "job", "work")["status"].get("ready") == 1, "the first works")
    (first,) = kubectl("get", "pods", "-o", "name").split()
    kubectl("exec", first, "--", "touch", "/tmp/go")
    soon(lambda: row(kubectl, "job", "work")["COMPLETIONS"] == "1/3", "one is done")
    kubectl("patch", "job", "work", "-p", '{"spec":{"parallelism":2}}')
    soon(lambda: kubectl.json("get", "job", "work")["status"].get("ready") == 2, "two work")
    kubectl("patch", "job", "work", "-p", '{"spec":{"suspend":true}}')
    soon(lambda: row(kubectl, "job", "work")["STATUS"] == "Suspended", "it says so")
    soon(lambda: not kubectl.json("get", "job", "work")["status"].get("active"), "nobody works")
    assert kubectl.json("get", "job", "work")["status"].get("succeeded") == 1
    kubectl("patch", "job", "work", "-p", '{"spec":{"suspend":false}}')
    soon(lambda: kubectl.json("get", "job", "work")["status"].get("ready") == 2, "two work again")
    # Those from before it was suspended may still be ending.
    for pod in names([one for one in living(kubectl) if one["status"]["phase"] == "Running"]):
        kubectl("exec", pod, "--", "touch", "/tmp/go")
    kubectl("wait", "--for=condition=complete", "job/work", "--timeout=120s")
    status = kubectl.json("get", "job", "work")["status"]
    assert (status["succeeded"], status.get("failed", 0)) == (3, 0), "who was suspended has not failed"
    for reason in ("Suspended", "Resumed", "Completed"):
        soon(lambda reason=reason: messages(kubectl, reason), f"the event {reason}")


@story
def test_an_evicted_pod_costs_a_job_nothing_that_ignores_disruptions(kubectl: Kubectl) -> None:
    """The host ends it with SIGKILL, as it does not heed SIGTERM; only the condition tells this from a failure."""
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    once = "[ -e /shared/seen ] && exit 0; touch /shared/seen; sleep 1000"
    pod = {
        "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}],
        "container": {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    apply(kubectl, claim, job("evicted", once, pod, backoffLimit=0, podFailurePolicy={"rules": [ignore]}))
    (first,) = soon(lambda: [p for p in kubectl.items("pods") if p["status"]["phase"] == "Running"], "it runs")
    name = first["metadata"]["name"]
    soon(lambda: kubectl.try_("exec", name, "--", "test", "-e", "/shared/seen").code == 0, "it has begun")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    kubectl("wait", "--for=condition=complete", "job/evicted", "--timeout=120s")
    status = kubectl.json("get", "job", "evicted")["status"]
    assert (status["succeeded"], status.get("failed", 0)) == (1, 0)
