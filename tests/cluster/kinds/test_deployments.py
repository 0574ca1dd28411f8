"""Deployments, ReplicaSets and ReplicationControllers: what people see of updates."""

from __future__ import annotations

from tests.cluster.kinds.manifests import (
    Manifest,
    apply,
    condition,
    fail,
    living,
    messages,
    names,
    row,
    soon,
    text,
    waiting,
    workload,
)
from tests.cluster.kinds.manifests import template as pod_template
from tests.cluster.kinds.stories import story
from tests.support.kubectl import Kubectl


def _sets(kubectl: Kubectl) -> dict[str, int]:
    """Wanted replicas of each ReplicaSet of ``web``, by its image."""
    return {
        found["spec"]["template"]["spec"]["containers"][0]["image"]: found["spec"]["replicas"]
        for found in kubectl.items("rs", "-l", "app=web")
    }


@story
def test_a_bad_image_is_stuck_while_the_old_pods_serve_and_is_undone(kubectl: Kubectl) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}
    apply(kubectl, workload("Deployment", "web", replicas=3, strategy=rolling))
    kubectl("annotate", "deployment/web", "kubernetes.io/change-cause=the first")
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    served = names(living(kubectl))

    kubectl("patch", "deployment/web", "-p", '{"spec":{"progressDeadlineSeconds":10}}')
    assert "image updated" in kubectl("set", "image", "deployment/web", "main=busybox:none")
    kubectl("annotate", "deployment/web", "kubernetes.io/change-cause=a mistake", "--overwrite")
    stuck = kubectl.try_("rollout", "status", "deployment/web")
    assert stuck.code == 1
    assert 'deployment "web" exceeded its progress deadline' in stuck.err
    shown = row(kubectl, "deployment", "web")
    assert (shown["READY"], shown["UP-TO-DATE"], shown["AVAILABLE"]) == ("3/3", "1", "3")
    progressing = condition(kubectl, "deployment/web", "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert progressing["message"].startswith('ReplicaSet "web-')
    assert progressing["message"].endswith('" has timed out progressing.')
    assert condition(kubectl, "deployment/web", "Available")["reason"] == "MinimumReplicasAvailable"

    def waits_for_its_image() -> bool:
        pods = {pod["metadata"]["name"]: pod for pod in living(kubectl)}
        assert set(served) <= set(pods) or fail(f"{served} do not all serve: {sorted(pods)}")
        return {waiting(pods[name]) for name in set(pods) - set(served)} <= {"ErrImagePull", "ImagePullBackOff"}

    soon(waits_for_its_image, "why the next one is not ready")

    # Both ReplicaSets grow in proportion: 3 + 1 of at most 4 become 5 + 2 of at most 7.
    assert "scaled" in kubectl("scale", "deployment/web", "--replicas=6")
    soon(lambda: _sets(kubectl) == {"busybox:1.36": 5, "busybox:none": 2}, "each has its share")

    history = [line.split(None, 1) for line in kubectl("rollout", "history", "deployment/web").splitlines()[1:] if line]
    assert history[0] == ["REVISION", "CHANGE-CAUSE"]
    assert history[1:] == [["1", "the first"], ["2", "a mistake"]]
    kubectl("patch", "deployment/web", "-p", '{"spec":{"progressDeadlineSeconds":600}}')
    assert "rolled back" in kubectl("rollout", "undo", "deployment/web", "--to-revision=1")
    done = kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    assert 'deployment "web" successfully rolled out' in done
    assert set(served) <= set(names(living(kubectl))), "they were not touched"
    assert condition(kubectl, "deployment/web", "Progressing")["reason"] == "NewReplicaSetAvailable"
    history = [line.split(None, 1) for line in kubectl("rollout", "history", "deployment/web").splitlines()[2:] if line]
    assert history == [["2", "a mistake"], ["3", "the first"]]
    described = kubectl("describe", "deployment", "web")
    for wanted in (
        "RollingUpdateStrategy:  25% max unavailable, 1 max surge",
        "NewReplicaSet:   web-",
        "OldReplicaSets:",
    ):
        assert wanted in described, described


@story
def test_recreate_ends_all_before_it_begins_anew(kubectl: Kubectl) -> None:
    slow = pod_template("web", "trap 'sleep 3; exit 0' TERM; while :; do sleep 1; done")
    slow["spec"]["terminationGracePeriodSeconds"] = 20
    apply(kubectl, workload("Deployment", "web", slow, replicas=2, strategy={"type": "Recreate"}))
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    old = set(names(kubectl.items("pods")))

    assert "deployment.apps/web paused" in kubectl("rollout", "pause", "deployment/web")
    soon(lambda: condition(kubectl, "deployment/web", "Progressing")["reason"] == "DeploymentPaused", "it says so")
    kubectl("set", "env", "deployment/web", "RELEASE=two")
    kubectl("set", "resources", "deployment/web", "--requests=cpu=1m")
    refused = kubectl.try_("rollout", "restart", "deployment/web")
    assert refused.code == 1
    assert "can't restart paused deployment" in refused.err
    assert set(names(living(kubectl))) == old
    assert "deployment.apps/web resumed" in kubectl("rollout", "resume", "deployment/web")

    def renewed() -> bool:
        there = set(names([pod for pod in kubectl.items("pods") if pod["status"]["phase"] in ("Pending", "Running")]))
        assert not (there & old and there - old) or fail(f"old and new together: {there}")
        return len(there - old) == 2

    soon(renewed, "two new pods")
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    assert len(kubectl.items("rs")) == 2, "two changes while it was paused are one revision"
    told: list[str] = soon(lambda: len(found := messages(kubectl, "ScalingReplicaSet")) >= 3 and found, "its events")
    assert [message.split(" web-")[0] for message in told] == [
        "Scaled up replica set",
        "Scaled down replica set",
        "Scaled up replica set",
    ]
    assert [message.partition("from ")[2] for message in told] == ["0 to 2", "2 to 0", "0 to 2"]


@story
def test_replica_sets_and_replication_controllers_keep_what_is_theirs(kubectl: Kubectl) -> None:
    controller: Manifest = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "rc"},
        "spec": {"replicas": 2, "selector": {"app": "rc"}, "template": pod_template("rc")},
    }
    stray = {"apiVersion": "v1", "kind": "Pod", **pod_template("rs")}
    stray["metadata"]["name"] = "stray"
    apply(kubectl, stray)
    apply(kubectl, workload("ReplicaSet", "rs", replicas=2), controller)
    for kind in ("rs", "rc"):
        soon(lambda kind=kind: row(kubectl, kind, kind)["READY"] == "2", f"{kind} has its pods")
        shown = row(kubectl, kind, kind)
        assert (shown["DESIRED"], shown["CURRENT"]) == ("2", "2")
    own = names(living(kubectl, "-l", "app=rs"))
    assert "stray" in own, "a pod that fits is adopted"
    soon(lambda: len(messages(kubectl, "SuccessfulCreate")) == 3, "each that was made is told of")

    kubectl("label", "pod", "stray", "app=mine", "--overwrite")
    soon(lambda: len(living(kubectl, "-l", "app=rs")) == 2, "another one in its place")
    soon(lambda: not kubectl.json("get", "pod", "stray")["metadata"].get("ownerReferences"), "it is free")

    kubectl("delete", "rs", "rs", "--cascade=orphan")
    kept = names(living(kubectl, "-l", "app=rs"))
    assert len(kept) == 2
    apply(kubectl, workload("ReplicaSet", "rs", replicas=1))
    soon(lambda: len(living(kubectl, "-l", "app=rs")) == 1, "adopted, and one too many")
    assert names(living(kubectl, "-l", "app=rs"))[0] in kept

    refused = kubectl.try_("scale", "rc/rc", "--current-replicas=5", "--replicas=1")
    assert refused.code == 1
    assert "Expected replicas to be 5, was 2" in refused.err
    kubectl("scale", "rc/rc", "--replicas=0")
    soon(lambda: not living(kubectl, "-l", "app=rc"), "none is left")
    soon(lambda: len(messages(kubectl, "SuccessfulDelete")) >= 3, "it is told")
    kubectl("delete", "rs/rs", "rc/rc")
    soon(lambda: names(living(kubectl)) == ["stray"], "what was let go stays")
    bad = kubectl.try_(
        "apply",
        "-f",
        "-",
        stdin=text(
            workload("ReplicaSet", "bad", pod_template("other"))
            | {"spec": {"selector": {"matchLabels": {"app": "bad"}}, "template": pod_template("other")}}
        ),
    )
    assert "`selector` does not match template `labels`" in bad.err
