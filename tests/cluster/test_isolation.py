"""NetworkPolicies on the lab, as people use them: kubectl, names, Services, pods on several hosts."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.cluster.workloads import pod, service, who_am_i
from tests.support.kubectl import Kubectl
from tests.support.patience import PATIENCE

Manifest = dict[str, Any]
SPREAD = {
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "web"}},
        }
    ]
}
DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


def policy(name: str, pods: Manifest, **rules: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": pods, "policyTypes": [one.capitalize() for one in rules], **rules},
    }


def asks(kubectl: Kubectl, client: str, url: str, *, patience: int = 20) -> str:
    """What a pod gets from an address, "" when nobody answers."""
    done = kubectl.try_("exec", client, "--", "timeout", str(patience), "wget", "-qO-", url)
    return done.out.strip() if done.code == 0 else ""


def until(true: Any, seconds: float = PATIENCE) -> bool:
    end = time.monotonic() + seconds
    while not (found := bool(true())) and time.monotonic() < end:
        pass  # each question waits for its answer
    return found


def test_isolation_as_people_write_it(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(who_am_i("web", 2, readiness=True, spec=SPREAD)))
    kubectl("apply", "-f", "-", stdin=json.dumps(service("web")))
    for name in ("friend", "stranger"):
        kubectl("apply", "-f", "-", stdin=json.dumps(pod(name)))
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    kubectl("wait", "--for=condition=Ready", "pod/friend", "pod/stranger", "--timeout=120s")
    assert until(lambda: asks(kubectl, "stranger", "http://web/"))

    allow = policy(
        "web",
        {"matchLabels": {"app": "web"}},
        ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": "http"}]}],
    )
    kubectl("apply", "-f", "-", stdin=json.dumps(policy("deny", {}, ingress=[], egress=[])))
    assert until(lambda: not asks(kubectl, "friend", "http://web/", patience=1)), "names are not resolved, either"
    kubectl("apply", "-f", "-", stdin=json.dumps(allow))
    out = [DNS, {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]
    kubectl("apply", "-f", "-", stdin=json.dumps(policy("clients", {}, egress=out)))
    assert until(lambda: asks(kubectl, "friend", "http://web/"))
    seen: set[str] = set()
    assert until(lambda: seen.add(asks(kubectl, "friend", "http://web/")) or len(seen) == 2), "both pods, on any host"
    assert "" not in seen, "nothing is lost on the way"
    assert not asks(kubectl, "stranger", "http://web/", patience=1)

    kubectl("label", "pod", "stranger", "app=friend", "--overwrite")
    assert until(lambda: asks(kubectl, "stranger", "http://web/"))
    kubectl("label", "pod", "stranger", "app=other", "--overwrite")
    assert until(lambda: not asks(kubectl, "stranger", "http://web/", patience=1))

    # A pod that comes later is isolated and let through as it says.
    kubectl("delete", "pod", "friend")
    kubectl(
        "apply",
        "-f",
        "-",
        stdin=json.dumps(pod("friend", ["sh", "-c", "timeout 60 wget -O /got http://web/; sleep 999"])),
    )
    kubectl("wait", "--for=condition=Ready", "pod/friend", "--timeout=120s")
    assert until(lambda: kubectl.try_("exec", "friend", "--", "cat", "/got").out), "its first question was answered"
    restarts = kubectl("get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}")
    assert set(restarts.split()) == {"0"}
    ready = kubectl("get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
    assert ready == "2", "the hosts' probes are not concerned"

    kubectl("delete", "networkpolicy", "--all")
    assert until(lambda: asks(kubectl, "stranger", "http://web/"))
