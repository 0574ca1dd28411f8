"""What happens when something dies or is cut off: nothing acknowledged is lost, and all is Ready again in time."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from orca.lab.layout import Lab
from tests.cluster import workloads
from tests.cluster.conftest import LAB, orca
from tests.support.agents import wait_until_followed
from tests.support.kubectl import Kubectl, eventually

pytestmark = pytest.mark.usefixtures("alone_on_lab")


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
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    return kubectl


@pytest.fixture(autouse=True)
def whole_again(lab: Lab, admin: Kubectl) -> Iterator[None]:
    """After each fault the lab is whole: cables plugged, every node Ready, every agent at work."""
    yield
    for host in lab.hosts:
        orca("lab", "heal", "--name", LAB, host.name)
    wait_until_followed(lab, admin)


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
        with urllib.request.urlopen(f"http://{lab.host(position).address}:{port}", timeout=10) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _port(kubectl: Kubectl, service: str = "web") -> int:
    return int(kubectl("get", "service", service, "-o", "jsonpath={.spec.ports[0].nodePort}"))


def _pods_of(kubectl: Kubectl, app: str) -> list[dict[str, Any]]:
    return kubectl.items("pods", "-l", f"app={app}")


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


@pytest.mark.parametrize("target", ["server", "etcd", "agent/host-1", "engine/host-1"])
def test_kill_9_loses_nothing_and_restarts_no_container(running: Kubectl, lab: Lab, target: str) -> None:
    before, port = _containers(running), _port(running)
    with Writer(running) as writer:
        eventually(lambda: len(writer.acknowledged) >= 3, what="some writes before the fault")
        orca("lab", "kill", "--name", LAB, target)
        count = len(writer.acknowledged)
        eventually(lambda: len(writer.acknowledged) > count + 3, what="writes go on")
        eventually(lambda: _all_ready(running), what="all Ready again")
    there = {item["metadata"]["name"] for item in running.items("configmaps")}
    assert set(writer.acknowledged) <= there
    assert _containers(running) == before
    eventually(lambda: _answers(lab, port), what="the service answers")


def test_a_host_that_is_cut_off_is_replaced_or_waited_for_and_what_was_replaced_is_cleaned_up(
    running: Kubectl, lab: Lab
) -> None:
    """Pods that bear its absence for long, as by default, it takes back; those that bear it for five seconds are
    replaced meanwhile."""
    tolerations = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for key in ("not-ready", "unreachable")
    ]
    hasty = workloads.who_am_i("hasty", 4, readiness=True, spec={"tolerations": tolerations})
    running("apply", "-f", "-", stdin=workloads.text(hasty, workloads.service("hasty")))
    running("rollout", "status", "deployment/hasty", "--timeout=120s")
    port, patient = _port(running, "hasty"), _containers(running)
    lost = {p["metadata"]["name"] for p in _pods_of(running, "hasty") if p["spec"]["nodeName"] == "host-2"}
    assert lost, "the replicas are spread over both hosts"

    orca("lab", "partition", "--name", LAB, "host-2")
    eventually(lambda: "NotReady" in running("get", "node", "host-2", "--no-headers"), what="host-2 NotReady")

    def replaced() -> bool:
        here = [pod for pod in _pods_of(running, "hasty") if pod["spec"].get("nodeName") == "host-1"]
        return sum(_is_ready(pod) for pod in here) == 4

    def endpoints_are_elsewhere() -> bool:
        slices = running.items("endpointslices", "-l", "kubernetes.io/service-name=hasty")
        ready = [one for each in slices for one in each["endpoints"] or () if one["conditions"]["ready"]]
        return bool(ready) and all(one["nodeName"] != "host-2" for one in ready)

    eventually(endpoints_are_elsewhere, what="only endpoints of hosts that live")
    eventually(lambda: all(_answers(lab, port) for _ in range(20)), what="traffic without it")
    eventually(replaced, what="four replicas on host-1")
    eventually(
        lambda: running.json("get", "deployment", "web")["status"].get("readyReplicas", 0) < 4,
        what="pods that wait for their host are not Ready",
    )

    orca("lab", "heal", "--name", LAB, "host-2")
    eventually(lambda: _all_ready(running), what="all Ready again")
    assert _containers(running) == patient, "no container was restarted or replaced"

    def cleaned() -> bool:
        names = orca("lab", "exec", "--name", LAB, "host-2", "--", "docker", "ps", "-a", "--format", "{{.Names}}")
        return not any(name in names for name in lost)

    eventually(cleaned, what="stale containers removed")
    eventually(
        lambda: not lost & {pod["metadata"]["name"] for pod in running.items("pods")}, what="then their pods are gone"
    )


def test_a_host_that_loses_power_runs_its_pods_again(running: Kubectl, lab: Lab) -> None:
    before = _containers(running)
    there = {pod["metadata"]["name"] for pod in running.items("pods") if pod["spec"]["nodeName"] == "host-1"}
    assert there
    orca("lab", "kill", "--name", LAB, "host-1")
    orca("lab", "start", "--name", LAB, "host-1")

    def restarted() -> bool:
        now = _containers(running)
        return all(now[name][1] == before[name][1] + 1 for name in there)

    eventually(restarted, what="each container of that host has been started again")
    eventually(lambda: _all_ready(running), what="all Ready again")
    now = _containers(running)
    assert {name: now[name] for name in before if name not in there} == {
        name: before[name] for name in before if name not in there
    }
    eventually(lambda: _answers(lab, _port(running)), what="the service answers on that host")
