"""A cluster whose hosts are on two segments, with both families: pods across the router while an agent dies, and one
host that has CNI plugins wire its pods. All of it as a user sees it, through kubectl."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orca.lab import host as hosts
from orca.lab import services
from orca.lab.layout import Host, Lab, load
from tests.cluster.conftest import LAB, orca
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.slow
NAME = f"{LAB[:7]}-s"

ECHO = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 0
      containers:
      - name: echo
        image: busybox:1.36
        command: [sh, -c, "mkdir /www; dd if=/dev/zero of=/www/big bs=1M count=2 2>/dev/null; exec httpd -f -h /www"]
        ports: [{containerPort: 80, hostPort: 8080}]
        env:
        - {name: POD_IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
        - {name: HOST_IPS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}
"""

CONFLIST = {
    "name": "pods",
    "cniVersion": "1.0.0",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "capabilities": {"ipRanges": True},
            "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
    ],
}

LIMITED = """
apiVersion: v1
kind: Pod
metadata:
  name: limited
  annotations: {kubernetes.io/ingress-bandwidth: "%s"}
spec:
  nodeName: host-2
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: busybox:1.36
    command: [httpd, -f, -p, "80"]
    ports: [{containerPort: 80, hostPort: 8081}]
"""


@pytest.fixture(scope="module")
def segments() -> Iterator[Lab]:
    orca("lab", "up", "--name", NAME, "--hosts", "3", "--segments", "2", "--dual-stack")
    yield load(NAME)
    if not os.environ.get("ORCA_TEST_KEEP_LAB"):
        orca("lab", "down", "--name", NAME)


@pytest.fixture(scope="module")
def kubectl(segments: Lab) -> Kubectl:
    return Kubectl(kubectls.current(), segments.kubeconfig)


def _pods(kubectl: Kubectl) -> dict[str, dict[str, object]]:
    """Host -> pod of the DaemonSet, once all are ready and have two addresses."""
    found = json.loads(kubectl("get", "pods", "-l", "app=echo", "-o", "json"))["items"]
    assert len(found) == 3
    for pod in found:
        assert [one["status"] for one in pod["status"]["conditions"] if one["type"] == "Ready"] == ["True"]
        assert len(pod["status"]["podIPs"]) == len(pod["status"]["hostIPs"]) == 2
    return {pod["spec"]["nodeName"]: pod for pod in found}


def test_pods_reach_each_other_across_segments_while_an_agent_dies(segments: Lab, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=ECHO)
    pods = eventually(lambda: _pods(kubectl))
    names = {host: pod["metadata"]["name"] for host, pod in pods.items()}  # type: ignore[index]
    ips = {host: [one["ip"] for one in pod["status"]["podIPs"]] for host, pod in pods.items()}  # type: ignore[index]
    told = kubectl("exec", names["host-1"], "--", "sh", "-c", "echo $POD_IPS $HOST_IPS").split()
    assert told[0].split(",") == ips["host-1"]
    assert told[1].split(",") == list(segments.host(1).addresses)
    mtu = kubectl("exec", names["host-1"], "--", "cat", "/sys/class/net/eth0/mtu")
    assert mtu.strip() == "1450"
    # host-0 and host-2 are on one segment, host-1 is on the other: each file crosses in packets as big as they come.
    urls = [f"http://{f'[{ip}]' if ':' in ip else ip}/big" for host in ips for ip in ips[host]]
    fetch = "timeout 60 wget -q -O /dev/null $u || echo lost $u"
    loop = f"for n in 1 2; do for u in {' '.join(urls)}; do {fetch}; done; done"
    running = [
        subprocess.Popen(
            [kubectl.binary, "--kubeconfig", str(segments.kubeconfig), "exec", names[host], "--", "sh", "-c", loop],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for host in ("host-0", "host-2")
    ]
    orca("lab", "kill", "--name", NAME, "agent/host-1")
    for process in running:
        assert process.communicate(timeout=PATIENCE) == ("", None)
    pings = kubectl("exec", names["host-2"], "--", "ping", "-c", "2", "-s", "4000", ips["host-1"][0])
    assert " 0% packet loss" in pings


def test_host_ports_are_reached_in_both_families(segments: Lab, kubectl: Kubectl) -> None:
    for address in segments.host(1).addresses:
        target = f"[{address}]" if ":" in address else address
        size = hosts.call(
            segments.host(1), "curl", "-s", "-o", "/dev/null", "-w", "%{size_download}", f"http://{target}:8080/big"
        )
        assert size == str(2 << 20)


def test_cni_plugins_wire_the_pods_of_a_host(segments: Lab, kubectl: Kubectl) -> None:
    if not Path("/usr/lib/cni/bridge").exists():
        pytest.skip("no CNI plugins here: apt-get install containernetworking-plugins")
    kubectl("delete", "daemonset", "echo", "--wait=true", "--ignore-not-found")
    host = segments.host(2)
    eventually(lambda: _no_pods(kubectl))
    hosts.stop_service(host, services.AGENT)
    service = services.agent(host, (segments.state / "token").read_text())
    hosts.start_service(host, dataclasses.replace(service, argv=(*service.argv, "--network-plugin=cni")))
    eventually(lambda: _ready(kubectl, "False", "cni plugin not initialized"))
    directory = host.state / "etc-cni" / "net.d"
    directory.mkdir(exist_ok=True)
    (directory / "10-pods.conflist").write_text(json.dumps(CONFLIST))
    eventually(lambda: _ready(kubectl, "True", ""))

    kubectl("apply", "-f", "-", stdin=LIMITED % "10")
    eventually(lambda: _said(kubectl, "FailedCreatePodSandBox", "resource is unreasonably small (< 1kbit)"))
    kubectl("delete", "pod", "limited", "--wait=true")

    (directory / "00-bad.conflist").write_text(json.dumps({**CONFLIST, "plugins": [{"type": "nothing"}]}))
    kubectl("apply", "-f", "-", stdin=LIMITED % "10M")
    eventually(lambda: _said(kubectl, "FailedCreatePodSandBox", 'failed to find plugin "nothing" in path'))
    (directory / "00-bad.conflist").unlink()
    kubectl("wait", "--for=condition=Ready", "pod/limited", "--timeout=120s")
    status = json.loads(kubectl("get", "pod", "limited", "-o", "json"))["status"]
    node = json.loads(kubectl("get", "node", "host-2", "-o", "json"))["spec"]
    addresses = [one["ip"] for one in status["podIPs"]]
    assert [ip.rpartition("." if "." in ip else ":")[0] for ip in addresses] == [
        cidr.partition("/")[0].rpartition("." if "." in cidr else ":")[0] for cidr in node["podCIDRs"]
    ]
    for address in (f"{addresses[0]}:80", f"[{addresses[1]}]:80", f"{host.address}:8081"):
        eventually(lambda url=f"http://{address}/": _answers(host, url))  # type: ignore[misc]
    assert " tbf " in hosts.call(host, "tc", "qdisc", "show")
    orca("lab", "kill", "--name", NAME, "agent/host-2")
    kubectl("delete", "pod", "limited", "--wait=true")
    kept = host.state / "cni" / "networks" / "pods"
    eventually(lambda: not [*kept.glob("10.*"), *kept.glob("fd*")])


def _no_pods(kubectl: Kubectl) -> bool:
    return not kubectl.items("pods")


def _ready(kubectl: Kubectl, status: str, text: str) -> bool:
    (condition,) = [
        one for one in kubectl.json("get", "node", "host-2")["status"]["conditions"] if one["type"] == "Ready"
    ]
    return condition["status"] == status and text in condition["message"]


def _said(kubectl: Kubectl, reason: str, text: str) -> bool:
    return any(event["reason"] == reason and text in event["message"] for event in kubectl.items("events"))


def _answers(host: Host, url: str) -> bool:
    return hosts.call(host, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url, check=False) == "404"
