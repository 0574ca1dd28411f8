"""What a pod's status says, and the patches that write it."""

from __future__ import annotations

from typing import Any

import pytest

from agents.pods.lifecycle import Life
from agents.pods.memory import Failure, Memory, ProbeResults
from agents.pods.patch import status_patch
from agents.pods.reporter import is_dull
from agents.pods.status import build_status, lacks_addresses
from agents.pods.steps import Plan, StartContainer, Waiting
from orca.api.objects import Obj
from tests.unit.pods.build import IMAGE, T0, at, decide, deleting, info, pod, spec_container, up

C = spec_container()
INIT = spec_container("i")


def status_of(obj: Obj, memory: Memory, seconds: float = 10, **decided: Any) -> Obj:
    life = decided.pop("life", memory.life or Life.PREPARING)
    return build_status(obj, memory, Plan(life=life, actions=(), **decided), at(seconds), ["192.0.2.1"])


def conditions(status: Obj) -> dict[str, str]:
    return {item["type"]: item["status"] for item in status["conditions"]}


def test_a_pod_being_made() -> None:
    status = status_of(pod(), Memory(first_seen=T0))
    assert status["phase"] == "Pending"
    assert status["startTime"] == "2026-01-01T00:00:00Z"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(status) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    assert is_dull(status)


def test_a_running_pod() -> None:
    memory = up(info(C, started=5))
    memory.image_details[IMAGE.id] = IMAGE
    status = status_of(pod(), memory)
    assert status["phase"] == "Running"
    assert (status["podIP"], status["podIPs"]) == ("10.0.0.9", [{"ip": "10.0.0.9"}])
    assert status["hostIPs"] == [{"ip": "192.0.2.1"}]
    assert status["containerStatuses"] == [
        {
            "name": "c",
            "image": "app:1",
            "imageID": "docker-pullable://app@sha256:bb",
            "containerID": "docker://c-0",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}},
            "lastState": {},
        }
    ]
    assert set(conditions(status).values()) == {"True"}
    assert not is_dull(status)


def test_crash_loop_shows_waiting_and_the_last_state() -> None:
    memory = up(info(C, "exited", attempt=1, code=3, finished=7))
    memory.messages["c-1"] = "last words"
    status = status_of(pod(), memory, waiting={"c": Waiting("CrashLoopBackOff", "back-off")})
    container = status["containerStatuses"][0]
    assert container["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert container["lastState"]["terminated"] == {
        "exitCode": 3,
        "reason": "Error",
        "message": "last words",
        "containerID": "docker://c-1",
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:07Z",
    }
    assert (container["restartCount"], status["phase"]) == (1, "Running")


@pytest.mark.parametrize(
    ("policy", "code", "over", "phase"),
    [
        ("Never", 0, True, "Succeeded"),
        ("Never", 1, True, "Failed"),
        ("OnFailure", 1, False, "Running"),
        ("OnFailure", 0, True, "Succeeded"),
        ("Always", 0, False, "Running"),
    ],
)
def test_phase_of_ended_containers(policy: str, code: int, over: bool, phase: str) -> None:
    memory = up(info(C, "exited", code=code, finished=1), life=Life.FINISHED if over else Life.RUNNING)
    assert status_of(pod(restartPolicy=policy), memory)["phase"] == phase


def test_oom_and_start_errors_have_their_reason() -> None:
    memory = up(info(C, "exited", code=137, finished=1, oom_killed=True))
    assert status_of(pod(), memory)["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"
    memory = up(info(C, "created", error="no such file"))
    state = status_of(pod(), memory)["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"], state["message"]) == (128, "StartError", "no such file")


def test_init_containers_hold_the_pod_pending() -> None:
    memory = up(info(INIT))
    status = status_of(pod(init=[INIT]), memory)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    initialized = next(item for item in status["conditions"] if item["type"] == "Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    memory = up(info(INIT, "exited", finished=1))
    waiting = status_of(pod(init=[INIT]), memory)["containerStatuses"][0]["state"]["waiting"]
    assert waiting == {"reason": "PodInitializing"}, "until it starts, also when all init containers have ended"
    assert initialized["message"] == "containers with incomplete status: [i]"
    memory.observe(info(INIT, "exited", finished=1))
    memory.observe(info(C))
    assert status_of(pod(init=[INIT]), memory)["phase"] == "Running"


def test_a_pod_that_failed_for_an_init_container_says_for_which() -> None:
    obj = pod(C, initContainers=[INIT], restartPolicy="Never")
    status = status_of(obj, up(info(INIT, "exited", code=1)), life=Life.FINISHED)
    (told,) = [item for item in status["conditions"] if item["type"] == "Initialized"]
    assert status["phase"] == "Failed"
    assert (told["status"], told["reason"]) == ("False", "ContainersNotInitialized")
    assert told["message"] == "containers with incomplete status: [i]"


def test_what_waited_for_an_init_container_to_the_end_is_not_lost() -> None:
    """Pods that are deleted meanwhile: upstream tells of loss only what can have been started."""
    second = spec_container("j")
    obj = deleting(pod(C, initContainers=[INIT, second], restartPolicy="Never"))
    failed = status_of(obj, up(info(INIT, "exited", code=1)), life=Life.RELEASING)
    assert [one["state"].keys() for one in failed["initContainerStatuses"]] == [{"terminated"}, {"waiting"}]
    assert failed["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert failed["phase"] == "Failed"
    done = (info(INIT, "exited"), info(second, "exited"))
    assert status_of(obj, up(*done), life=Life.RELEASING)["containerStatuses"][0]["state"].keys() == {"terminated"}


def test_readiness_needs_probe_and_gates() -> None:
    container = spec_container(readinessProbe={"exec": {}})
    memory = up(info(container))
    assert conditions(status_of(pod(container), memory))["Ready"] == "False"
    memory.probes["c-0"] = ProbeResults(readiness=True)
    assert conditions(status_of(pod(container), memory))["Ready"] == "True"
    gated = pod(container, readinessGates=[{"conditionType": "ex/go"}])
    status = status_of(gated, memory)
    assert (conditions(status)["ContainersReady"], conditions(status)["Ready"]) == ("True", "False")
    gated["status"] = {"conditions": [{"type": "ex/go", "status": "True"}]}
    assert conditions(status_of(gated, memory))["Ready"] == "True"


def test_a_pod_that_was_deleted_before_it_ran_is_failed() -> None:
    status = status_of(deleting(pod()), up(), life=Life.RELEASING)
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_containers_that_were_removed_keep_what_was_told() -> None:
    told = {"name": "c", "state": {"terminated": {"exitCode": 0}}, "restartCount": 2, "ready": False}
    obj = deleting(pod(status={"phase": "Succeeded", "containerStatuses": [told]}))
    status = status_of(obj, up(life=Life.RELEASING))
    assert status["containerStatuses"] == [told]
    assert status["phase"] == "Succeeded"


def test_transition_times_stay_while_the_status_does() -> None:
    memory = up(info(C))
    obj = pod()
    obj["status"] = status_of(obj, memory, 10)
    later = status_of(obj, memory, 99)
    assert later == obj["status"]
    assert status_patch(obj, obj["status"], later) is None


def test_patches_hold_only_differences_and_only_own_conditions() -> None:
    obj = pod()
    obj["status"] = status_of(obj, up(info(C)), 10)
    obj["status"]["conditions"].append({"type": "ex/go", "status": "True"})
    wanted = status_of(obj, up(info(C, "exited", finished=20)), 20)
    patch = status_patch(obj, obj["status"], wanted)
    assert patch is not None
    assert patch["metadata"] == {"uid": "u1"}
    assert set(patch["status"]) == {"containerStatuses", "conditions"}
    assert {item["type"] for item in patch["status"]["conditions"]} == {"Ready", "ContainersReady"}


def test_a_condition_that_recovers_loses_its_reason() -> None:
    obj = pod()
    obj["status"] = status_of(obj, Memory(first_seen=T0), 1)
    patch = status_patch(obj, obj["status"], status_of(obj, up(info(C)), 2))
    assert patch is not None
    ready = next(item for item in patch["status"]["conditions"] if item["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("True", None, None)


def test_a_new_address_replaces_the_old_one() -> None:
    patch = status_patch(pod(), {"podIPs": [{"ip": "1.1.1.1"}]}, {"podIPs": [{"ip": "2.2.2.2"}], "phase": "Running"})
    assert patch is not None
    assert patch["status"]["podIPs"] == [{"ip": "2.2.2.2"}, {"$patch": "replace"}]


def test_a_container_is_not_running_before_its_post_start_has_ended() -> None:
    memory = up(info(C))
    memory.hooks.add("c-0")
    (told,) = status_of(pod(), memory)["containerStatuses"]
    assert told["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert (told["started"], told["ready"]) == (False, False)
    memory.hooks.clear()
    (told,) = status_of(pod(), memory)["containerStatuses"]
    assert "running" in told["state"]


def test_a_container_whose_post_start_has_failed_waits_for_its_end() -> None:
    memory = up(info(C))
    memory.failed_hooks["c-0"] = "Exec lifecycle hook ([false]) failed"
    status = status_of(pod(), memory)
    (told,) = status["containerStatuses"]
    assert told["state"] == {
        "waiting": {"reason": "PostStartHookError", "message": "Exec lifecycle hook ([false]) failed"}
    }
    assert (told["started"], told["ready"]) == (False, False)


def test_an_init_container_is_started_while_it_runs() -> None:
    obj = pod(init=[INIT])
    (running,) = status_of(obj, up(info(INIT)))["initContainerStatuses"]
    assert (running["started"], running["ready"]) == (True, False)
    (done,) = status_of(obj, up(info(INIT, "exited")))["initContainerStatuses"]
    assert (done["started"], done["ready"]) == (False, True)


def test_a_container_that_vanished_is_told_of_until_the_next_one_runs() -> None:
    before = {"name": "c", "containerID": "docker://c-1", "restartCount": 1, "state": {"running": {}}}
    obj = pod(status={"phase": "Running", "containerStatuses": [before]})
    (told,) = status_of(obj, up())["containerStatuses"]
    assert told["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert (told["restartCount"], told["state"]) == (1, {"waiting": {"reason": "ContainerCreating"}})
    assert status_of(obj, up())["phase"] == "Running"
    assert decide(obj, up()).actions == (StartContainer("c", 2),)


def test_a_removed_attempt_stays_to_be_told_as_the_last_one() -> None:
    """Restarts of all containers remove those that ended; after a crash of the agent the API knows of them."""
    memory = up(info(C, "exited", code=3))
    memory.forget("c-0")
    memory.observe(info(C, attempt=1, started=9))
    (told,) = status_of(pod(), memory)["containerStatuses"]
    assert (told["restartCount"], told["lastState"]["terminated"]["exitCode"]) == (1, 3)
    before = {"name": "c", "containerID": "docker://c-1", "restartCount": 1, "lastState": told["lastState"]}
    obj = pod(status={"phase": "Running", "containerStatuses": [before | {"state": {"running": {}}}]})
    (again,) = status_of(obj, up(info(C, attempt=1)))["containerStatuses"]
    assert again["lastState"] == told["lastState"]
    ended = {"restartCount": 0, "state": told["lastState"], "lastState": {}}
    obj = pod(status={"phase": "Running", "containerStatuses": [before | ended]})
    (anew,) = status_of(obj, up(info(C, attempt=1)))["containerStatuses"]
    assert anew["lastState"] == told["lastState"]


def test_all_last_words_together_have_their_limit() -> None:
    containers = [spec_container(f"c{number}") for number in range(4)]
    memory = up(*(info(one, "exited") for one in containers))
    memory.messages = {f"c{number}-0": "ä" * 2000 for number in range(4)}
    status = status_of(pod(*containers, restartPolicy="Never"), memory, life=Life.FINISHED)
    sizes = [len(one["state"]["terminated"]["message"].encode()) for one in status["containerStatuses"]]
    assert sizes == [3072] * 4


def test_a_stop_signal_is_told() -> None:
    container = spec_container(lifecycle={"stopSignal": "SIGUSR1"})
    (told,) = status_of(pod(container), up(info(container)))["containerStatuses"]
    assert told["stopSignal"] == "SIGUSR1"


def test_a_sidecar_that_runs_keeps_the_pod_running() -> None:
    sidecar = spec_container("s", restartPolicy="Always")
    obj = pod(C, init=[sidecar], restartPolicy="Never")
    memory = up(info(C, "exited"), info(sidecar), life=Life.STOPPING)
    assert status_of(obj, memory)["phase"] == "Running"


def test_a_container_that_was_made_and_never_started_is_none() -> None:
    """An engine that was killed in between leaves it behind; it is replaced, and nothing has run or was lost."""
    memory = up(info(C, "created"), life=Life.PREPARING)
    (made,) = status_of(pod(), memory)["containerStatuses"]
    assert "containerID" not in made
    obj = pod(status={"phase": "Pending", "containerStatuses": [made]})
    assert StartContainer("c", 0) in decide(obj, memory).actions
    memory.forget("c-0")
    status = status_of(obj, memory)
    assert (status["phase"], status["containerStatuses"]) == ("Pending", [made])
    assert StartContainer("c", 0) in decide(obj, memory).actions


@pytest.mark.parametrize("remembered", [True, False])
def test_a_restart_count_never_falls_when_the_latest_container_was_removed(remembered: bool) -> None:
    """By somebody with the engine's own tools; an agent that comes later only knows what the API was told."""
    first, second = info(C, "exited", code=1, finished=1), info(C, "exited", attempt=1, code=3, started=2, finished=3)
    memory = up(first, second)
    told = status_of(pod(), memory)["containerStatuses"]
    assert (told[0]["restartCount"], told[0]["containerID"]) == (1, "docker://c-1")
    obj = pod(status={"phase": "Running", "containerStatuses": told})
    if remembered:
        memory.forget("c-1")
    else:
        memory = up(first)
    (after,) = status_of(obj, memory)["containerStatuses"]
    assert after["restartCount"] == 1
    assert after["lastState"]["terminated"]["containerID"] == "docker://c-1"
    assert StartContainer("c", 2) in decide(obj, memory, 400).actions
    memory.observe(info(C, attempt=2, started=5))
    (again,) = status_of(obj, memory)["containerStatuses"]
    assert again["restartCount"] == 2
    assert again["lastState"]["terminated"]["containerID"] == "docker://c-1"


def test_a_pod_that_runs_is_told_of_with_its_addresses() -> None:
    """A new agent that adopts one of which the agent before it had told nothing attaches it again first."""
    memory = up(info(C))
    assert not lacks_addresses(memory)
    memory.ips, memory.wired = (), False
    assert lacks_addresses(memory)
    memory.observe(info(C, "exited", finished=1))
    assert lacks_addresses(memory), "nor of how they ended"
    memory.failures["network"] = Failure("", "no room", at(5), 1)
    assert not lacks_addresses(memory), "they may never come"
    assert not lacks_addresses(Memory(life=Life.PREPARING, sandbox=info())), "nothing runs yet"


@pytest.mark.parametrize("adopted", [False, True], ids=["by this agent", "by the agent before"])
def test_attempts_that_somebody_removed_are_told_of_by_the_newest(adopted: bool) -> None:
    """As `docker container prune` does with a pod that waits for its next restart."""
    first, second = (info(C, "exited", attempt=number, code=number, finished=number) for number in (1, 2))
    obj, memory = pod(C), up(first, second)
    waiting = {"c": Waiting("CrashLoopBackOff", "")}
    obj["status"] = status_of(obj, memory, waiting=waiting)
    if adopted:
        memory = up(first)
    for gone in ([] if adopted else [second]) + [first]:
        memory.forget(gone.id)
        [told] = status_of(obj, memory, waiting=waiting)["containerStatuses"]
        assert (told["restartCount"], told["lastState"]["terminated"]["exitCode"]) == (2, 2)
    assert decide(obj, memory).actions == (StartContainer("c", 3),)
    memory.observe(info(C, attempt=3))
    [told] = status_of(obj, memory)["containerStatuses"]
    assert (told["restartCount"], told["lastState"]["terminated"]["exitCode"]) == (3, 2)


def test_an_answer_that_comes_late_does_not_bring_an_ended_container_back() -> None:
    memory = up(info(C, started=1), info(C, "exited", started=1, finished=2))
    memory.observe(info(C, started=1))
    assert "terminated" in status_of(pod(C), memory)["containerStatuses"][0]["state"]
    memory.observe(info(C, started=3))
    assert "running" in status_of(pod(C), memory)["containerStatuses"][0]["state"], "started by somebody else"


def test_no_container_is_told_to_be_the_one_before_itself() -> None:
    """When its wait for the next restart is cut short, and the one before it was removed while no agent ran."""
    second = info(C, "exited", attempt=2, code=2, finished=2)
    obj = pod(C)
    obj["status"] = status_of(obj, up(second), waiting={"c": Waiting("CrashLoopBackOff", "")})
    assert obj["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 2
    [told] = status_of(obj, up(second))["containerStatuses"]
    assert (told["state"]["terminated"]["exitCode"], told["lastState"]) == (2, {})
