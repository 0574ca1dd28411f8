"""`kubectl patch --subresource resize` on a cluster: from the API's rules to the numbers in the container's cgroup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orca.lab.host import service_pid
from orca.lab.layout import Lab
from orca.lab.services import AGENT
from tests.cluster.conftest import LAB, orca
from tests.support.agents import wait_for_next_agent
from tests.support.kubectl import Kubectl, eventually

CGROUP = (
    "cd /sys/fs/cgroup; if [ -f cpu.max ]; then cut -d' ' -f1 cpu.max; cat memory.max; "
    "else cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes; fi"
)


def sizes(cpu: str, memory: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def start(kubectl: Kubectl, name: str, cpu: str, memory: str, **more: Any) -> None:
    """A running pod, all of them on one node."""
    main = {"name": "main", "image": "busybox:1.36", "command": ["sleep", "3600"], "resources": sizes(cpu, memory)}
    spec = {"terminationGracePeriodSeconds": 1, "nodeSelector": {"kubernetes.io/hostname": "host-1"}}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
    kubectl("apply", "-f", "-", stdin=json.dumps({**manifest, "spec": {**spec, "containers": [{**main, **more}]}}))
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")


def patch(name: str, cpu: str, memory: str) -> list[str]:
    body = {"spec": {"containers": [{"name": "main", "resources": sizes(cpu, memory)}]}}
    return ["patch", "pod", name, "--subresource=resize", "--patch", json.dumps(body)]


def condition(kubectl: Kubectl, name: str, kind: str) -> dict[str, Any]:
    status = kubectl.json("get", "pod", name)["status"]
    found: dict[str, Any] = next((one for one in status["conditions"] if one["type"] == kind), {})
    return found


def settled(kubectl: Kubectl, name: str, cpu: str, memory: str) -> dict[str, Any]:
    """The pod once these sizes are in force."""

    def there() -> Any:
        pod = kubectl.json("get", "pod", name)
        main = pod["status"]["containerStatuses"][0]
        under_way = any(one["type"].startswith("PodResize") for one in pod["status"]["conditions"])
        wanted = sizes(cpu, memory)
        done = main.get("resources") == wanted and main["allocatedResources"] == wanted["requests"]
        return pod if done and not under_way and "running" in main["state"] else None

    found: dict[str, Any] = eventually(there, what=f"{name} to have {cpu} and {memory}")
    return found


def kernel(kubectl: Kubectl, name: str) -> list[int]:
    """(microseconds of cpu in 100 ms, bytes of memory); an agent that was killed needs a moment to be back."""
    found: str = eventually(lambda: kubectl("exec", name, "--", "sh", "-c", CGROUP), what="exec")
    return [int(number) for number in found.split()]


def test_what_is_patched_and_what_the_kernel_says(kubectl: Kubectl) -> None:
    start(kubectl, "web", "100m", "32Mi")
    first = settled(kubectl, "web", "100m", "32Mi")
    kubectl(*patch("web", "300m", "64Mi"))
    pod = settled(kubectl, "web", "300m", "64Mi")
    assert kernel(kubectl, "web") == [30_000, 64 << 20]
    assert pod["metadata"]["generation"] == first["metadata"]["generation"] + 1 == pod["status"]["observedGeneration"]
    kubectl(*patch("web", "200m", "48Mi"))
    pod = settled(kubectl, "web", "200m", "48Mi")
    assert kernel(kubectl, "web") == [20_000, 48 << 20]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    about = ("events", "--field-selector=involvedObject.name=web")
    wanted = {"ResizeStarted", "ResizeCompleted"}
    eventually(lambda: wanted <= {event["reason"] for event in kubectl.items(*about)}, what="events of the resize")
    kubectl("edit", "pod", "web", "--subresource=resize", env={"EDITOR": "sed -i s/48Mi/56Mi/"})
    settled(kubectl, "web", "200m", "56Mi")
    assert kernel(kubectl, "web") == [20_000, 56 << 20]
    smaller = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "50m"}}}]}}
    refused = kubectl.try_("patch", "pod", "web", "--subresource=resize", "--patch", json.dumps(smaller))
    assert refused.code != 0
    assert "Pod QOS Class may not change as a result of resizing" in refused.err


def test_memory_by_restart(kubectl: Kubectl) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    start(kubectl, "anew", "100m", "32Mi", resizePolicy=policy)
    kubectl(*patch("anew", "100m", "64Mi"))
    pod = settled(kubectl, "anew", "100m", "64Mi")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    assert kernel(kubectl, "anew") == [10_000, 64 << 20]


def test_too_much_for_now_and_for_ever(kubectl: Kubectl) -> None:
    nodes = {node["metadata"]["name"]: node["status"]["allocatable"]["cpu"] for node in kubectl.items("nodes")}
    millis = int(nodes["host-1"]) * 1000
    start(kubectl, "other", f"{millis * 6 // 10}m", "32Mi")
    start(kubectl, "grows", "100m", "32Mi")
    kubectl(*patch("grows", f"{millis + 1}m", "32Mi"))
    eventually(lambda: condition(kubectl, "grows", "PodResizePending").get("reason") == "Infeasible", what="Infeasible")
    kubectl(*patch("grows", f"{millis * 45 // 100}m", "32Mi"))
    eventually(lambda: condition(kubectl, "grows", "PodResizePending").get("reason") == "Deferred", what="Deferred")
    assert "Node didn't have enough resource: cpu" in condition(kubectl, "grows", "PodResizePending")["message"]
    assert kernel(kubectl, "grows")[0] == 10_000
    # The scheduler keeps what is wished free, so nobody takes it before.
    kubectl("delete", "pod", "other")
    settled(kubectl, "grows", f"{millis * 45 // 100}m", "32Mi")
    assert kernel(kubectl, "grows")[0] == millis * 45


def test_an_agent_killed_mid_way(kubectl: Kubectl, lab: Lab, alone_on_lab: None) -> None:
    start(kubectl, "steady", "100m", "32Mi")
    first = settled(kubectl, "steady", "100m", "32Mi")["status"]["containerStatuses"][0]["containerID"]
    for cpu, memory in (("200m", "64Mi"), ("150m", "48Mi"), ("250m", "80Mi")):
        kubectl(*patch("steady", cpu, memory))
        dead = service_pid(lab.host("host-1"), AGENT)
        orca("lab", "kill", "--name", LAB, "agent/host-1")
        pod = settled(kubectl, "steady", cpu, memory)
        assert pod["status"]["containerStatuses"][0]["containerID"] == first
        assert kernel(kubectl, "steady")[1] == int(memory.removesuffix("Mi")) << 20
        wait_for_next_agent(lab.host("host-1"), dead)


@pytest.mark.parametrize(
    ("kind", "spec", "says"),
    [
        ("LimitRange", {"limits": [{"type": "Container", "max": {"cpu": "200m"}}]}, "maximum cpu usage per Container"),
        ("ResourceQuota", {"hard": {"requests.memory": "64Mi"}}, "exceeded quota: rule, requested: requests.memory"),
    ],
)
def test_rules_of_the_namespace_hold(kubectl: Kubectl, kind: str, spec: dict[str, Any], says: str) -> None:
    start(kubectl, "bound", "100m", "32Mi")
    rule = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "rule"}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(rule))
    much = [*patch("bound", "300m", "128Mi"), "--dry-run=server"]
    eventually(lambda: kubectl.try_(*much).code != 0, what=says)
    refused = kubectl.try_(*much)
    assert "is forbidden" in refused.err
    assert says in refused.err
    kubectl(*patch("bound", "200m", "64Mi"))
    settled(kubectl, "bound", "200m", "64Mi")


def cgroup(path: str, file: str) -> int:
    """A number of a pod's cgroup, -1 for no limit."""
    controller = file.partition(".")[0]
    base = Path("/sys/fs/cgroup")
    base = base / controller if (base / controller).is_dir() else base
    found = next(base.glob(f"orca-{LAB}/*/kubepods/**/{path}/{file}"))
    return int(found.read_text().split()[0].replace("max", "-1"))


def test_what_a_pod_has_as_a_whole_is_limited_and_resized(kubectl: Kubectl) -> None:
    """`resources` of the pod: one budget for containers that have none of their own."""
    one = {"image": "busybox:1.36", "command": ["sleep", "3600"]}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "resources": sizes("500m", "64Mi"),
        "containers": [{"name": "main", **one}, {"name": "other", **one}],
    }
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "whole"}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    kubectl("wait", "--for=condition=Ready", "pod/whole", "--timeout=120s")
    pod = kubectl.json("get", "pod", "whole")
    assert pod["status"]["qosClass"] == "Guaranteed"
    assert pod["status"]["resources"] == sizes("500m", "64Mi")
    path, files = f"pod{pod['metadata']['uid']}", ("cpu.max", "memory.max")
    if Path("/sys/fs/cgroup/memory").is_dir():
        files = ("cpu.cfs_quota_us", "memory.limit_in_bytes")
    assert [cgroup(path, file) for file in files] == [50_000, 64 << 20]
    # A container without limits may use all that the pod has.
    assert kernel(kubectl, "whole") == [50_000, 64 << 20]
    kubectl("patch", "pod", "whole", "--subresource=resize", "--type=merge", "--patch",
            json.dumps({"spec": {"resources": sizes("1", "96Mi")}}))  # fmt: skip

    def resized() -> Any:
        status = kubectl.json("get", "pod", "whole")["status"]
        return status if status["resources"] == sizes("1", "96Mi") else None

    status = eventually(resized, what="the resize of the pod")
    assert status["allocatedResources"] == {"cpu": "1", "memory": "96Mi"}
    assert [cgroup(path, file) for file in files] == [100_000, 96 << 20]
    assert kernel(kubectl, "whole") == [100_000, 96 << 20]
    assert [one["restartCount"] for one in status["containerStatuses"]] == [0, 0]
    kubectl("delete", "pod", "whole")
    eventually(lambda: not list(Path("/sys/fs/cgroup").glob(f"**/orca-{LAB}/**/{path}")), what="no cgroup is left")


def test_a_pod_that_names_its_node_is_refused_when_that_has_no_room(kubectl: Kubectl) -> None:
    for name, amounts, reason in (
        ("cpus", {"cpu": "1000"}, "OutOfcpu"),
        ("bytes", {"memory": "100Ti"}, "OutOfmemory"),
        ("pages", {"cpu": "1m", "hugepages-2Mi": "2Gi"}, "OutOfhugepages-2Mi"),
    ):
        main = {"name": "main", "image": "busybox:1.36", "resources": {"requests": amounts, "limits": amounts}}
        spec = {"nodeName": "host-1", "containers": [main]}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

        def failed(name: str = name) -> Any:
            status = kubectl.json("get", "pod", name).get("status") or {}
            return status if status.get("phase") == "Failed" else None

        status = eventually(failed, what=f"the refusal of {name}")
        resource = reason.removeprefix("OutOf")
        assert status["reason"] == reason
        assert status["message"].startswith(
            f"Pod was rejected: Node didn't have enough resource: {resource}, requested: "
        )
