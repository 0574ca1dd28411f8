"""What a node is to others: its lease, what it takes and refuses, whom a taint drives away, what it tells of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from orca.api.objects import Obj
from orca.api.times import parse_time
from orca.lab.layout import Lab
from tests.cluster.conformance.history import History, condition, container_of, phase, ready, recorded
from tests.cluster.conformance.runs import apply
from tests.cluster.podset import pod
from tests.support.kubectl import Kubectl, eventually

TAINT = "example.com/evict"
pytestmark = pytest.mark.usefixtures("alone_on_lab")


def at(host: str, name: str, *, finalizers: tuple[str, ...] = (), **spec: object) -> Obj:
    made = pod(name, **{"nodeName": host, **spec})
    made["metadata"]["finalizers"] = list(finalizers)
    return made


@pytest.fixture(scope="module")
def host(admin: Kubectl, lab: Lab) -> str:
    """The last of the lab's hosts."""
    names: list[str] = sorted(node["metadata"]["name"] for node in admin.items("nodes"))
    return names[-1]


@pytest.fixture(scope="module")
def here(admin: Kubectl, host: str) -> Iterator[tuple[Kubectl, History]]:
    with recorded(admin, f"conformance-node-{os.getpid()}") as found:
        yield found


def toleration(**more: object) -> list[Obj]:
    return [{"key": TAINT, "operator": "Exists", "effect": "NoExecute", **more}]


def test_the_lease_is_renewed(admin: Kubectl, host: str) -> None:
    def renewed() -> str:
        lease: Obj = admin.json("get", "lease", host, "-n", "kube-node-lease")
        assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseDurationSeconds"]) == (host, 40)
        return str(lease["spec"]["renewTime"])

    before = renewed()
    eventually(lambda: renewed() != before, every=0.5, what="the lease is renewed")
    assert (parse_time(renewed()) - parse_time(before)).total_seconds() < 40, "or the node would be lost meanwhile"


@pytest.mark.parametrize(
    ("name", "spec", "reason"),
    [
        ("other-node", {"nodeSelector": {"no": "such"}}, "NodeAffinity"),
        ("other-system", {"os": {"name": "windows"}}, "PodOSNotSupported"),
        ("too-large", {"resources": {"requests": {"cpu": "1000"}}}, "OutOfcpu"),
    ],
)
def test_the_host_itself_refuses_what_it_cannot_run(
    here: tuple[Kubectl, History], host: str, name: str, spec: Obj, reason: str
) -> None:
    kubectl, seen = here
    apply(kubectl, at(host, name, **spec))
    found = seen.when(name, phase("Failed"))
    assert found["status"]["reason"] == reason, found["status"]
    assert not found["status"].get("containerStatuses")


def test_a_taint_drives_away_who_does_not_bear_it(here: tuple[Kubectl, History], admin: Kubectl, host: str) -> None:
    kubectl, seen = here
    names = ("leaves", "leaves-later", "stays", "would-leave-later")
    apply(
        kubectl,
        at(host, "leaves", finalizers=("test.orca/kept",)),
        at(host, "leaves-later", tolerations=toleration(tolerationSeconds=4)),
        at(host, "stays", tolerations=toleration()),
        at(host, "would-leave-later", tolerations=toleration(tolerationSeconds=600)),
    )
    for name in names:
        seen.when(name, ready)
    admin("taint", "node", host, f"{TAINT}=now:NoExecute")
    try:
        left = seen.when("leaves", lambda pod: pod["metadata"].get("deletionTimestamp"))
        assert condition(left, "DisruptionTarget")["reason"] == "DeletionByTaintManager"
        over = seen.when("leaves", lambda pod: pod["status"].get("phase") in ("Failed", "Succeeded"))
        assert "terminated" in container_of(over)["state"]
        seen.was_gone("leaves-later")
    finally:
        admin("taint", "node", host, f"{TAINT}:NoExecute-")
    for name in ("stays", "would-leave-later"):
        assert "deletionTimestamp" not in seen.last(name)["metadata"], name


def test_classes_of_runtimes(here: tuple[Kubectl, History], admin: Kubectl) -> None:
    kubectl, seen = here
    name = f"overhead-{os.getpid()}"
    overhead = {"cpu": "10m", "memory": "1Mi"}
    apply(
        admin,
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": "none",
            "overhead": {"podFixed": overhead},
        },
    )
    try:
        apply(kubectl, pod("with-overhead", runtimeClassName=name))
        found = seen.when("with-overhead", lambda pod: pod["spec"].get("nodeName"))
        assert found["spec"]["overhead"] == overhead

        def told() -> bool:
            events = kubectl.items("events", "--field-selector=involvedObject.name=with-overhead")
            return any(event["reason"] == "FailedCreatePodSandBox" for event in events)

        eventually(told, what="the event about an unknown handler")
    finally:
        admin("delete", "runtimeclass", name)
    for wrong in (name, "never-there"):
        one = json.dumps(pod("refused", runtimeClassName=wrong))
        done = kubectl.try_("create", "-f", "-", stdin=one)
        assert done.code == 1
        assert f'RuntimeClass "{wrong}" not found' in done.err


def test_what_a_node_tells_of_its_pods(here: tuple[Kubectl, History], admin: Kubectl, host: str) -> None:
    kubectl, seen = here
    apply(kubectl, at(host, "measured"))
    seen.when("measured", ready)
    base = f"/api/v1/nodes/{host}/proxy"

    def measured() -> bool:
        summary = json.loads(admin("get", "--raw", f"{base}/stats/summary"))
        pods = {one["podRef"]["name"]: one for one in summary["pods"]}
        return bool(pods["measured"]["containers"][0]["memory"]["workingSetBytes"]) if "measured" in pods else False

    eventually(measured, every=1, what="the pod in the summary")
    assert "pods/" in admin("get", "--raw", f"{base}/logs/")
    listed = json.loads(admin("get", "--raw", f"{base}/pods"))["items"]
    assert "measured" in {one["metadata"]["name"] for one in listed}

    def told() -> bool:
        events = kubectl.items("events", "--field-selector=involvedObject.name=measured")
        return {"Pulled", "Created", "Started"} <= {event["reason"] for event in events}

    eventually(told, what="the host's events")
