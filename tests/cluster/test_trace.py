"""`orca trace` on a real cluster: a way that works, and ways that people have broken."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from orca.lab.layout import Lab
from tests.cluster import workloads
from tests.cluster.conftest import ORCA
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

QUIET = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "quiet"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "client"}},
        "policyTypes": ["Egress"],
        "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
    },
}


def trace(kubectl: Kubectl, lab: Lab, *argv: str) -> tuple[int, dict[str, Any], str]:
    """(exit code, the explanation, what else was said)."""
    command = [ORCA, "trace", "--kubeconfig", str(lab.kubeconfig), "-n", kubectl.namespace, "-o", "json", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def until_broken_at(kubectl: Kubectl, lab: Lab, stage: str | None) -> dict[str, Any]:
    """The explanation, once what was changed has reached the hosts; nowhere: all is well."""
    seen: list[dict[str, Any]] = []

    def found() -> bool:
        code, said, _ = trace(kubectl, lab, "client", "web")
        seen.append(said)
        assert (code, said["broken"]) == (0 if stage is None else 1, stage), said
        # A question that a busy host has not answered in time is neither.
        assert stage is not None or set(outcomes(said).values()) == {"ok"}, said
        return True

    eventually(found, what=f"it breaks at {stage}")
    return seen[-1]


def outcomes(said: dict[str, Any]) -> dict[str, str]:
    return {step["stage"]: step["outcome"] for step in said["steps"]}


@pytest.fixture
def shop(kubectl: Kubectl) -> Kubectl:
    """Two pods on two hosts behind a Service, and two clients: one asks the cluster's DNS, the other its host's."""
    apart = {"topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
         "labelSelector": {"matchLabels": {"app": "web"}}},
    ]}  # fmt: skip
    web = workloads.who_am_i("web", 2, readiness=True, spec=apart)
    clients = [workloads.pod("client"), workloads.pod("stranger", dnsPolicy="Default")]
    kubectl("apply", "-f", "-", stdin=workloads.text(web, workloads.service("web", kind="ClusterIP"), *clients))
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    kubectl("wait", "--for=condition=Ready", "pod/client", "pod/stranger", "--timeout=120s")
    return kubectl


def test_where_a_way_breaks(shop: Kubectl, lab: Lab) -> None:
    said = until_broken_at(shop, lab, None)
    assert {"rules", "policy", "listening", "connection", "reply"} <= outcomes(said).keys()

    code, said, _ = trace(shop, lab, "client", "web:8080")
    assert (code, said["broken"], said["fix"]) == (1, "service", "add port 8080 to the Service, or use one it has")

    code, said, _ = trace(shop, lab, "stranger", "web")
    assert (code, said["broken"], said["fix"]) == (1, "name", "set dnsPolicy: ClusterFirst in the pod")

    shop("apply", "-f", "-", stdin=workloads.text(QUIET))
    said = until_broken_at(shop, lab, "policy")
    assert (
        said["fix"]
        == f"add an egress rule to {shop.namespace}/web with port 8080/TCP to one of: {shop.namespace}/quiet"
    )
    assert outcomes(said)["dns"] == "ok"
    shop("delete", "networkpolicy", "quiet")

    shop("patch", "service", "web", "--type=json", "-p",
         '[{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 8081}]')  # fmt: skip
    said = until_broken_at(shop, lab, "listening")
    assert said["fix"] == "set targetPort: 8080 in the Service"
    assert outcomes(said)["connection"] == "broken", "that is what a program sees of it"
    assert outcomes(said)["rules"] == "ok"

    shop("patch", "service", "web", "-p", '{"spec": {"selector": {"app": "wbe"}}}')
    said = until_broken_at(shop, lab, "endpoints")
    assert "no pod in" in said["steps"][[s["stage"] for s in said["steps"]].index("endpoints")]["says"]

    shop("delete", "service", "web")
    until_broken_at(shop, lab, "name")


def test_what_cannot_be_traced(kubectl: Kubectl, lab: Lab) -> None:
    code, _, said = trace(kubectl, lab, "nobody", "web")
    assert code == 2
    assert 'pods "nobody" not found' in said
    assert trace(kubectl, lab, "nobody", "web:0")[0] == 2
