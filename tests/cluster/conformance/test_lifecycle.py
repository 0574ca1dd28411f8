"""What happens in a pod's life and in which order: init containers, sidecars, restarts, hooks, probes and the end.

All pods start at once; each case then waits for its own.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pytest

from orca.api.objects import Obj
from orca.api.times import parse_time
from orca.lab.layout import Lab
from tests.cluster.conformance.history import (
    History,
    condition,
    container_of,
    phase,
    ready,
    recorded,
    restarted,
)
from tests.cluster.conformance.lifecycle_pods import PODS, pod
from tests.cluster.conformance.runs import WAIT, apply
from tests.cluster.podset import container
from tests.support.kubectl import Kubectl, eventually


@dataclass
class Here:
    kubectl: Kubectl
    seen: History


@pytest.fixture(scope="module")
def here(admin: Kubectl, lab: Lab) -> Iterator[Here]:
    """All pods of this module, and what happens to them from their first moment on."""
    with recorded(admin, f"conformance-lifecycle-{os.getpid()}") as (kubectl, seen):
        apply(kubectl, *PODS)
        names = [one["metadata"]["name"] for one in PODS]
        # So many at once take a while; the patience of each case begins when all have begun.
        with suppress(AssertionError):  # each case tells for itself that its pod did not
            eventually(lambda: all(any(map(begun, seen.of.get(name, ()))) for name in names), seconds=WAIT, every=0.5)
        yield Here(kubectl, seen)


def begun(pod: Obj) -> bool:
    """A container of it runs or ran."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return any({"running", "terminated"} & {*one["state"], *one.get("lastState", {})} for one in containers)


def delete(here: Here, name: str, *argv: str) -> None:
    here.kubectl("delete", "pod", name, "--wait=false", *argv)


def ended(state: Obj) -> Obj:
    found: Obj = state["state"].get("terminated") or {}
    return found


def lasted(end: Obj) -> float:
    return (parse_time(end["finishedAt"]) - parse_time(end["startedAt"])).total_seconds()


def events(here: Here, name: str, reason: str) -> list[str]:
    found = here.kubectl.items("events", f"--field-selector=involvedObject.name={name},reason={reason}")
    return [event["message"] for event in found]


# Restarts


@pytest.mark.parametrize(
    ("name", "wanted", "count", "state"),
    [
        ("always", "Running", 2, "running"),
        ("on-failure", "Succeeded", 1, "terminated"),
        ("never", "Failed", 0, "terminated"),
    ],
)
def test_restart_policies_lead_to_their_states(here: Here, name: str, wanted: str, count: int, state: str) -> None:
    def there(pod: Obj) -> bool:
        one = container_of(pod)
        return pod["status"].get("phase") == wanted and one["restartCount"] == count and state in one["state"]

    found = here.seen.when(name, there)
    assert container_of(found)["ready"] is (name == "always")
    delete(here, name)
    here.seen.was_gone(name)


def test_rules_of_a_container_come_before_the_pods_policy(here: Here) -> None:
    for name in ("rule-matches", "container-always"):
        here.seen.when(name, restarted(1))
    for name in ("rule-does-not", "container-never"):
        found = here.seen.when(name, phase("Failed"))
        assert container_of(found)["restartCount"] == 0


@pytest.mark.parametrize(
    ("name", "containers"),
    [
        ("all-anew", ("init", "side", "source", "other")),
        ("all-anew-by-init", ("side", "init", "source")),
        ("all-anew-by-sidecar", ("init", "side", "source", "other")),
    ],
)
def test_one_containers_end_starts_all_anew(here: Here, name: str, containers: tuple[str, ...]) -> None:
    def anew(pod: Obj) -> bool:
        of = [container_of(pod, one) for one in containers]
        return all(one["restartCount"] == 1 and one["lastState"].get("terminated") for one in of)

    here.seen.when(name, anew)
    found = here.seen.when(name, lambda pod: anew(pod) and "running" in container_of(pod, "other")["state"])
    assert found["status"]["phase"] == "Running"


# Init containers


def test_init_containers_run_once_and_in_order(here: Here) -> None:
    done = here.seen.when("init-then-end", phase("Succeeded"))
    stays = here.seen.when("init-then-stay", ready)
    assert condition(done, "Initialized")["status"] == condition(stays, "Initialized")["status"] == "True"
    for found in (done, stays):
        first, second = (ended(container_of(found, name)) for name in ("init1", "init2"))
        assert (first["exitCode"], second["exitCode"]) == (0, 0)
        assert first["finishedAt"] <= second["startedAt"]
        for name in ("init1", "init2"):
            assert container_of(found, name)["ready"] is True
            assert container_of(found, name)["restartCount"] == 0
    waiting = {
        (container_of(seen, name)["state"].get("waiting") or {}).get("reason")
        for seen in here.seen.of["init-then-end"]
        for name in ("init1", "init2", "c")
    }
    assert waiting <= {None, "PodInitializing"}


def test_a_failed_init_container_holds_the_pod_back_and_is_tried_again(here: Here) -> None:
    found = here.seen.when("init-fails-always", restarted(2, "init1"))
    assert found["status"]["phase"] == "Pending"
    told = condition(found, "Initialized")
    wanted = ("False", "ContainersNotInitialized", "containers with incomplete status: [init1 init2]")
    assert (told["status"], told["reason"], told["message"]) == wanted
    for seen in here.seen.of["init-fails-always"]:
        for name in ("init2", "c"):
            state = container_of(seen, name)["state"]
            assert not state or state["waiting"]["reason"] == "PodInitializing", (name, state)


def test_a_failed_init_container_ends_a_pod_that_is_not_restarted(here: Here) -> None:
    found = here.seen.when("init-fails-never", phase("Failed"))
    told = condition(found, "Initialized")
    wanted = ("False", "ContainersNotInitialized", "containers with incomplete status: [init2]")
    assert (told["status"], told["reason"], told["message"]) == wanted
    assert container_of(found)["state"]["waiting"]["reason"] == "PodInitializing"


def test_sidecars_start_before_what_follows_and_end_with_the_pod(here: Here) -> None:
    found = here.seen.when("side-before-init", phase("Succeeded"))
    began = next(
        state["state"]["running"]["startedAt"]
        for seen in here.seen.of["side-before-init"]
        if "running" in (state := container_of(seen, "side"))["state"]
    )
    waited = parse_time(ended(container_of(found, "init"))["startedAt"]) - parse_time(began)
    assert waited.total_seconds() >= 2, "the startup probe holds the next one back"
    assert ended(container_of(found, "side"))["finishedAt"] >= ended(container_of(found))["finishedAt"]
    again = here.seen.when("side-restarts", restarted(1, "side"))
    assert again["status"]["phase"] in ("Running", "Pending")
    here.seen.when("side-unready", lambda pod: "running" in container_of(pod)["state"])
    assert not any(ready(seen) for seen in here.seen.of["side-unready"])


# Probes


def test_readiness_waits_for_its_delay(here: Here) -> None:
    found = here.seen.when("readiness-delayed", ready)
    began = parse_time(container_of(found)["state"]["running"]["startedAt"])
    became = parse_time(condition(found, "Ready")["lastTransitionTime"])
    assert (became - began).total_seconds() >= 5
    assert container_of(found)["restartCount"] == 0


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("liveness-file", "c"),
        ("liveness-http", "c"),
        ("liveness-too-slow", "c"),
        ("liveness-leaves-a-child", "c"),
        ("liveness-redirected-here", "c"),
        ("liveness-no-grpc", "c"),
        ("startup-fails", "c"),
        ("startup-then-liveness", "c"),
        ("side-liveness", "side"),
        ("side-startup-fails", "side"),
    ],
)
def test_failed_probes_restart_the_container(here: Here, name: str, of: str) -> None:
    here.seen.when(name, restarted(1, of))
    counts = [container_of(seen, of)["restartCount"] for seen in here.seen.of[name]]
    assert counts == sorted(counts)


@pytest.mark.parametrize("name", ["liveness-has-its-grace", "startup-has-its-grace"])
def test_a_probe_has_a_grace_of_its_own(here: Here, name: str) -> None:
    found = here.seen.when(name, restarted(1))
    end = container_of(found)["lastState"]["terminated"]
    assert end["exitCode"] == 137
    assert 2 <= lasted(end) <= 300


def test_ready_at_once_when_startup_is_over(here: Here) -> None:
    started = here.seen.when("startup-then-ready-at-once", lambda pod: container_of(pod).get("started"))
    found = here.seen.when("startup-then-ready-at-once", ready)
    assert parse_time(condition(found, "Ready")["lastTransitionTime"])
    assert container_of(started)["started"] is True


# The end


def test_a_pod_that_ends_is_unready_and_asked_for_life_no_more(here: Here) -> None:
    here.seen.when("ends-unready", ready)
    delete(here, "ends-unready")
    found = here.seen.when("ends-unready", lambda pod: pod["metadata"].get("deletionTimestamp") and not ready(pod))
    assert "running" in container_of(found)["state"]
    here.kubectl("exec", "ends-unready", "--", "touch", "/tmp/end")
    last = here.seen.was_gone("ends-unready")
    assert ended(container_of(last)).get("exitCode") == 0, "its own end, no kill"
    assert not [text for text in events(here, "ends-unready", "Unhealthy") if "Liveness" in text]


@pytest.mark.parametrize(
    ("name", "argv", "low", "high"),
    [("hook-sleeps", (), 5, 100), ("hook-sleeps-too-long", ("--grace-period=5",), 5, 100)],
)
def test_a_stop_waits_for_its_hook_as_long_as_it_may(
    here: Here, name: str, argv: tuple[str, ...], low: int, high: int
) -> None:
    here.seen.when(name, ready)
    delete(here, name, *argv)
    found = here.seen.when(name, lambda pod: ended(container_of(pod)))
    grace = found["metadata"]["deletionGracePeriodSeconds"]
    took = parse_time(ended(container_of(found))["finishedAt"]) - parse_time(found["metadata"]["deletionTimestamp"])
    assert low <= took.total_seconds() + grace <= high
    assert found["status"]["phase"] in ("Failed", "Running", "Succeeded")


def test_a_hook_that_sleeps_for_no_time_or_is_too_late_takes_none(here: Here) -> None:
    here.seen.when("hook-sleeps-not", ready)
    delete(here, "hook-sleeps-not")
    here.seen.was_gone("hook-sleeps-not")
    found = here.seen.when("hook-of-an-ended", phase("Succeeded"))
    assert lasted(ended(container_of(found))) < 400
    delete(here, "hook-of-an-ended")
    here.seen.was_gone("hook-of-an-ended")


def test_hooks_run_in_the_container(here: Here) -> None:
    here.seen.when("hook-starts", ready)
    eventually(lambda: here.kubectl("logs", "hook-starts").split() == ["started"], what="the hook at the start")
    delete(here, "hook-starts")
    eventually(lambda: "stopping" in here.kubectl("logs", "hook-starts"), every=0.1, what="the hook at the end")
    here.kubectl("exec", "hook-starts", "--", "touch", "/tmp/end")
    found = here.seen.when("hook-fails", restarted(1))
    assert container_of(found)["lastState"]["terminated"]["exitCode"] in (0, 137, 143)
    eventually(lambda: events(here, "hook-fails", "FailedPostStartHook"), what="the event of the hook")


@pytest.mark.parametrize(
    ("name", "code", "reason", "last"),
    [
        ("stop-signal", 7, "Error", "Failed"),
        ("deaf", 137, "Error", "Failed"),
        ("ends-well", 0, "Completed", "Succeeded"),
    ],
)
def test_the_end_is_told_before_the_pod_goes(here: Here, name: str, code: int, reason: str, last: str) -> None:
    """A finalizer keeps the object."""
    here.seen.when(name, ready)
    delete(here, name)
    found = here.seen.when(name, lambda pod: ended(container_of(pod)))
    assert (ended(container_of(found))["exitCode"], ended(container_of(found))["reason"]) == (code, reason)
    over = here.seen.when(name, phase(last))
    assert over["metadata"]["deletionTimestamp"]


def test_what_always_fails_can_be_deleted(here: Here) -> None:
    found = here.seen.when("always-fails", restarted(1))
    assert container_of(found)["lastState"]["terminated"]["reason"] == "Error"
    delete(here, "always-fails")
    here.seen.was_gone("always-fails")


# What is changed while it runs


def test_a_deadline_given_later_holds(here: Here) -> None:
    here.seen.when("deadline-later", ready)
    here.kubectl("patch", "pod", "deadline-later", "--type=merge", "-p", '{"spec": {"activeDeadlineSeconds": 5}}')
    found = here.seen.when("deadline-later", phase("Failed"))
    assert found["status"]["reason"] == "DeadlineExceeded"


def test_gates_hold_readiness(here: Here) -> None:
    def gate(number: int, status: str) -> None:
        conditions = [{"type": f"example.com/{number}", "status": status}]
        patch = json.dumps({"status": {"conditions": conditions}})
        here.kubectl("patch", "pod", "gated", "--subresource=status", "-p", patch)

    found = here.seen.when("gated", lambda pod: condition(pod, "ContainersReady").get("status") == "True")
    assert condition(found, "Ready")["reason"] == "ReadinessGatesNotReady"
    gate(1, "True")
    time.sleep(0.5)
    assert not any(ready(seen) for seen in here.seen.of["gated"])
    gate(2, "True")
    here.seen.when("gated", ready)
    gate(1, "False")
    eventually(lambda: not ready(here.seen.last("gated")), what="not ready any more")


def test_ephemeral_containers_join_a_running_pod(here: Here) -> None:
    here.seen.when("debugged", ready)
    one = {
        "name": "debugger",
        "image": "busybox:latest",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "echo $WHO; ps; sleep 1000"],
        "env": [{"name": "WHO", "value": "polo"}],
        "targetContainerName": "c",
    }
    patch = json.dumps({"spec": {"ephemeralContainers": [one]}})
    here.kubectl("patch", "pod", "debugged", "--subresource=ephemeralcontainers", "-p", patch)
    here.seen.when("debugged", lambda pod: "running" in container_of(pod, "debugger")["state"])

    def said() -> bool:
        logs = here.kubectl("logs", "debugged", "-c", "debugger")
        assert "polo" in logs, logs
        assert "trap exit TERM" in logs, logs
        return True

    eventually(said, what="what the debugger prints")
    assert "debugged" in here.kubectl("exec", "debugged", "-c", "debugger", "--", "hostname")
    refused = here.kubectl.try_(
        "patch",
        "pod",
        "debugged",
        "--subresource=ephemeralcontainers",
        "-p",
        json.dumps({"spec": {"ephemeralContainers": [{**one, "command": ["x"]}]}}),
    )
    assert refused.code == 1
    delete(here, "debugged")
    here.seen.was_gone("debugged")


# What holds for every pod that ends early, whenever that is


@pytest.mark.parametrize("init", [False, True], ids=["container", "init-container"])
def test_pods_deleted_at_any_moment_never_tell_what_is_not_so(here: Here, init: bool) -> None:
    """Containers that fail, in pods that are deleted after any time: no success, no way back, no start behind a
    failed init container."""
    rng = random.Random(int(os.environ.get("ORCA_FUZZ_SEED", "1")))
    failing = container(name="fail", command=["/bin/false"])
    made = [
        pod(
            f"fast-{int(init)}-{n}",
            *((container(name="blocked"),) if init else (failing,)),
            init=(failing,) if init else (),
        )
        for n in range(12)
    ]

    def live(one: Obj, delay: float) -> None:
        apply(here.kubectl, one)
        time.sleep(delay)
        here.kubectl("delete", "pod", one["metadata"]["name"], "--wait=false")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, made, [rng.random() * 2 for _ in made]))
    for one in made:
        name = one["metadata"]["name"]
        last = here.seen.was_gone(name)
        terminal = had_end = False
        for seen in here.seen.of[name]:
            status = container_of(seen, "fail")
            end = ended(status)
            blocked = container_of(seen, "blocked")["state"] if init else {}
            assert not blocked or "waiting" in blocked, (name, blocked)
            assert end or not had_end, f"{name} had ended and then had not"
            had_end = had_end or bool(end)
            if end:
                lost = end["reason"] == "ContainerStatusUnknown"
                killed = end["exitCode"] == 137 and (lost or end["reason"] == "Error")
                assert end["exitCode"] == 1 or killed, (name, end)
                assert lost or end.get("startedAt"), (name, end)
            over = seen["status"].get("phase") in ("Failed", "Succeeded")
            assert over or not terminal, f"{name} was over and then was not"
            terminal = terminal or over
        assert "running" not in container_of(last, "fail")["state"], name
        assert terminal or last["status"].get("phase") == "Pending", (name, last["status"])


# What must never have happened by now


def test_what_is_well_was_never_restarted(here: Here) -> None:
    """Last, so that the probes had time to do wrong."""
    for name in ("liveness-well", "liveness-tcp", "liveness-redirected-away", "startup-holds-liveness"):
        last = here.seen.when(name, lambda pod: "running" in container_of(pod)["state"])
        began = parse_time(container_of(last)["state"]["running"]["startedAt"])
        assert began
        assert container_of(here.seen.last(name))["restartCount"] == 0, name
    for name in ("readiness-fails", "readiness-too-slow", "startup-holds-liveness"):
        assert not any(ready(seen) for seen in here.seen.of[name]), name
        assert container_of(here.seen.last(name))["restartCount"] == 0, name
    text = 'Probe terminated redirects, Response body: <a href="http://0.0.0.0/">Found</a>.'
    eventually(
        lambda: any(text in told for told in events(here, "liveness-redirected-away", "ProbeWarning")),
        what="the warning of the probe",
    )
