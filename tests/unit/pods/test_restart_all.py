"""A container whose end makes all of the pod's start anew, in place."""

from __future__ import annotations

from typing import Any

from agents.pods.containers import restarts_all
from agents.pods.lifecycle import Life
from agents.pods.memory import CrashBackoff, Memory, container_hash
from agents.pods.plan import plan
from agents.pods.status import build_status
from agents.pods.steps import KillContainer, Remove, StartContainer
from orca.api.objects import Obj
from tests.unit.pods.build import T0, at, decide, info, pod, spec_container, up

ALL: Obj = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
SETUP = spec_container("setup")
WATCHER = spec_container("watcher", restartPolicy="Always", restartPolicyRules=[ALL])
MAIN = spec_container("main")


def job(**more: Any) -> Obj:
    return pod(MAIN, init=[SETUP, WATCHER], restartPolicy="Never", **more)


def asked() -> Memory:
    return up(info(SETUP, "exited"), info(WATCHER, "exited", code=42, finished=5), info(MAIN))


def test_everything_goes_and_who_asked_goes_last() -> None:
    memory = asked()
    decided = decide(job(), memory, 6)
    assert set(decided.actions) == {Remove("setup-0"), KillContainer("main-0")}
    assert decided.life is Life.RUNNING

    memory.forget("setup-0")
    memory.observe(info(MAIN, "exited", code=137, finished=6))
    assert decide(job(), memory, 6).actions == (Remove("main-0"),)
    memory.forget("main-0")
    assert decide(job(), memory, 6).actions == (Remove("watcher-0"),)
    memory.forget("watcher-0")
    assert not restarts_all(job(), memory)
    assert decide(job(), memory, 6).actions == (StartContainer("setup", 1),), "from the first init container on"


def test_another_end_of_the_same_container_asks_for_nothing() -> None:
    memory = up(info(SETUP, "exited"), info(WATCHER, "exited", code=1, finished=5), info(MAIN))
    assert decide(job(), memory, 6).actions == (StartContainer("watcher", 1),)


def test_a_job_is_not_over_when_its_last_container_asks_for_another_round() -> None:
    last = spec_container("c", restartPolicy="Never", restartPolicyRules=[ALL])
    memory = up(info(last, "exited", code=42))
    decided = plan(pod(last, restartPolicy="Never"), memory, T0)
    assert (decided.life, decided.actions) == (Life.RUNNING, (Remove("c-0"),))


def test_rounds_that_fail_at_once_come_ever_slower() -> None:
    memory = up(info(WATCHER, "exited", code=42, attempt=1, finished=5))
    memory.crashes[container_hash(WATCHER)] = CrashBackoff(10, at(4))
    decided = decide(job(), memory, 6)
    assert decided.actions == ()
    assert decided.waiting["watcher"].reason == "CrashLoopBackOff"
    assert decided.wake_at == at(15)


def test_status_tells_of_the_restart_and_stays_initialized() -> None:
    memory, before = asked(), {"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}]}
    obj = job(status=before)
    told = build_status(obj, memory, decide(obj, memory, 6), at(6), ("192.0.2.1",))
    kinds = {item["type"]: item for item in told["conditions"]}
    assert kinds["AllContainersRestarting"]["status"] == "True"
    assert kinds["AllContainersRestarting"]["reason"] == "RestartAllContainersStarted"

    memory.observe(info(MAIN, "exited", code=137, finished=6))
    for gone in ("setup-0", "main-0", "watcher-0"):
        memory.forget(gone)
    told = build_status(obj, memory, decide(obj, memory, 7), at(7), ("192.0.2.1",))
    kinds = {item["type"]: item["status"] for item in told["conditions"]}
    assert (kinds["AllContainersRestarting"], kinds["Initialized"]) == ("False", "True")
    assert told["phase"] == "Running"
    (main,) = told["containerStatuses"]
    assert main["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert main["lastState"]["terminated"]["exitCode"] == 137
