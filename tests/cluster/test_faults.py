"""What happens when something dies or is cut off: nothing acknowledged is lost, and all is Ready again in time."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from orca.lab.layout import Lab
from tests.cluster import workloads
from tests.cluster.conftest import LAB, orca
from tests.support.kubectl import Kubectl, eventually

RECOVERY_SECONDS = 60
NOT_READY_SECONDS = 50


class Writer:
    """Creates ConfigMaps without pause and remembers which ones the server acknowledged."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl, self._stop = kubectl, threading.Event()
        self.acknowledged: list[str] = []
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            name = f"written-{number}"
            if self._kubectl.try_("create", "configmap", name, f"--from-literal=n={number}").code == 0:
                self.acknowledged.append(name)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def running(kubectl: Kubectl) -> Kubectl:
    """Four Ready replicas behind a NodePort."""
    web = workloads.who_am_i("web", 4, readiness=True)
    kubectl("apply", "-f", "-", stdin=workloads.text(web, workloads.service("web")))
    kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    return kubectl


@pytest.fixture(autouse=True)
def whole_again(lab: Lab, admin: Kubectl) -> Iterator[None]:
    """After each fault the lab is whole: cables plugged, every node Ready."""
    yield
    for host in lab.hosts:
        orca("lab", "heal", "--name", LAB, host.name)
    eventually(lambda: _all_nodes_ready(admin), seconds=RECOVERY_SECONDS, what="all nodes Ready")


def _all_nodes_ready(kubectl: Kubectl) -> bool:
    shown = kubectl.try_("get", "nodes", "--no-headers")
    return shown.code == 0 and all(line.split()[1] == "Ready" for line in shown.out.splitlines())


def _containers(kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """Pod name -> (container id, restart count)."""
    return {
        pod["metadata"]["name"]: (status["containerID"], status["restartCount"])
        for pod in kubectl.items("pods", "-l", "app=web")
        for status in pod["status"].get("containerStatuses", [])
        if "containerID" in status
    }


def _all_ready(kubectl: Kubectl) -> bool:
    shown = kubectl.try_("get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
    return shown.code == 0 and shown.out == "4" and _all_nodes_ready(kubectl)


def _answers(lab: Lab, port: int, position: int = 1) -> bool:
    try:
        with urllib.request.urlopen(f"http://{lab.host(position).address}:{port}", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _port(kubectl: Kubectl) -> int:
    return int(kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"))


@pytest.mark.parametrize("target", ["server", "etcd", "agent/host-1", "engine/host-1"])
def test_kill_9_loses_nothing_and_restarts_no_container(running: Kubectl, lab: Lab, target: str) -> None:
    before, port = _containers(running), _port(running)
    with Writer(running) as writer:
        eventually(lambda: len(writer.acknowledged) >= 3, what="some writes before the fault")
        orca("lab", "kill", "--name", LAB, target)
        killed = time.monotonic()
        count = len(writer.acknowledged)
        eventually(lambda: len(writer.acknowledged) > count + 3, seconds=RECOVERY_SECONDS, what="writes go on")
        eventually(lambda: _all_ready(running), seconds=RECOVERY_SECONDS, what="all Ready again")
        recovered = time.monotonic() - killed
    assert recovered <= RECOVERY_SECONDS
    there = {item["metadata"]["name"] for item in running.items("configmaps")}
    assert set(writer.acknowledged) <= there
    assert _containers(running) == before
    eventually(lambda: _answers(lab, port), what="the service answers")


def test_a_host_that_is_cut_off_is_replaced_and_cleaned_up_when_it_returns(kubectl: Kubectl, lab: Lab) -> None:
    tolerations = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for key in ("not-ready", "unreachable")
    ]
    web = workloads.who_am_i("web", 4, readiness=True, spec={"tolerations": tolerations})
    kubectl("apply", "-f", "-", stdin=workloads.text(web, workloads.service("web")))
    kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    port = _port(kubectl)
    lost = {p["metadata"]["name"] for p in kubectl.items("pods") if p["spec"]["nodeName"] == "host-2"}
    assert lost, "the replicas are spread over both hosts"

    orca("lab", "partition", "--name", LAB, "host-2")
    cut = time.monotonic()
    eventually(
        lambda: "NotReady" in kubectl("get", "node", "host-2", "--no-headers"),
        seconds=NOT_READY_SECONDS,
        what="host-2 NotReady",
    )

    def replaced() -> bool:
        ready = [
            pod
            for pod in kubectl.items("pods")
            if pod["spec"].get("nodeName") == "host-1"
            and {"type": "Ready", "status": "True"}.items()
            <= next((c for c in pod["status"].get("conditions", []) if c["type"] == "Ready"), {}).items()
        ]
        return len(ready) == 4

    def traffic_goes_on() -> bool:
        return all(_answers(lab, port) for _ in range(20))

    eventually(traffic_goes_on, seconds=max(1, RECOVERY_SECONDS - (time.monotonic() - cut)), what="traffic without it")
    eventually(replaced, seconds=40, what="four replicas on host-1")

    orca("lab", "heal", "--name", LAB, "host-2")
    eventually(
        lambda: "NotReady" not in kubectl("get", "node", "host-2", "--no-headers"),
        seconds=RECOVERY_SECONDS,
        what="host-2 Ready",
    )

    def cleaned() -> bool:
        names = orca("lab", "exec", "--name", LAB, "host-2", "--", "docker", "ps", "-a", "--format", "{{.Names}}")
        return not any(name in names for name in lost)

    eventually(cleaned, seconds=RECOVERY_SECONDS, what="stale containers removed")
    assert not lost & {pod["metadata"]["name"] for pod in kubectl.items("pods")}


def test_a_host_that_loses_power_runs_its_pods_again(running: Kubectl, lab: Lab) -> None:
    before = _containers(running)
    there = {pod["metadata"]["name"] for pod in running.items("pods") if pod["spec"]["nodeName"] == "host-1"}
    assert there
    orca("lab", "kill", "--name", LAB, "host-1")
    orca("lab", "start", "--name", LAB, "host-1")

    def restarted() -> bool:
        now = _containers(running)
        return all(now[name][1] == before[name][1] + 1 for name in there)

    eventually(restarted, seconds=RECOVERY_SECONDS, what="each container of that host has been started again")
    eventually(lambda: _all_ready(running), seconds=RECOVERY_SECONDS, what="all Ready again")
    now = _containers(running)
    assert {name: now[name] for name in before if name not in there} == {
        name: before[name] for name in before if name not in there
    }
    eventually(lambda: _answers(lab, _port(running)), what="the service answers on that host")


def test_a_host_that_is_cut_off_for_a_while_takes_its_pods_back(running: Kubectl, lab: Lab) -> None:
    before = _containers(running)
    orca("lab", "partition", "--name", LAB, "host-2")
    eventually(
        lambda: "NotReady" in running("get", "node", "host-2", "--no-headers"),
        seconds=NOT_READY_SECONDS,
        what="host-2 NotReady",
    )
    eventually(
        lambda: running.json("get", "deployment", "web")["status"].get("readyReplicas", 0) < 4,
        what="its pods are not Ready",
    )
    orca("lab", "heal", "--name", LAB, "host-2")
    eventually(lambda: _all_ready(running), seconds=RECOVERY_SECONDS, what="all Ready again")
    assert _containers(running) == before, "no container was restarted or replaced"
