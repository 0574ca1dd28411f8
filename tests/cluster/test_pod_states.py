"""Every state and reason a container and a pod can be in, produced for real and seen with kubectl."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orca.lab import host as hosts
from orca.lab.layout import Lab
from orca.lab.services import AGENT
from tests.cluster import workloads
from tests.cluster.conformance.history import watching
from tests.support.agents import wait_for_next_agent
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("alone_on_lab")
Pod = dict[str, Any]
ONE: dict[str, Any] = {"restartPolicy": "Never"}
SECONDS = 2 * PATIENCE


def pod(name: str, script: str = "sleep 3600", *, first: Pod | None = None, **spec: Any) -> Pod:
    """A busybox pod; ``first`` changes its container, ``spec`` the rest."""
    container = {"name": "c", **_base(script), **(first or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def _base(script: str) -> Pod:
    return {"image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}


def init(script: str, **more: Any) -> list[Pod]:
    return [{"name": "i", **_base(script), **more}]


def rule(action: str, code: int) -> Pod:
    """What a container's own rules want of an end with this code."""
    rules = [{"action": action, "exitCodes": {"operator": "In", "values": [code]}}]
    return {"restartPolicy": "Never", "restartPolicyRules": rules}


SCRATCH: Pod = {"volumes": [{"name": "data", "emptyDir": {}}]}
MOUNT: Pod = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
ONCE = "echo . >> /data/{0}; test $(wc -l < /data/{0}) -gt 1 || exit {1}"

PODS: dict[str, tuple[Pod, set[tuple[str, str]]]] = {
    "creating": (
        pod("creating", volumes=[{"name": "v", "configMap": {"name": "absent"}}]),
        {("waiting", "ContainerCreating")},
    ),
    "initializing": (pod("initializing", initContainers=init("sleep 3600")), {("waiting", "PodInitializing")}),
    "crashing": (
        pod("crashing", "echo gone wrong > /dev/termination-log; exit 3"),
        {("waiting", "CrashLoopBackOff"), ("lastState.terminated", "Error")},
    ),
    "pulling": (
        pod("pulling", first={"image": "127.0.0.1:1/none:1"}),
        {("waiting", "ErrImagePull"), ("waiting", "ImagePullBackOff")},
    ),
    "absent": (
        pod("absent", first={"image": "busybox:absent", "imagePullPolicy": "Never"}),
        {("waiting", "ErrImageNeverPull")},
    ),
    "misnamed": (pod("misnamed", first={"image": "Bad/Name"}), {("waiting", "InvalidImageName")}),
    "unset": (
        pod("unset", first={"envFrom": [{"configMapRef": {"name": "absent"}}]}),
        {("waiting", "CreateContainerConfigError")},
    ),
    "uncreated": (pod("uncreated", first={"workingDir": "relative"}), {("waiting", "CreateContainerError")}),
    "unrun": (
        pod("unrun", first={"command": ["/no/such/program"]}),
        {("waiting", "RunContainerError"), ("lastState.terminated", "StartError")},
    ),
    "oom": (
        pod("oom", "tail /dev/zero", first={"resources": {"limits": {"memory": "16Mi"}}}, **ONE),
        {("terminated", "OOMKilled")},
    ),
    "failing": (pod("failing", "exit 3", **ONE), {("terminated", "Error"), ("phase", "Failed")}),
    "done": (pod("done", "exit 0", **ONE), {("terminated", "Completed"), ("phase", "Succeeded")}),
    "late": (
        pod("late", "trap 'exit 4' TERM; while :; do sleep 0.1; done"),
        {("phase", "Failed"), ("reason", "DeadlineExceeded"), ("terminated", "Error")},
    ),
    "greedy": (
        pod(
            "greedy",
            "dd if=/dev/zero of=/data/f bs=1M count=5; sleep 3600",
            first=MOUNT,
            volumes=[{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}],
        ),
        {("phase", "Failed"), ("reason", "Evicted")},
    ),
    "forbidden": (
        pod("forbidden", securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}),
        {("phase", "Failed"), ("reason", "SysctlForbidden")},
    ),
    "retried": (
        pod("retried", ONCE.format("c", 7), first={**MOUNT, **rule("Restart", 7)}, **ONE, **SCRATCH),
        {("terminated", "Completed"), ("phase", "Succeeded"), ("restarts", "1")},
    ),
    "renewed": (
        pod(
            "renewed",
            ONCE.format("c", 42) + "; sleep 3600",
            first={**MOUNT, **rule("RestartAllContainers", 42)},
            initContainers=init("echo . >> /data/i", **MOUNT),
            **ONE,
            **SCRATCH,
        ),
        {("running", ""), ("restarts", "1"), ("init restarts", "1"), ("AllContainersRestarting", "False")},
    ),
    "unhealthy": (
        pod(
            "unhealthy",
            first={"livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}},
        ),
        {("restarts", "1"), ("lastState.terminated", "Error")},
    ),
    "signalled": (
        pod(
            "signalled",
            "trap 'exit 7' USR1; touch /live; while :; do sleep 0.1; done",
            first={
                "lifecycle": {"stopSignal": "SIGUSR1"},
                "startupProbe": {
                    "exec": {"command": ["test", "-e", "/live"]},
                    "periodSeconds": 1,
                    "timeoutSeconds": 60,
                    "failureThreshold": 600,
                },
                "livenessProbe": {
                    "exec": {"command": ["false"]},
                    "periodSeconds": 1,
                    "failureThreshold": 1,
                    "terminationGracePeriodSeconds": 30,
                },
            },
            os={"name": "linux"},
        ),
        {("lastState.terminated", "Error"), ("last exit", "7")},
    ),
    "hooked": (
        pod(
            "hooked",
            first={"lifecycle": {kind: {"exec": {"command": ["false"]}} for kind in ("postStart", "preStop")}},
        ),
        {("waiting", "CrashLoopBackOff"), ("lastState.terminated", "Error")},
    ),
}

EVENTS = {
    "creating": {("Warning", "FailedMount", 'configmap "absent" not found')},
    "crashing": {("Warning", "BackOff", "Back-off restarting failed container c in pod crashing_")},
    "pulling": {
        ("Normal", "Pulling", 'Pulling image "127.0.0.1:1/none:1"'),
        ("Warning", "Failed", "Error: ErrImagePull"),
        ("Normal", "BackOff", 'Back-off pulling image "127.0.0.1:1/none:1"'),
        ("Warning", "Failed", "Error: ImagePullBackOff"),
    },
    "absent": {("Warning", "ErrImageNeverPull", "is not present with pull policy of Never")},
    "misnamed": {("Warning", "InspectFailed", 'Failed to apply default image tag "Bad/Name"')},
    "unset": {("Warning", "Failed", 'Error: configmap "absent" not found')},
    "unrun": {("Warning", "Failed", "Error: ")},
    "done": {("Normal", "Created", "Container created"), ("Normal", "Started", "Container started")},
    "late": {
        ("Normal", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"),
        ("Normal", "Killing", "Stopping container c"),
    },
    "greedy": {("Warning", "Evicted", 'Usage of EmptyDir volume "data" exceeds the limit "1Mi".')},
    "forbidden": {("Warning", "SysctlForbidden", "forbidden sysctl")},
    "unhealthy": {
        ("Warning", "Unhealthy", "Liveness probe failed: "),
        ("Normal", "Killing", "Container c failed liveness probe, will be restarted"),
    },
    "hooked": {
        ("Warning", "FailedPostStartHook", "PostStartHook failed"),
        ("Normal", "Killing", "FailedPostStartHook"),
        ("Warning", "FailedPreStopHook", "PreStopHook failed"),
    },
}
SHOWN = {
    "creating": "ContainerCreating",
    "initializing": "Init:0/1",
    "absent": "ErrImageNeverPull",
    "misnamed": "InvalidImageName",
    "unset": "CreateContainerConfigError",
    "oom": "OOMKilled",
    "failing": "Error",
    "done": "Completed",
    "late": "Error",
    "forbidden": "SysctlForbidden",
    "renewed": "Running",
}
"""What `kubectl get pods` has in its column STATUS."""


@pytest.fixture(scope="module")
def seen(admin: Kubectl) -> Iterator[tuple[Kubectl, dict[str, set[tuple[str, str]]]]]:
    """All pods side by side, and everything that was seen of each until all was there that should be."""
    kubectl = admin.within(f"states-{os.getpid()}")
    admin("create", "namespace", kubectl.namespace)
    eventually(lambda: kubectl.try_("get", "serviceaccount", "default").code == 0, what="the default service account")
    found: dict[str, set[tuple[str, str]]] = {name: set() for name in PODS}
    with watching(kubectl) as history:  # what lasts a moment only is seen, too
        kubectl("apply", "-f", "-", stdin=workloads.text(*(made for made, _ in PODS.values())))
        # From now on, as it runs: a machine that is slow may not have come to start it in any time one names before.
        history.when("late", lambda one: _states(one) == {"running"})
        kubectl("patch", "pod", "late", "--type=merge", "-p", '{"spec": {"activeDeadlineSeconds": 1}}')
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and any(wanted - found[name] for name, (_, wanted) in PODS.items()):
            for name, told in found.items():
                for one in list(history.of.get(name, ())):
                    told |= facts(one)
            time.sleep(0.2)
    yield kubectl, found
    admin("delete", "namespace", kubectl.namespace, "--wait=false")


def _states(obj: Pod) -> set[str]:
    """Kinds of states its containers are in."""
    return {kind for one in (obj.get("status") or {}).get("containerStatuses") or () for kind in one["state"]}


def facts(obj: Pod) -> set[tuple[str, str]]:
    """What a pod's status says, in short."""
    status = obj.get("status") or {}
    told = {("phase", status.get("phase", "")), ("reason", status.get("reason", ""))}
    told |= {(item["type"], item["status"]) for item in status.get("conditions") or ()}
    for item in status.get("containerStatuses") or ():
        told.add(("restarts", str(item["restartCount"])))
        told |= {(kind, state.get("reason", "")) for kind, state in item["state"].items()}
        told |= {("last exit", str(state.get("exitCode", ""))) for state in item.get("lastState", {}).values()}
        told |= {(f"lastState.{kind}", state.get("reason", "")) for kind, state in item.get("lastState", {}).items()}
    for item in status.get("initContainerStatuses") or ():
        told.add(("init restarts", str(item["restartCount"])))
    return told


@pytest.mark.parametrize("name", PODS)
def test_each_state_is_seen(seen: tuple[Kubectl, dict[str, set[tuple[str, str]]]], name: str) -> None:
    assert PODS[name][1] <= seen[1][name]


@pytest.mark.parametrize("name", EVENTS)
def test_each_state_is_told_in_events(seen: tuple[Kubectl, Any], name: str) -> None:
    def told() -> bool:
        events = seen[0].items("events", f"--field-selector=involvedObject.name={name}")
        lines = [(event["type"], event["reason"], event["message"]) for event in events]
        for kind, reason, text in EVENTS[name]:
            assert [one for one in lines if one[:2] == (kind, reason) and text in one[2]], (kind, reason, text, lines)
        return True

    eventually(told, what="the events")


def test_the_states_are_what_people_see(seen: tuple[Kubectl, Any]) -> None:
    def shown() -> bool:
        rows = {line.split()[0]: line.split()[2] for line in seen[0]("get", "pods", "--no-headers").splitlines()}
        assert {name: rows[name] for name in SHOWN} == SHOWN
        return True

    eventually(shown, what="the column STATUS")


def test_a_container_that_vanished_is_of_unknown_state(kubectl: Kubectl, lab: Lab) -> None:
    """Its pod is deleted while agent and container are gone; a finalizer keeps the object, so that its end is seen."""
    lost = pod("lost")
    lost["metadata"]["finalizers"] = ["test.orca/kept"]
    kubectl("apply", "-f", "-", stdin=workloads.text(lost))
    kubectl("wait", "--for=condition=Ready", "pod/lost", "--timeout=120s")
    made = kubectl.json("get", "pod", "lost")
    host = lab.host(made["spec"]["nodeName"])
    agent = hosts.service_pid(host, AGENT)
    os.kill(agent, signal.SIGSTOP)
    try:
        identifier = made["status"]["containerStatuses"][0]["containerID"].removeprefix("docker://")
        hosts.call(host, "docker", "rm", "-f", identifier)
        kubectl("delete", "pod", "lost", "--wait=false")
    finally:
        hosts.kill_service(host, AGENT)
    try:
        ended = eventually(lambda: _terminated(kubectl, "lost"), what="the end of the container")
        assert (ended["reason"], ended["exitCode"]) == ("ContainerStatusUnknown", 137)
        assert ended["message"] == "The container could not be located when the pod was terminated"
        assert kubectl.json("get", "pod", "lost")["status"]["phase"] == "Failed"
    finally:
        kubectl("patch", "pod", "lost", "--type=json", '-p=[{"op": "remove", "path": "/metadata/finalizers"}]')
    kubectl("wait", "--for=delete", "pod/lost", "--timeout=120s")
    wait_for_next_agent(host, agent)


def _terminated(kubectl: Kubectl, name: str) -> Pod | None:
    (status,) = kubectl.json("get", "pod", name)["status"]["containerStatuses"]
    found: Pod | None = status["state"].get("terminated")
    return found
