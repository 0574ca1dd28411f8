"""Decisions about a pod in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from agents.pods.lifecycle import TRANSITIONS, IllegalMove, Life, move
from agents.pods.memory import (
    CrashBackoff,
    Memory,
    ProbeResults,
    adopted_crash,
    container_hash,
    failed_again,
    raise_crash,
)
from agents.pods.plan import plan
from agents.pods.steps import (
    DeleteObject,
    EnsureImage,
    KillContainer,
    MakeSandbox,
    PrepareVolumes,
    Release,
    Remove,
    StartContainer,
    StopContainer,
    Wire,
)
from tests.unit.pods.build import T0, at, decide, deleting, info, pod, run, spec_container, up

C = spec_container()


def test_a_new_pod_readies_sandbox_volumes_and_image_side_by_side() -> None:
    decided = plan(pod(), Memory(first_seen=T0), T0)
    assert decided.actions == (MakeSandbox(0), PrepareVolumes(), EnsureImage("c"))
    assert decided.life is Life.PREPARING


def test_nothing_is_started_twice_while_it_runs() -> None:
    memory = Memory(first_seen=T0)
    run(memory, MakeSandbox(0), PrepareVolumes(), EnsureImage("c"))
    assert plan(pod(), memory, T0).actions == ()


@pytest.mark.parametrize("missing", ["volumes", "network"])
def test_containers_wait_for_volumes_and_network(missing: str) -> None:
    memory = up(life=Life.PREPARING)
    if missing == "volumes":
        memory.volumes = None
        run(memory, PrepareVolumes())
    else:
        memory.wired = False
        run(memory, Wire())
    assert not [a for a in decide(pod(), memory).actions if isinstance(a, StartContainer)]


def test_containers_start_one_after_the_other() -> None:
    two = pod(C, spec_container("d"))
    memory = up()
    assert decide(two, memory).actions == (StartContainer("c", 0),)
    run(memory, StartContainer("c", 0))
    assert decide(two, memory).actions == ()
    memory.in_flight.clear()
    memory.observe(info(C))
    assert decide(two, memory).actions == (StartContainer("d", 0),)


def test_a_found_sandbox_is_wired_again() -> None:
    memory = Memory(sandbox=info(), volumes={}, first_seen=T0)
    assert Wire() in plan(pod(), memory, T0).actions


def test_a_running_pod_needs_nothing() -> None:
    decided = plan(pod(), up(info(C)), T0)
    assert (decided.actions, decided.wake_at, decided.life) == ((), None, Life.RUNNING)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policy(policy: str, code: int, again: bool) -> None:
    memory = up(info(C, "exited", code=code, finished=5))
    decided = decide(pod(restartPolicy=policy), memory, 6)
    assert (StartContainer("c", 1) in decided.actions) is again
    assert (decided.life is Life.FINISHED) is not again


def test_a_containers_own_restart_rules_come_first() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    container = spec_container(restartPolicy="Never", restartPolicyRules=rules)
    for code, again in ((42, True), (1, False)):
        memory = up(info(container, "exited", code=code, finished=1))
        decided = decide(pod(container), memory, 2)
        assert (StartContainer("c", 1) in decided.actions) is again


def test_ephemeral_containers_run_once_beside_the_others() -> None:
    obj = pod(ephemeralContainers=[spec_container("dbg")])
    memory = up(info(C))
    assert decide(obj, memory).actions == (StartContainer("dbg", 0),)
    memory.observe(info(spec_container("dbg"), "exited", finished=1))
    assert decide(obj, memory, 2).actions == ()


def test_a_crash_loop_waits_from_the_end_of_the_container() -> None:
    memory = up(info(C, "exited", attempt=1, code=1, started=100, finished=105))
    memory.crashes[container_hash(C)] = CrashBackoff(10, at(100))
    waiting = decide(pod(), memory, 106)
    assert waiting.waiting["c"].reason == "CrashLoopBackOff"
    assert waiting.waiting["c"].message == "back-off 10s restarting failed container=c pod=web_ns(u1)"
    assert waiting.wake_at == at(115)
    assert waiting.actions == ()
    assert decide(pod(), memory, 115).actions == (StartContainer("c", 2),)


def test_crash_delays_double_to_five_minutes_and_are_forgotten() -> None:
    delays = []
    backoff = None
    for round_ in range(8):
        backoff = raise_crash(backoff, at(round_), at(round_))
        delays.append(backoff.seconds)
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]
    assert backoff is not None
    assert raise_crash(backoff, at(2000), at(7 + 601)).seconds == 10
    assert raise_crash(backoff, at(2000), at(7 + 600)).seconds == 300, "it ended early, however late it is started"


@pytest.mark.parametrize(("longest", "delays"), [(100, [10, 20, 40, 80, 100, 100]), (2, [2, 2, 2, 2, 2, 2])])
def test_the_node_may_have_a_shorter_longest_delay(longest: float, delays: list[float]) -> None:
    backoff, seen = None, []
    for round_ in range(6):
        backoff = raise_crash(backoff, at(round_), at(round_), last=longest)
        seen.append(backoff.seconds)
    assert seen == delays


def test_an_adopted_crash_loop_goes_on_where_it_was() -> None:
    newest = info(C, "exited", attempt=3, started=0, finished=1)
    assert adopted_crash(newest, at(5)) == CrashBackoff(40, T0)
    assert adopted_crash(newest, at(601)) is None
    assert adopted_crash(info(C, attempt=0), at(1)) is None


def test_why_a_start_failed_is_told_until_one_succeeds() -> None:
    memory = up()
    memory.failures["start:c"] = failed_again(None, "CreateContainerError", "no", T0)
    for seconds, flying in ((0, False), (1, False), (1, True)):
        if flying:
            run(memory, StartContainer("c", 0))
        assert decide(pod(), memory, seconds).waiting["c"].reason == "CreateContainerError"


def test_failures_are_retried_ever_slower() -> None:
    first = failed_again(None, "R", "m", T0)
    second = failed_again(first, "R", "m", T0)
    assert (first.retry_at, second.retry_at) == (at(0.5), at(1))


@pytest.mark.parametrize("probe", ["liveness", "startup"])
def test_a_failed_probe_stops_the_container(probe: str) -> None:
    container = {**C, f"{probe}Probe": {"terminationGracePeriodSeconds": 3}}
    memory = up(info(container))
    memory.probes["c-0"] = ProbeResults(**{probe: False})  # type: ignore[arg-type]
    assert decide(pod(container), memory).actions == (
        StopContainer("c", "c-0", 3, f"Container c failed {probe} probe, will be restarted"),
    )


def test_a_changed_image_makes_a_new_container() -> None:
    newer = {**C, "image": "app:2"}
    assert decide(pod(newer), up(info(C))).actions == (
        StopContainer("c", "c-0", 30, "Container c definition changed, will be restarted"),
    )
    ended = up(info(C, "exited", finished=1))
    assert decide(pod(newer), ended, 2).actions == (StartContainer("c", 1),)


def test_a_container_that_is_not_to_run_again_is_replaced_only_while_it_runs() -> None:
    obj, memory = pod({**C, "image": "app:2"}, SIDE, restartPolicy="Never"), up(info(C), info(SIDE))
    [stop] = decide(obj, memory).actions
    assert isinstance(stop, StopContainer)
    assert stop.replaced
    memory.observe(info(C, "exited", finished=1))
    assert not decide(obj, memory, 2).actions, "it ended by itself"
    memory.sizing.replaced.add("c-0")
    assert decide(obj, memory, 2).actions == (StartContainer("c", 1),)


# Init containers and sidecars

ONE, TWO, SIDE = spec_container("one"), spec_container("two"), spec_container("side", restartPolicy="Always")


def test_init_containers_run_in_order() -> None:
    obj = pod(init=[ONE, TWO])
    memory = up()
    assert decide(obj, memory).actions == (StartContainer("one", 0),)
    memory.observe(info(ONE))
    assert decide(obj, memory).actions == ()
    memory.observe(info(ONE, "exited", finished=1))
    assert decide(obj, memory).actions == (StartContainer("two", 0),)
    memory.observe(info(TWO, "exited", finished=2))
    assert decide(obj, memory).actions == (StartContainer("c", 0),)


def test_init_containers_do_not_run_again_once_main_containers_were_started() -> None:
    memory = up(info(C, "exited", code=1, finished=2))
    assert decide(pod(init=[ONE]), memory, 3).actions == (StartContainer("c", 1),)


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    memory = up(info(ONE, "exited", finished=1, sandbox="gone"), info(C, "exited", finished=2, sandbox="gone"))
    assert decide(pod(init=[ONE]), memory, 3).actions == (StartContainer("one", 1),)


def test_a_sidecar_gates_what_follows_by_its_startup_probe() -> None:
    side = {**SIDE, "startupProbe": {"exec": {}}}
    obj = pod(init=[side, TWO])
    memory = up(info(side))
    assert decide(obj, memory).actions == ()
    memory.probes["side-0"] = ProbeResults(startup=True)
    assert decide(obj, memory).actions == (StartContainer("two", 0),)


def test_a_sidecar_is_restarted_while_the_pod_runs_whatever_its_policy() -> None:
    memory = up(info(SIDE, "exited", finished=1), info(C))
    assert decide(pod(init=[SIDE], restartPolicy="Never"), memory, 2).actions == (StartContainer("side", 1),)


def test_when_the_work_is_done_sidecars_are_stopped_and_the_pod_is_finished() -> None:
    obj = pod(init=[SIDE], restartPolicy="Never")
    memory = up(info(SIDE), info(C, "exited", finished=5))
    decided = decide(obj, memory, 6)
    assert decided.life is Life.STOPPING
    assert [action.key for action in decided.actions] == ["stop:side"]
    memory.life = decided.life
    memory.observe(info(SIDE, "exited", finished=7))
    finished = decide(obj, memory, 8)
    assert finished.life is Life.FINISHED
    assert set(finished.actions) == {Remove("POD-0"), Release(files=False)}


def test_a_failed_init_container_of_a_job_ends_it() -> None:
    memory = up(info(ONE, "exited", code=1, finished=1))
    assert decide(pod(init=[ONE], restartPolicy="Never"), memory, 2).life is Life.FINISHED


# The end


def test_deletion_stops_main_containers_then_sidecars_from_the_last() -> None:
    last = spec_container("last", restartPolicy="Always")
    obj = deleting(pod(init=[SIDE, last]), grace=10)
    memory = up(info(SIDE), info(last), info(C))
    memory.stopping_since = T0
    assert decide(obj, memory).actions == (StopContainer("c", "c-0", 10, ""),)
    memory.life = Life.STOPPING
    memory.observe(info(C, "exited", finished=4))
    assert decide(obj, memory, 4).actions == (StopContainer("last", "last-0", 6, ""),)
    memory.observe(info(last, "exited", finished=11))
    assert decide(obj, memory, 11).actions == (StopContainer("side", "side-0", 2, ""),)


def test_a_deleted_pod_is_released_then_deleted_then_gone() -> None:
    obj = deleting(pod())
    memory = up(info(C, "exited", code=143, finished=1))
    first = decide(obj, memory, 2)
    assert first.life is Life.RELEASING
    assert first.actions == (Release(files=True),)
    memory.life, memory.cleaned = Life.RELEASING, True
    assert decide(obj, memory, 3).actions == (DeleteObject(),)
    memory.deleted = True
    assert set(decide(obj, memory, 4).actions) == {Remove("POD-0"), Remove("c-0")}
    memory.forget("POD-0")
    assert decide(obj, memory, 5).life is Life.RELEASING
    memory.forget("c-0")
    assert decide(obj, memory, 6).life is Life.GONE


def test_containers_go_before_the_pod_is_deleted_when_something_is_in_the_way() -> None:
    memory = up(info(C, "exited", code=143, finished=1), life=Life.RELEASING)
    memory.failures["release"] = failed_again(None, "", "busy", at(2), last=15.0)
    assert set(decide(deleting(pod()), memory, 2).actions) == {Remove("POD-0"), Remove("c-0")}


def test_a_finished_pod_is_released_again_with_its_files() -> None:
    memory = up(info(C, "exited", finished=1), life=Life.FINISHED)
    memory.released = True
    memory.forget("POD-0")
    decided = decide(deleting(pod(restartPolicy="Never")), memory, 2)
    assert Release(files=True) in decided.actions
    assert DeleteObject() not in decided.actions


def test_a_pod_that_is_not_in_the_api_is_taken_down_without_asking_it() -> None:
    memory = up(info(C))
    memory.removed = True
    assert decide(pod(), memory).actions == (StopContainer("c", "c-0", 30, ""),)
    memory = Memory(life=Life.RELEASING, removed=True, cleaned=True, first_seen=T0)
    assert decide(pod(), memory).life is Life.GONE


def test_a_start_under_way_is_waited_for_before_anything_is_released() -> None:
    memory = up()
    run(memory, StartContainer("c", 0))
    decided = decide(deleting(pod()), memory)
    assert (decided.life, decided.actions) == (Life.STOPPING, ())


def test_a_grace_that_was_shortened_kills() -> None:
    memory = up(info(C), life=Life.STOPPING)
    memory.stopping_since = T0
    run(memory, StopContainer("c", "c-0", 600, ""))
    obj = deleting(pod(), grace=1)
    assert decide(obj, memory, 2).wake_at == at(6)
    assert decide(obj, memory, 6).actions == (KillContainer("c-0"),)


def test_a_deadline_dooms_the_pod() -> None:
    obj = pod(activeDeadlineSeconds=60, status={"startTime": "2026-01-01T00:00:00Z"})
    assert decide(obj, up(info(C)), 59).wake_at == at(60)
    decided = decide(obj, up(info(C)), 60)
    assert decided.doom is not None
    assert decided.doom.reason == "DeadlineExceeded"
    assert decided.life is Life.STOPPING


def test_a_sandbox_that_died_takes_its_containers_along() -> None:
    memory = up(info(C))
    memory.sandbox = info(state="exited")
    decided = decide(pod(), memory)
    assert [action.key for action in decided.actions if isinstance(action, StopContainer)] == ["stop:c"]
    assert not [action for action in decided.actions if isinstance(action, MakeSandbox)]
    memory.observe(info(C, "exited", code=137, finished=1))
    assert MakeSandbox(1) in decide(pod(), memory, 2).actions


def test_a_job_that_had_run_is_not_run_again_after_a_reboot() -> None:
    memory = Memory(first_seen=T0, sandbox=info(state="exited"))
    memory.observe(info(C, "exited", code=255, finished=1))
    assert decide(pod(restartPolicy="Never"), memory, 2).life is Life.FINISHED


def test_restart_count_goes_on_from_the_api_when_the_engine_lost_everything() -> None:
    status = {"containerStatuses": [{"name": "c", "restartCount": 4, "containerID": "docker://x"}]}
    assert decide(pod(status=status), up()).actions == (StartContainer("c", 5),)


def test_only_two_attempts_are_kept() -> None:
    attempts = [info(C, "exited", attempt=n, finished=n) for n in range(3)]
    memory = up(*attempts, info(C, attempt=3))
    assert set(decide(pod(), memory, 9).actions) == {Remove("c-1"), Remove("c-0")}


def test_unlisted_moves_are_refused() -> None:
    for old, allowed in TRANSITIONS.items():
        for new in Life:
            if new in allowed or new is old:
                assert move(old, new) is new
            else:
                with pytest.raises(IllegalMove):
                    move(old, new)


def test_every_combination_of_what_is_known_gives_a_listed_move() -> None:
    """No state of the world makes the planner ask for a move the table refuses."""
    states: list[Any] = [None, "running", "exited", "created"]
    for life in [None, *Life]:
        for sandbox in states:
            for state in states:
                for end in (False, True):
                    for policy in ("Always", "Never"):
                        memory = Memory(life=life, first_seen=T0, volumes={}, cleaned=life is Life.GONE)
                        if life in (Life.RELEASING, Life.GONE) and not end:
                            continue  # a deletion is not taken back
                        if sandbox:
                            memory.sandbox = info(state=sandbox)
                        if state:
                            memory.observe(info(C, state, finished=1))
                        obj = pod(restartPolicy=policy)
                        decide(deleting(obj) if end else obj, memory, 2)


def test_containers_of_a_sandbox_that_died_have_their_grace() -> None:
    memory = up(info(C))
    memory.observe(info(state="exited"))
    decided = decide(pod(), memory)
    assert decided.actions == (StopContainer("c", "c-0", 30, ""),)
    run(memory, *decided.actions)
    memory.stop_until["c-0"] = at(30)
    assert decide(pod(), memory, 5).actions == ()
