"""A host under pressure as its users see it: conditions, taint, who is evicted and in which order, who may come."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orca.lab import host as hosts
from orca.lab.host import Service
from orca.lab.layout import Host, Lab
from orca.lab.services import AGENT
from tests.support.agents import wait_for_rules
from tests.support.kubectl import Kubectl, eventually

pytestmark = pytest.mark.usefixtures("alone_on_lab")
AT_EASE: dict[str, Any] = {"evictionPressureTransitionPeriod": "1s"}
SHORT_OF_MEMORY = {
    **AT_EASE,
    # What no host has free, so that it is short of memory without anybody using it up.
    "evictionSoft": {"memory.available": "99.9%"},
    "evictionSoftGracePeriod": {"memory.available": "1s"},
}
TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


class Configured:
    """The last host of the lab, with a KubeletConfiguration that can be changed."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.name = host.name
        self._file = directory / f"orca-pressure-{os.getpid()}.yaml"
        running = Path(f"/proc/{hosts.service_pid(host, AGENT)}/cmdline").read_text().split("\0")[2:-1]
        self._argv = (str(Path(sys.executable).parent / "orca-agent"), *running)

    def apply(self, **fields: Any) -> None:
        """Run the agent with these fields."""
        head = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
        self._file.write_text(json.dumps({**head, **fields}))
        hosts.stop_service(self.host, AGENT)
        hosts.start_service(self.host, Service(AGENT, (*self._argv, f"--config={self._file}")))

    def restore(self) -> None:
        hosts.stop_service(self.host, AGENT)
        hosts.start_service(self.host, Service(AGENT, self._argv))
        wait_for_rules(self.host)
        self._file.unlink(missing_ok=True)


@pytest.fixture
def node(lab: Lab) -> Iterator[Configured]:
    made = Configured(lab.hosts[-1], Path("/var/tmp"))
    yield made
    made.restore()


def manifest(name: str, script: str = "", resources: Any = None, **spec: Any) -> str:
    container = {
        "name": "c",
        "image": "busybox:latest",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", f"{script or ':'}; sync; sleep 3600"],
        "resources": resources or {},
    }
    volumes = spec.get("volumes")
    if volumes:
        container["volumeMounts"] = [{"name": one["name"], "mountPath": f"/{one['name']}"} for one in volumes]
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
        }
    )


def condition(kubectl: Kubectl, node: str, kind: str) -> tuple[str, str, str]:
    found = next(one for one in kubectl.json("get", "node", node)["status"]["conditions"] if one["type"] == kind)
    return found["status"], found["reason"], found["message"]


def tainted(kubectl: Kubectl, node: str) -> bool:
    taints = kubectl.json("get", "node", node)["spec"].get("taints") or []
    return any(one["key"] == TAINT["key"] and one["effect"] == TAINT["effect"] for one in taints)


def evicted(kubectl: Kubectl, name: str) -> str:
    """Why, once it is so."""
    eventually(
        lambda: kubectl.json("get", "pod", name)["status"].get("reason") == "Evicted",
        what=f"{name} is evicted",
    )
    status = kubectl.json("get", "pod", name)["status"]
    assert status["phase"] == "Failed"
    message: str = status["message"]
    return message


def ended(kubectl: Kubectl, name: str) -> str:
    (container,) = kubectl.json("get", "pod", name)["status"]["containerStatuses"]
    at: str = container["state"]["terminated"]["finishedAt"]
    return at


def test_limits_on_local_storage_and_memory_pressure(kubectl: Kubectl, node: Configured) -> None:
    here = {"nodeName": node.name}
    # What tests before have left is gone, or it would be evicted, too.
    going = ("get", "pods", "-A", f"--field-selector=spec.nodeName={node.name}", "-o", "name")
    eventually(lambda: not kubectl(*going).split(), what="nobody else is on the host")
    node.apply(**AT_EASE)
    scratch = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
    fill = "dd if=/dev/zero of={} bs=1M count=4 2>/dev/null"
    for one in (
        manifest("volume", fill.format("/v/f"), volumes=scratch, **here),
        manifest("layer", fill.format("/f"), {"limits": {"ephemeral-storage": "1Mi"}}, **here),
        manifest("hog", "dd if=/dev/zero of=/dev/shm/f bs=1M count=40 2>/dev/null", **here),
        manifest("modest", resources={"limits": {"memory": "128Mi", "cpu": "10m"}}, **here),
        manifest("critical", priorityClassName="system-node-critical", **here),
    ):
        kubectl("create", "-f", "-", stdin=one)
    kubectl("wait", "--for=condition=Ready", "pod/hog", "pod/modest", "pod/critical", "--timeout=120s")

    # Limits.
    assert evicted(kubectl, "volume") == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert evicted(kubectl, "layer") == "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
    events = ("get", "events", "--field-selector=reason=Evicted", "-o", "jsonpath={.items[*].message}")
    eventually(lambda: 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ' in kubectl(*events), what="the event")

    # What the host tells of itself.
    def measured() -> Any:
        summary = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{node.name}/proxy/stats/summary"))
        hog = next(one for one in summary["pods"] if one["podRef"]["name"] == "hog")
        assert hog["memory"]["workingSetBytes"] >= 40 << 20, hog
        assert hog["containers"][0]["cpu"]["usageCoreNanoSeconds"] > 0, hog
        return summary

    summary = eventually(measured, what="what the hog has taken")
    assert summary["node"]["fs"]["capacityBytes"] > summary["node"]["fs"]["availableBytes"] > 0
    for path, series in (
        ("metrics/resource", 'container_memory_working_set_bytes{container="c"'),
        ("metrics/cadvisor", "container_network_receive_bytes_total{"),
        ("metrics/probes", "# TYPE prober_probe_total counter"),
    ):
        raw = ("get", "--raw", f"/api/v1/nodes/{node.name}/proxy/{path}")
        eventually(lambda raw=raw, series=series: series in kubectl(*raw), what=f"{series} in {path}")

    # Pressure.
    assert condition(kubectl, node.name, "MemoryPressure")[0] == "False"
    node.apply(**SHORT_OF_MEMORY)
    message = evicted(kubectl, "hog")
    assert message.startswith("The node was low on resource: memory. Threshold quantity: ")
    assert "Container c was using " in message
    assert message.endswith(", request is 0, has larger consumption of memory. ")
    (disruption,) = [
        one for one in kubectl.json("get", "pod", "hog")["status"]["conditions"] if one["type"] == "DisruptionTarget"
    ]
    assert disruption["reason"] == "TerminationByKubelet"
    short = ("True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
    eventually(lambda: condition(kubectl, node.name, "MemoryPressure") == short, what="the condition")
    eventually(lambda: tainted(kubectl, node.name), what="the taint")
    kubectl("create", "-f", "-", stdin=manifest("late", **here))
    assert evicted(kubectl, "late") == "Pod was rejected: The node had condition: [MemoryPressure]. "
    kubectl("create", "-f", "-", stdin=manifest("waiting", nodeSelector={"kubernetes.io/hostname": node.name}))
    assert "has larger consumption" not in evicted(kubectl, "modest")  # it stayed within its request, and goes last
    assert ended(kubectl, "hog") <= ended(kubectl, "modest")
    # All that may go has gone now.
    assert kubectl.json("get", "pod", "critical")["status"]["phase"] == "Running"
    of_nodes = ("get", "events", "-o", "json", "--field-selector")
    for about, text in (
        ("involvedObject.kind=Node,reason=EvictionThresholdMet", "Attempting to reclaim memory"),
        ("reason=NodeHasInsufficientMemory", f"Node {node.name} status is now: NodeHasInsufficientMemory"),
    ):
        eventually(lambda a=about, t=text: t in kubectl.within("default")(*of_nodes, a), what=text)
    counted = kubectl("get", "--raw", f"/api/v1/nodes/{node.name}/proxy/metrics")
    assert 'kubelet_evictions{eviction_signal="memory.available"} 2.0' in counted
    eventually(lambda: "untolerated taint" in kubectl("describe", "pod", "waiting"), what="why it is not scheduled")

    # Recovery.
    node.apply(**AT_EASE)
    eventually(lambda: not tainted(kubectl, node.name), what="the taint goes")
    assert condition(kubectl, node.name, "MemoryPressure")[1] == "KubeletHasSufficientMemory"
    kubectl("wait", "--for=condition=Ready", "pod/waiting", "pod/critical", "--timeout=120s")
