"""Who may be moved and removed: drains within disruption budgets, and namespaces that go."""

from __future__ import annotations

from tests.cluster.kinds.manifests import (
    CONTROL_PLANE,
    Manifest,
    apply,
    condition,
    job,
    living,
    prefers,
    row,
    soon,
    template,
    workload,
)
from tests.cluster.kinds.stories import story
from tests.support.kubectl import Kubectl


def _budget(name: str, **spec: object) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, **spec},
    }


def _on_the_server(name: str, **spec: object) -> Manifest:
    """A Deployment that prefers host-0, which the stories drain."""
    return workload("Deployment", name, template(name, tolerations=[CONTROL_PLANE], **prefers("host-0")), **spec)


@story
def test_a_drain_moves_pods_as_fast_as_their_budget_allows(kubectl: Kubectl) -> None:
    apply(
        kubectl,
        _on_the_server("web", replicas=2),
        _budget("web", minAvailable=1),
        _on_the_server("rigid", replicas=1),
        _budget("rigid", maxUnavailable=0),
    )
    for name in ("web", "rigid"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s")
    soon(lambda: _allowed(kubectl, "web") == 1, "one may go")
    assert _allowed(kubectl, "rigid") == 0
    assert {pod["spec"]["nodeName"] for pod in living(kubectl)} == {"host-0"}
    bare = {"apiVersion": "v1", "kind": "Pod", **template("bare", nodeName="host-0")}
    bare["metadata"]["name"] = "bare"
    apply(kubectl, bare)
    drain = ("drain", "host-0", "--ignore-daemonsets")
    try:
        refused = kubectl.try_(*drain, "--pod-selector=app=bare")
        assert refused.code == 1
        assert "cannot delete Pods that declare no controller (use --force to override)" in refused.err

        def stuck() -> bool:
            """On a busy machine the time may be over before the first try."""
            done = kubectl.try_(*drain, "--pod-selector=app=rigid", "--timeout=3s")
            if done.code != 1:
                raise RuntimeError(f"drained: {done}")
            return "Cannot evict pod as it would violate the pod's disruption budget." in done.err

        soon(stuck, "the budget holds the drain up")
        assert {pod["spec"]["nodeName"] for pod in living(kubectl, "-l", "app=rigid")} == {"host-0"}

        drained = kubectl(*drain, "--pod-selector=app=web", "--timeout=120s")
        assert "node/host-0 drained" in drained
        assert drained.count("evicted") == 2
        kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        # The status may be of before the drain.
        there = ["host-1"] * 2
        soon(lambda: [pod["spec"]["nodeName"] for pod in living(kubectl, "-l", "app=web")] == there, "both elsewhere")
        assert "SchedulingDisabled" in row(kubectl, "node", "host-0")["STATUS"]
    finally:
        kubectl("uncordon", "host-0")
    assert row(kubectl, "node", "host-0")["STATUS"] == "Ready"


def _allowed(kubectl: Kubectl, name: str) -> int:
    return int(kubectl("get", "pdb", name, "-o", "jsonpath={.status.disruptionsAllowed}") or -1)


@story
def test_a_namespace_goes_with_all_that_is_in_it_and_says_what_holds_it_up(kubectl: Kubectl) -> None:
    space = f"{kubectl.namespace}-full"
    inside = kubectl.within(space)
    kubectl("create", "namespace", space)
    soon(lambda: inside.try_("get", "serviceaccount", "default").code == 0, "the default service account")
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "finalizers": ["example.com/mine"]},
    }
    apply(
        inside,
        held,
        workload("Deployment", "web", replicas=1),
        workload("StatefulSet", "db", replicas=1),
        job("work", "sleep 600"),
        _budget("web", maxUnavailable=0),
    )
    soon(lambda: sum(pod["status"]["phase"] == "Running" for pod in living(inside)) == 3, "all run")
    assert "deleted" in kubectl("delete", "namespace", space, "--wait=false")
    assert row(kubectl, "namespace", space)["STATUS"] == "Terminating"
    refused = inside.try_("create", "configmap", "late")
    assert refused.code == 1
    assert "because it is being terminated" in refused.err
    soon(lambda: not inside.items("pods"), "its pods are gone, whatever their budget")
    what = f"namespace/{space}"
    finalizers = soon(
        lambda: (one := condition(kubectl, what, "NamespaceFinalizersRemaining")).get("status") == "True" and one,
        "it says whom it waits for",
    )
    assert finalizers["message"] == (
        "Some content in the namespace has finalizers remaining: example.com/mine in 1 resource instances"
    )
    content = soon(
        lambda: (
            (one := condition(kubectl, what, "NamespaceContentRemaining"))["message"].endswith("instances")
            and "pods" not in one["message"]
            and one
        ),
        "and for what",
    )
    assert content["message"] == "Some resources are remaining: configmaps. has 1 resource instances"
    inside("patch", "configmap", "held", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]')
    kubectl("wait", "--for=delete", what, "--timeout=120s")
