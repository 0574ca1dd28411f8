"""Claims from a person's side: made on the host of their first pod, found again, grown, removed; hand-made volumes."""

from __future__ import annotations

from typing import Any

import yaml

from orca.lab.layout import Lab
from tests.cluster.conftest import orca
from tests.support.kubectl import Kubectl, eventually

Manifest = dict[str, Any]


def claim(name: str, size: str = "1Gi", **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
    }


def user_of(claim_name: str, name: str, command: str, **spec: Any) -> Manifest:
    """A pod of somebody who is not root, with the claim at /data."""
    container = {
        "name": "main",
        "image": "busybox:1.36",
        "command": ["sh", "-c", command],
        "securityContext": {"runAsUser": 1000},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}],
            **spec,
        },
    }


def text(*manifests: Manifest) -> str:
    return yaml.safe_dump_all(manifests)


def phase(kubectl: Kubectl, what: str) -> str:
    return kubectl("get", what, "-o", "jsonpath={.status.phase}")


def test_a_claim_of_the_default_class_lives_with_its_host(kubectl: Kubectl, lab: Lab) -> None:
    kubectl("apply", "-f", "-", stdin=text(claim("data")))
    assert phase(kubectl, "pvc/data") == "Pending"
    waits = ("get", "events", "--field-selector=reason=WaitForFirstConsumer", "-o", "name")
    eventually(lambda: kubectl(*waits), what="it says what it waits for")
    kubectl("apply", "-f", "-", stdin=text(user_of("data", "writer", "echo kept > /data/file")))
    eventually(lambda: phase(kubectl, "pod/writer") == "Succeeded", what="the first pod has written")
    node = kubectl("get", "pod", "writer", "-o", "jsonpath={.spec.nodeName}")
    volume = kubectl("get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
    kubectl("delete", "pod", "writer", "--wait=false")

    kubectl("apply", "-f", "-", stdin=text(user_of("data", "reader", "cat /data/file; sleep 1000")))
    kubectl("wait", "--for=condition=Ready", "pod/reader", "--timeout=120s")
    assert kubectl("get", "pod", "reader", "-o", "jsonpath={.spec.nodeName}") == node, "where the volume is"
    eventually(lambda: kubectl("logs", "reader") == "kept\n", what="what was written is there")
    used = f'kubelet_volume_stats_used_bytes{{namespace="{kubectl.namespace}",persistentvolumeclaim="data"}}'
    ended = 'kubelet_terminated_containers_total{container_type="container",exit_code="0",reason="Completed"}'

    def told() -> bool:
        metrics = kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics")
        return used in metrics and ended in metrics

    eventually(told, what="how full it is, and how containers ended")

    kubectl("patch", "pvc", "data", "-p", '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}')
    grown = ("get", "pvc", "data", "-o", "jsonpath={.status.capacity.storage}")
    eventually(lambda: kubectl(*grown) == "2Gi", what="the claim has grown")

    path = kubectl("get", "pv", volume, "-o", "jsonpath={.spec.local.path}")
    on_host = ("lab", "exec", "--name", lab.name, node, "--", "sh", "-c", f"test -e {path} && echo there || echo gone")
    assert orca(*on_host) == "there\n"
    # The wrong way round: what is on the volume goes all the same.
    kubectl("delete", "pv", volume, "--wait=false")
    kubectl("delete", "pvc", "data", "--wait=false")
    assert phase(kubectl, "pvc/data") == "Bound", "a pod uses it"
    kubectl("delete", "pod", "reader", "--wait=false")
    eventually(lambda: kubectl.try_("get", "pvc", "data").code == 1, what="the claim is gone")
    eventually(lambda: kubectl.try_("get", "pv", volume).code == 1, what="and its volume")
    assert orca(*on_host) == "gone\n"


def test_a_hand_made_volume_is_bound_kept_and_bound_again(kubectl: Kubectl) -> None:
    space = kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}") or kubectl(
        "get", "serviceaccount", "default", "-o", "jsonpath={.metadata.namespace}"
    )
    name = f"hand-made-{space}"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": space,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/tmp/{name}", "type": "DirectoryOrCreate"},
        },
    }
    kubectl("apply", "-f", "-", stdin=text(volume, claim("mine", storageClassName=space)))
    try:
        eventually(lambda: phase(kubectl, "pvc/mine") == "Bound", what="they found each other")
        kubectl("delete", "pvc", "mine", "--wait=false")
        eventually(lambda: phase(kubectl, f"pv/{name}") == "Released", what="the volume is kept")
        kubectl("patch", "pv", name, "--type=json", "-p", '[{"op":"remove","path":"/spec/claimRef"}]')
        kubectl("apply", "-f", "-", stdin=text(claim("next", storageClassName=space)))
        eventually(lambda: phase(kubectl, "pvc/next") == "Bound", what="the next claim has it")
        kubectl("delete", "pvc", "next", "--wait=false")
    finally:
        kubectl("delete", "pv", name, "--wait=false")


def test_what_cannot_be_provisioned_says_why(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=text(claim("lost", storageClassName="no-such-class")))
    reason = ("get", "events", "--field-selector=reason=ProvisioningFailed", "-o", "jsonpath={.items[*].message}")
    eventually(
        lambda: 'storageclass.storage.k8s.io "no-such-class" not found' in kubectl(*reason), what="the class is missing"
    )
    kubectl("apply", "-f", "-", stdin=text(user_of("lost", "waits", "true")))
    unscheduled = 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}'
    eventually(
        lambda: "pod has unbound immediate PersistentVolumeClaims" in kubectl("get", "pod", "waits", "-o", unscheduled),
        what="its pod says what it waits for",
    )
