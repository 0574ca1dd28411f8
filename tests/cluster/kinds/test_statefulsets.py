"""StatefulSets beyond order and updates (tests/cluster/test_statefulsets.py): claims, policies, ordinals."""

from __future__ import annotations

from tests.cluster.kinds.manifests import (
    SLEEP,
    Manifest,
    apply,
    living,
    messages,
    names,
    row,
    soon,
    template,
    uid,
    workload,
)
from tests.cluster.kinds.stories import story
from tests.support.kubectl import Kubectl

CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
}
# Each pod notes in its volume that it has been there.
NOTES = f"echo $HOSTNAME >> /data/visitors; {SLEEP}"


def _keeper(name: str, replicas: int, *, scaled: str, deleted: str) -> Manifest:
    pod = template(name, NOTES, container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]})
    retention = {"whenScaled": scaled, "whenDeleted": deleted}
    return workload(
        "StatefulSet",
        name,
        pod,
        serviceName=name,
        replicas=replicas,
        podManagementPolicy="Parallel",
        volumeClaimTemplates=[CLAIM],
        persistentVolumeClaimRetentionPolicy=retention,
    )


@story
def test_claims_are_kept_or_deleted_as_the_policy_says(kubectl: Kubectl) -> None:
    kept = _keeper("kept", 2, scaled="Delete", deleted="Retain")
    apply(kubectl, kept, _keeper("gone", 2, scaled="Retain", deleted="Delete"))
    for name in ("kept", "gone"):
        kubectl("rollout", "status", f"statefulset/{name}", "--timeout=120s")
        assert row(kubectl, "sts", name)["READY"] == "2/2"

    def claims() -> list[str]:
        return names(kubectl.items("pvc"))

    assert claims() == ["data-gone-0", "data-gone-1", "data-kept-0", "data-kept-1"]
    kubectl("scale", "sts/kept", "sts/gone", "--replicas=1")
    soon(lambda: claims() == ["data-gone-0", "data-gone-1", "data-kept-0"], "only one policy deletes when scaled down")
    kubectl("scale", "sts/gone", "--replicas=2")
    kubectl("rollout", "status", "statefulset/gone", "--timeout=120s")
    _visited_twice(kubectl, "gone-1")

    volume = kubectl.json("get", "pvc", "data-kept-0")["spec"]["volumeName"]
    kubectl("delete", "sts", "kept", "gone")
    soon(lambda: claims() == ["data-kept-0"], "only one policy deletes with the set")
    soon(lambda: not living(kubectl), "the pods are gone")
    apply(kubectl, _keeper("kept", 1, scaled="Delete", deleted="Retain"))
    kubectl("rollout", "status", "statefulset/kept", "--timeout=120s")
    assert kubectl.json("get", "pvc", "data-kept-0")["spec"]["volumeName"] == volume
    _visited_twice(kubectl, "kept-0")


def _visited_twice(kubectl: Kubectl, name: str) -> None:
    """A pod that runs is ready, and may write a little later."""
    visitors = ("exec", name, "--", "cat", "/data/visitors")
    soon(lambda: kubectl(*visitors).split() == [name, name], f"{name} has the volume of its forerunner")


@story
def test_a_parallel_set_waits_for_none_of_its_pods_and_one_on_delete_for_a_person(kubectl: Kubectl) -> None:
    broken = template("side", container={"image": "busybox:none"})
    policy = {"podManagementPolicy": "Parallel", "ordinals": {"start": 5}}
    parallel = workload("StatefulSet", "side", broken, serviceName="side", replicas=2, **policy)
    manual = workload("StatefulSet", "hand", serviceName="hand", replicas=2, updateStrategy={"type": "OnDelete"})
    ordered = workload("StatefulSet", "line", template("line", container={"image": "busybox:none"}), replicas=2)
    apply(kubectl, parallel, manual, ordered)
    soon(lambda: names(living(kubectl, "-l", "app=side")) == ["side-5", "side-6"], "both, though none is ready")
    soon(lambda: row(kubectl, "sts", "hand")["READY"] == "2/2", "the other set runs")
    assert names(living(kubectl, "-l", "app=line")) == ["line-0"], "in order: none follows one that is not ready"
    assert row(kubectl, "sts", "line")["READY"] == "0/2"

    before = {name: uid(kubectl, f"pod/{name}") for name in ("hand-0", "hand-1")}
    kubectl("set", "env", "statefulset/hand", "RELEASE=two")
    soon(
        lambda: (
            (found := kubectl.json("get", "sts", "hand"))["status"]["observedGeneration"]
            == found["metadata"]["generation"]
        ),
        "the change is seen",
    )
    refused = kubectl.try_("rollout", "status", "statefulset/hand")
    assert refused.code == 1
    assert "rollout status is only available for RollingUpdate strategy type" in refused.err
    kubectl("delete", "pod", "hand-0")
    again = ("get", "pod", "hand-0", "-o", "jsonpath={.metadata.uid}")
    soon(lambda: kubectl.try_(*again).out.strip() not in ("", before["hand-0"]), "another one is made")
    status = soon(
        lambda: (
            (found := kubectl.json("get", "sts", "hand")["status"])["readyReplicas"] == 2
            and found.get("updatedReplicas") == 1
            and found
        ),
        "a new one is ready",
    )
    assert uid(kubectl, "pod/hand-1") == before["hand-1"], "nobody has deleted that one"
    assert status["currentRevision"] != status["updateRevision"]
    revisions = {
        pod["metadata"]["name"]: pod["metadata"]["labels"]["controller-revision-hash"]
        for pod in living(kubectl, "-l", "app=hand")
    }
    assert revisions == {"hand-0": status["updateRevision"], "hand-1": status["currentRevision"]}


@story
def test_a_pod_whose_host_has_no_port_for_it_fails_and_is_made_again(kubectl: Kubectl) -> None:
    """Bound past the scheduler, as upstream's suite does it: the host rejects what the set then replaces."""
    ports = {"ports": [{"containerPort": 21017, "hostPort": 21017}]}
    first = {"apiVersion": "v1", "kind": "Pod", **template("first", nodeName="host-1", container=ports)}
    first["metadata"]["name"] = "first"
    apply(kubectl, first)
    kubectl("wait", "--for=condition=Ready", "pod/first", "--timeout=120s")
    apply(kubectl, workload("StatefulSet", "ss", template("ss", nodeName="host-1", container=ports), serviceName="ss"))
    seen: set[str] = set()

    def made_again() -> bool:
        seen.add(uid(kubectl, "pod/ss-0"))
        return len(seen - {""}) > 1

    soon(made_again, "another ss-0")
    rejected = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    soon(lambda: rejected in messages(kubectl, "NodePorts"), "the event says why")
    kubectl("delete", "pod", "first", "--now")
    kubectl("rollout", "status", "statefulset/ss", "--timeout=120s")
    assert row(kubectl, "sts", "ss")["READY"] == "1/1"
