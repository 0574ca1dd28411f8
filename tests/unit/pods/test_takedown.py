"""How sidecars end: in their turn, however late it comes, and whatever holds them."""

from __future__ import annotations

from datetime import timedelta

from agents.pods.lifecycle import Life
from agents.pods.memory import Memory
from agents.pods.steps import KillContainer, PrepareVolumes, Release, StartContainer, StopContainer
from tests.unit.pods.build import at, decide, deleting, info, pod, run, spec_container, up

C = spec_container()
FIRST, LAST = (spec_container(name, restartPolicy="Always") for name in ("first", "last"))
BOTH = pod(init=[FIRST, LAST])


def ending(*containers: object, since: float = 0) -> Memory:
    memory = up(*containers, life=Life.STOPPING)  # type: ignore[arg-type]
    memory.stopping_since = at(since)
    return memory


def stop(memory: Memory, name: str, begun: float, until: float) -> None:
    memory.in_flight[f"stop:{name}"] = at(begun)
    memory.stop_until[f"{name}-0"] = at(until)


def test_a_grace_that_was_shortened_reaches_a_sidecar_that_is_being_stopped() -> None:
    memory = ending(info(FIRST))
    stop(memory, "first", begun=0, until=3600)
    assert decide(deleting(BOTH, 3600), memory, 5).actions == ()
    assert decide(deleting(BOTH, 1), memory, 5).actions == (KillContainer("first-0"),)


def test_a_post_start_that_hangs_does_not_hold_a_sidecar() -> None:
    hooked = {**FIRST, "lifecycle": {"postStart": {"sleep": {"seconds": 3600}}}}
    memory = ending(info(hooked))
    run(memory, StartContainer("first", 0))
    obj = deleting(pod(init=[hooked]))
    assert decide(obj, memory).actions == (), "it is being started"
    memory.hooks.add("first-0")
    assert decide(obj, memory).actions == (StopContainer("first", "first-0", 30, ""),)


def test_once_the_grace_is_over_no_sidecar_waits_for_another_one() -> None:
    memory = ending(info(FIRST), info(LAST), info(C))
    stop(memory, "c", begun=0, until=30)
    obj = deleting(BOTH)
    waiting = decide(obj, memory, 29)
    assert (waiting.actions, waiting.wake_at) == ((), at(30))
    assert set(decide(obj, memory, 31).actions) == {
        StopContainer("first", "first-0", 2, ""),
        StopContainer("last", "last-0", 2, ""),
    }


def test_a_sidecar_whose_turn_comes_late_has_its_moment_all_the_same() -> None:
    memory = ending(info(FIRST))
    obj = deleting(BOTH)
    (begun,) = decide(obj, memory, 40).actions
    assert begun == StopContainer("first", "first-0", 2, "")
    stop(memory, "first", begun=40, until=42)
    assert decide(obj, memory, 41).actions == ()
    assert decide(obj, memory, 47).actions == (KillContainer("first-0"),), "its stop hangs"


def test_an_earlier_sidecar_that_is_being_restarted_holds_nobody() -> None:
    memory = ending(info(LAST))
    run(memory, StartContainer("first", 1))
    assert decide(deleting(BOTH), memory).actions == (StopContainer("last", "last-0", 30, ""),)


def test_nothing_is_taken_away_while_something_is_still_being_mounted() -> None:
    for obj in (deleting(pod()), pod(activeDeadlineSeconds=1)):
        memory = up(info(C, "exited", finished=1), life=Life.STOPPING)
        memory.first_seen = at(0) - timedelta(seconds=5)
        run(memory, PrepareVolumes())
        assert not [one for one in decide(obj, memory, 2).actions if isinstance(one, Release)]
        memory.in_flight.clear()
        assert [one for one in decide(obj, memory, 2).actions if isinstance(one, Release)]
