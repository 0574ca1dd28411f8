"""A host as its configuration file makes it: static pods, graceful shutdown, and what the agent's server tells."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orca.lab.host import call, service_is_running, service_pid, start_service, stop_service
from orca.lab.layout import Host, Lab
from orca.lab.services import AGENT, SERVER, server
from tests.cluster.conftest import LAB, orca
from tests.support.agents import wait_for_next_agent
from tests.support.kubectl import Kubectl, eventually

pytestmark = pytest.mark.usefixtures("alone_on_lab")
DROP_IN = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
staticPodPath: /etc/orca/manifests
shutdownGracePeriod: 100s
shutdownGracePeriodCriticalPods: 40s
containerLogMaxSize: 64Ki
containerLogMaxFiles: 3
maxPods: 77
"""


class Machine:
    """The last host of the lab, with the drop-in above."""

    def __init__(self, lab: Lab, kubectl: Kubectl) -> None:
        self.lab = lab
        self.host: Host = lab.hosts[-1]
        self.kubectl = kubectl
        self.name = self.host.name
        self._etc = self.host.state / "etc-orca"
        self.manifests = self._etc / "manifests"
        self._dead = 0

    def configure(self, text: str) -> None:
        self.manifests.mkdir(exist_ok=True)
        path = self._etc / "agent.conf.d" / "50-test.conf"
        path.write_text(text) if text else path.unlink(missing_ok=True)
        self.restart_agent()

    def restart_agent(self) -> None:
        """Kill it; the next one comes."""
        eventually(lambda: service_is_running(self.host, AGENT), what="the agent runs")  # not between two lives
        self._dead = service_pid(self.host, AGENT)
        orca("lab", "kill", "--name", LAB, f"agent/{self.name}")

    def wait_for_agent(self) -> None:
        """Return when the one that was started last has written its rules."""
        wait_for_next_agent(self.host, self._dead)

    def signal_agent(self, name: str) -> None:
        pid = (self.host.state / "pid" / AGENT).read_text().strip()
        subprocess.run(["kill", f"-{name}", pid], check=True)

    def raw(self, path: str) -> str:
        return self.kubectl("get", "--raw", f"/api/v1/nodes/{self.name}/proxy/{path}")

    def max_pods(self) -> str:
        node = self.kubectl.json("get", "node", self.name)
        return str(node["status"]["capacity"]["pods"])

    def put(self, name: str, script: str, **spec: Any) -> Path:
        """Write a manifest as an editor does: beside, then renamed."""
        container = {
            "name": "main",
            "image": "busybox:latest",
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
        }
        path = self.manifests / f"{name}.json"
        fresh = self.manifests / f".{name}.new"
        fresh.write_text(json.dumps(pod))
        return fresh.rename(path)

    def containers(self, name: str) -> list[str]:
        """Ids of running app containers of a pod, as the engine tells."""
        mine = (
            "--filter",
            f"label=io.kubernetes.pod.name={name}",
            "--filter",
            "label=io.kubernetes.container.name=main",
        )
        return call(self.host, "docker", "ps", "-q", "--no-trunc", *mine).split()


@pytest.fixture(scope="module")
def machine(lab: Lab, admin: Kubectl) -> Iterator[Machine]:
    machine = Machine(lab, admin)
    machine.configure(DROP_IN)
    machine.wait_for_agent()
    eventually(lambda: machine.max_pods() == "77", what="the agent has its configuration")
    yield machine
    for path in machine.manifests.iterdir():
        path.unlink()
    machine.configure("")
    machine.wait_for_agent()
    eventually(lambda: machine.max_pods() == "110", what="the agent is as it was")
    eventually(lambda: not _static(machine), what="no mirror pod is left")


def _static(machine: Machine) -> list[str]:
    pods = machine.kubectl.json("get", "pods", "-A", f"--field-selector=spec.nodeName={machine.name}")["items"]
    mark = "kubernetes.io/config.mirror"
    return [pod["metadata"]["name"] for pod in pods if mark in pod["metadata"].get("annotations", {})]


def _ready(machine: Machine, pod: str) -> dict[str, Any] | None:
    found = machine.kubectl.try_("get", "pod", pod, "-o", "json")
    if found.code:
        return None
    obj: dict[str, Any] = json.loads(found.out)
    conditions = {one["type"]: one["status"] for one in obj["status"].get("conditions", [])}
    return obj if conditions.get("Ready") == "True" else None


def test_a_manifest_is_a_pod_that_the_api_shows_and_does_not_control(machine: Machine) -> None:
    kubectl, name = machine.kubectl, f"web-{machine.name}"
    machine.put("web", "echo first; sleep 1000", priorityClassName="system-node-critical")
    pod = eventually(lambda: _ready(machine, name), what="the static pod is Ready")
    notes = pod["metadata"]["annotations"]
    assert notes["kubernetes.io/config.source"] == "file"
    assert notes["kubernetes.io/config.mirror"] == notes["kubernetes.io/config.hash"]
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert pod["spec"]["priority"] == 2000001000
    [container] = machine.containers(name)
    eventually(lambda: kubectl("logs", name) == "first\n", what="what it printed")
    assert kubectl("exec", name, "--", "hostname") == f"{name}\n"

    kubectl("delete", "pod", name, "--wait=false")
    again = eventually(
        lambda: (found := _ready(machine, name)) and found["metadata"]["uid"] != pod["metadata"]["uid"] and found,
        what="the mirror is made again",
    )
    assert machine.containers(name) == [container], "the pod did not notice"
    assert again["status"]["startTime"] == pod["status"]["startTime"]

    machine.put("web", "echo second; sleep 1000")
    eventually(lambda: kubectl.try_("logs", name).out == "second\n", what="the new manifest runs")
    assert len(machine.containers(name)) == 1

    (machine.manifests / "bad.yaml").write_text("kind: Nothing\n")
    events = ("get", "events", "--field-selector=reason=InvalidStaticPod", "-o", "jsonpath={.items[*].message}")
    eventually(lambda: "bad.yaml cannot be used" in kubectl(*events), what="a bad manifest is told of")
    (machine.manifests / "bad.yaml").unlink()

    (machine.manifests / "web.json").unlink()
    eventually(lambda: kubectl.try_("get", "pod", name).code == 1, what="the mirror is gone")
    eventually(lambda: machine.containers(name) == [], what="what ended is removed")


def test_static_pods_start_while_there_is_no_server(machine: Machine) -> None:
    name, here = f"alone-{machine.name}", machine.lab.host(0)
    stop_service(here, SERVER)
    try:
        machine.restart_agent()
        machine.put("alone", "sleep 1000")
        machine.put("net", "sleep 1000", hostNetwork=True)
        eventually(lambda: machine.containers(name), what="a pod of a file runs")
        eventually(lambda: machine.containers(f"net-{machine.name}"), what="one on the host's network, too")
    finally:
        start_service(here, server(here))
    eventually(lambda: _ready(machine, name), what="the server shows it")
    for manifest in ("alone", "net"):
        (machine.manifests / f"{manifest}.json").unlink()
    eventually(lambda: not _static(machine), what="the pods are gone")


def test_pods_are_ended_in_order_before_the_host_goes_down(machine: Machine) -> None:
    kubectl = machine.kubectl
    critical = f"critical-{machine.name}"
    machine.put("critical", "sleep 1000", priorityClassName="system-node-critical")
    plain = {"spec": {"nodeName": machine.name, "terminationGracePeriodSeconds": 2}}
    run = ("run", "--image=busybox:latest", "--image-pull-policy=IfNotPresent", f"--overrides={json.dumps(plain)}")
    kubectl(*run, "plain", "--", "sh", "-c", "echo last words; sleep 1000")
    for name in ("plain", critical):
        eventually(lambda name=name: _ready(machine, name), what=f"{name} is Ready")

    machine.signal_agent("USR1")
    ended = eventually(
        lambda: (found := kubectl.json("get", "pod", critical))["status"]["phase"] == "Failed" and found,
        what="the critical pod has ended",
    )
    first = eventually(
        lambda: (found := kubectl.json("get", "pod", "plain"))["status"]["phase"] == "Failed" and found,
        what="the other one has, too",
    )
    for pod in (first, ended):
        assert pod["status"]["reason"] == "Terminated"
        assert pod["status"]["message"] == "Pod was terminated in response to imminent node shutdown."
    [disruption] = [one for one in first["status"]["conditions"] if one["type"] == "DisruptionTarget"]
    assert disruption["reason"] == "TerminationByKubelet"
    assert _finished(first) < _finished(ended), "critical pods end last"

    def told() -> bool:
        node = kubectl.json("get", "node", machine.name)
        [ready] = [one for one in node["status"]["conditions"] if one["type"] == "Ready"]
        said = (ready["status"], ready["reason"], ready["message"])
        assert said == ("False", "KubeletNotReady", "node is shutting down")
        return True

    eventually(told, what="the node says why it is not ready")
    kubectl(*run, "late", "--", "sleep", "1")
    late = eventually(
        lambda: (found := kubectl.json("get", "pod", "late"))["status"]["phase"] == "Failed" and found,
        what="a new pod is refused",
    )
    assert late["status"]["reason"] == "NodeShutdown"

    machine.restart_agent()  # the host is up again
    eventually(lambda: _ready(machine, critical), what="the static pod runs again")
    assert kubectl.json("get", "pod", "plain")["status"]["phase"] == "Failed"
    uid = first["metadata"]["uid"]
    kubectl("delete", "pod", "plain", "late", "--wait=true")
    kept = eventually(
        lambda: (
            kubectl.try_(
                "get", "--raw", f"/api/v1/nodes/{machine.name}/proxy/logs/pods/default_plain_{uid}/plain/0.log"
            ).out
        ),
        what="the logs of a deleted pod can be read",
    )
    assert json.loads(kept.splitlines()[0])["log"] == "last words\n"
    (machine.manifests / "critical.json").unlink()
    eventually(lambda: not _static(machine), what="the static pod is gone")


def _finished(pod: dict[str, Any]) -> str:
    [status] = pod["status"]["containerStatuses"]
    return str(status["state"]["terminated"]["finishedAt"])


def test_the_agent_tells_of_itself_whom_the_api_lets(machine: Machine, kubectl: Kubectl) -> None:
    configuration = json.loads(machine.raw("configz"))["kubeletconfig"]
    assert configuration["staticPodPath"] == "/etc/orca/manifests"
    assert configuration["shutdownGracePeriod"] == "1m40s"
    assert configuration["containerLogMaxSize"] == "64Ki"
    assert machine.raw("healthz/syncloop") == "ok"
    assert call(machine.host, "curl", "-s", "http://127.0.0.1:10248/healthz") == "ok"
    metrics = machine.raw("metrics")
    for name in (
        "kubelet_running_pods",
        "kubelet_pod_start_duration_seconds_bucket",
        'kubelet_runtime_operations_total{operation_type="version"}',
        "process_resident_memory_bytes",
    ):
        assert f"\n{name}" in metrics, name
    assert json.loads(machine.raw("runningpods/"))["kind"] == "PodList"

    kubectl("create", "serviceaccount", "scraper")
    token = kubectl("create", "token", "scraper").strip()

    def status(path: str, *options: str) -> str:
        url = f"https://{machine.host.address}:10250/{path}"
        return call(machine.host, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", *options, url)

    bearer = ("-H", f"Authorization: Bearer {token}")
    assert status("metrics") == "401"
    assert status("metrics", "-H", "Authorization: Bearer nonsense") == "401"
    assert status("metrics", *bearer) == "403"
    account = f"{kubectl.namespace}:scraper"
    kubectl("create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics,nodes/healthz")
    kubectl("create", "clusterrolebinding", "scraper", "--clusterrole=scraper", f"--serviceaccount={account}")
    try:
        another = ("-H", f"Authorization: Bearer {kubectl('create', 'token', 'scraper', '--duration=1h').strip()}")
        assert status("healthz", *another) == "200"
        eventually(lambda: status("metrics", *another) == "200", what="a refusal is forgotten")
        assert status("pods", *another) == "403"
        assert status("run/default/a/b?cmd=id", "-X", "POST", *another) == "403"
    finally:
        kubectl("delete", "clusterrole/scraper", "clusterrolebinding/scraper")
