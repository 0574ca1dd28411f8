"""An agent that is killed with SIGKILL at any step of a pod's life: the next one brings the pod to the same end."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orca.api.builtin import CONFIGMAPS, PODS, SECRETS
from orca.api.objects import Obj, uid
from orca.lab.layout import Lab
from tests.cluster.conftest import LAB, orca
from tests.cluster.stephost import StepHost, containers, left_of, step_host
from tests.support.agents import wait_for_rules
from tests.support.kubectl import Kubectl, eventually

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.usefixtures("alone_on_lab")]

POINTS = 6
"""In each run of the tests, spread over the pod's life; the slow one takes every step."""
NOTED = "echo . >> /noted/{}"


@pytest.fixture(scope="module")
def noted() -> Iterator[Path]:
    """A directory in which containers note that they ran."""
    with tempfile.TemporaryDirectory(prefix="orca-noted-", dir="/var/tmp", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture
async def host(lab: Lab) -> AsyncIterator[StepHost]:
    directory = Path(tempfile.mkdtemp(prefix="orca-steps-", dir="/var/tmp"))
    async with step_host(lab.hosts[-1], directory) as made:
        both = ((CONFIGMAPS, {"data": {"key": "value"}}), (SECRETS, {"stringData": {"key": "value"}}))
        for resource, data in both:
            await made.client.create(resource, {"metadata": {"name": "rich", "namespace": "default"}, **data})
        yield made
        for resource, _ in both:
            await made.client.delete(resource, "rich", "default")


def rich(name: str, node: str, noted: Path) -> Obj:
    """A pod with a little of everything; each container notes when it runs."""
    base = {"image": "busybox:latest", "imagePullPolicy": "IfNotPresent"}
    mounts = [
        {"name": "noted", "mountPath": "/noted"},
        {"name": "config", "mountPath": "/config"},
        {"name": "secret", "mountPath": "/secret"},
        {"name": "all", "mountPath": "/all"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "scratch", "mountPath": "/scratch", "subPath": "below"},
    ]

    def stay(note: str, serve: str = "true") -> list[str]:
        return ["sh", "-c", f"{NOTED.format(note)}; trap 'exit 0' TERM; {serve}; while :; do sleep 0.1; done"]

    def run(note: str) -> Obj:
        return {"exec": {"command": ["sh", "-c", NOTED.format(note)]}}

    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 60}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 5,
            "enableServiceLinks": False,
            "initContainers": [
                {**base, "name": "first", "command": ["sh", "-c", NOTED.format("first")], "volumeMounts": mounts},
                {
                    **base,
                    "name": "side",
                    "restartPolicy": "Always",
                    "command": stay("side"),
                    "startupProbe": probe,
                    "lifecycle": {"preStop": run("side-stop")},
                    "volumeMounts": mounts,
                },
            ],
            "containers": [
                {
                    **base,
                    "name": "main",
                    "command": stay("main", "httpd -p 8080 -h /config"),
                    "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "rich", "key": "key"}}}],
                    "readinessProbe": {"httpGet": {"path": "/key", "port": 8080}, "periodSeconds": 1},
                    "livenessProbe": {**probe, "periodSeconds": 30},
                    "lifecycle": {"postStart": run("started"), "preStop": run("stopped")},
                    "volumeMounts": mounts,
                }
            ],
            "volumes": [
                {"name": "noted", "hostPath": {"path": str(noted)}},
                {"name": "config", "configMap": {"name": "rich"}},
                {"name": "secret", "secret": {"secretName": "rich"}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
                {"name": "scratch", "emptyDir": {}},
                {
                    "name": "all",
                    "projected": {
                        "sources": [
                            {"serviceAccountToken": {"path": "token"}},
                            {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                        ]
                    },
                },
            ],
        },
    }


async def live(host: StepHost, name: str, noted: Path, target: int) -> list[str]:
    """One pod's life with an agent that dies at that step of it; the steps that this agent took."""
    _forget(noted)
    await host.arm(target)
    made = uid(await host.client.create(PODS, rich(name, host.host.name, noted)))
    running = await host.until(name, _is_ready)
    assert running is not None
    status = running["status"]
    statuses = [*status["initContainerStatuses"], *status["containerStatuses"]]
    assert {one["name"]: one["restartCount"] for one in statuses} == {"first": 0, "side": 0, "main": 0}
    runs = _runs(noted)
    assert {one: runs.get(one) for one in ("first", "side", "main")} == {"first": 1, "side": 1, "main": 1}, runs
    assert len(containers(host.host, made)) == 4

    await host.client.delete(PODS, name, "default")
    await host.until(name, lambda found: found is None or uid(found) != made)
    await host.nothing_left(made)
    runs = _runs(noted)
    assert runs["main"] == runs["side"] == 1, "nothing was started again to be deleted"
    return host.steps()


def _runs(noted: Path) -> dict[str, int]:
    """How often each of the pod's scripts ran."""
    return {note.name: len(note.read_text().split()) for note in noted.iterdir()}


def _forget(noted: Path) -> None:
    for note in noted.iterdir():
        note.unlink()


def _is_ready(pod: Obj | None) -> bool:
    conditions = ((pod or {}).get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


async def test_killed_at_some_steps_of_a_pods_life_it_comes_to_the_same_end(host: StepHost, noted: Path) -> None:
    steps = await live(host, "whole", noted, 0)
    assert len(steps) >= 40, steps
    for point in range(POINTS):
        await live(host, f"cut-{point}", noted, 1 + point * len(steps) // POINTS)


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_killed_at_every_step_of_a_pods_life_it_comes_to_the_same_end(host: StepHost, noted: Path) -> None:
    steps, began = await live(host, "whole", noted, 0), time.monotonic()
    for point in range(1, len(steps) + 1):
        await live(host, f"each-{point}", noted, point)
    print(f"\nkilled at each of {len(steps)} steps: {(time.monotonic() - began) / len(steps):.1f} s a life")


def test_after_a_power_cut_a_pod_has_everything_again(admin: Kubectl, lab: Lab, noted: Path) -> None:
    """The host comes back without processes, mounts and links: containers run once more, nothing is left at the end."""
    host = lab.hosts[-1]
    _forget(noted)
    for kind in (("configmap",), ("secret", "generic")):
        admin("create", *kind, "rich", "--from-literal=key=value")
    admin("apply", "-f", "-", stdin=json.dumps(rich("cut-off", host.name, noted)))
    admin("wait", "--for=condition=Ready", "pod/cut-off", "--timeout=120s")
    before = admin.json("get", "pod", "cut-off")
    orca("lab", "kill", "--name", LAB, host.name)
    orca("lab", "start", "--name", LAB, host.name)

    def again() -> bool:
        status = admin.json("get", "pod", "cut-off")["status"]
        counts = {one["name"]: one["restartCount"] for one in status["initContainerStatuses"]}
        counts |= {one["name"]: one["restartCount"] for one in status["containerStatuses"]}
        assert counts == {"first": 1, "side": 1, "main": 1}
        return _is_ready({"status": status})

    eventually(again, what="everything has been started again")
    after = admin.json("get", "pod", "cut-off")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert {one: _runs(noted)[one] for one in ("first", "side", "main")} == {"first": 2, "side": 2, "main": 2}
    assert admin("exec", "cut-off", "-c", "main", "--", "cat", "/config/key") == "value"
    admin("delete", "pod", "cut-off", "--timeout=120s")
    eventually(lambda: not left_of(host, after["metadata"]["uid"]), what="nothing is left of it")
    admin("delete", "configmap/rich", "secret/rich")
    wait_for_rules(host)
