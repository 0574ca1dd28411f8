"""HorizontalPodAutoscalers under real load, and ``kubectl top``, without a metrics server."""

from __future__ import annotations

import os

import pytest
import yaml

from orca.lab.layout import Lab, load
from tests.cluster.conftest import LAB
from tests.support import kubectl as kubectls
from tests.support.background import Background
from tests.support.kubectl import Kubectl, eventually

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "burn"},
    "spec": {
        "selector": {"matchLabels": {"app": "burn"}},
        "template": {
            "metadata": {"labels": {"app": "burn"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "main",
                        "image": "busybox:1.36",
                        "command": ["sh", "-c", "while [ ! -e /tmp/idle ]; do :; done; sleep 1000"],
                        "resources": {"requests": {"cpu": "20m"}, "limits": {"cpu": "60m"}},
                    }
                ],
            },
        },
    },
}
AUTOSCALER = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "burn"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "burn"},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    },
}


def replicas(kubectl: Kubectl) -> str:
    return kubectl("get", "deployment", "burn", "-o", "jsonpath={.spec.replicas}")


def _story() -> None:
    admin = Kubectl(kubectls.current(), load(LAB).kubeconfig)
    kubectl = admin.within(f"autoscaling-{os.getpid()}")
    admin("create", "namespace", kubectl.namespace)
    try:
        _scale_up_and_down(kubectl)
    finally:
        admin("delete", "namespace", kubectl.namespace, "--wait=false")


STORY = Background(_story, alone=True)


@pytest.mark.begins_on_lab(STORY)
def test_load_brings_replicas_and_its_end_takes_them_away(lab: Lab) -> None:
    """It takes its minute, of four looks of the controller, while other tests run."""
    STORY.result()


def _scale_up_and_down(kubectl: Kubectl) -> None:
    eventually(lambda: kubectl.try_("get", "serviceaccount", "default").code == 0, what="the default service account")
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([DEPLOYMENT, AUTOSCALER]))
    eventually(lambda: replicas(kubectl) == "3", every=1, what="as many replicas as may be")
    kubectl("rollout", "status", "deployment/burn", "--timeout=120s")
    shown = kubectl("get", "hpa", "burn")
    assert "cpu: " in shown
    eventually(lambda: "%/50%" in kubectl("get", "hpa", "burn"), what="how much is used of what is wished for")
    eventually(lambda: "SuccessfulRescale" in kubectl("describe", "hpa", "burn"), what="the event")

    lines = eventually(
        lambda: found if len(found := kubectl("top", "pods").splitlines()) == 4 else None, what="all pods are measured"
    )
    assert lines[0].split() == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    eventually(
        lambda: any(int(line.split()[1].removesuffix("m")) > 10 for line in kubectl("top", "pods").splitlines()[1:]),
        what="one that works",
    )
    nodes = set(kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split())
    eventually(
        lambda: {line.split()[0] for line in kubectl("top", "nodes").splitlines()[1:]} == nodes, what="all nodes"
    )

    def at_rest() -> bool:
        """On a machine that has little left for them, pods may come and go before all are told."""
        for pod in kubectl("get", "pods", "-o", "name").split():
            kubectl.try_("exec", pod, "--", "touch", "/tmp/idle")
        return replicas(kubectl) == "1"

    eventually(at_rest, every=1, what="one replica when nothing is to be done")
