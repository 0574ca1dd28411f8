"""Hooks that fail or hang: what is told, and how the container is ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.pods.hooks import Hooks
from agents.pods.memory import Memory
from agents.pods.observer import Observer
from agents.pods.starter import Starter
from agents.pods.steps import KillContainer, PreStop, StopContainer
from agents.pods.stopper import Stopper
from agents.probes.outcome import Outcome
from agents.probes.tracker import Kind
from agents.runtime.errors import EngineUnavailable
from orca.client.clock import SystemClock
from tests.support.patience import PATIENCE
from tests.unit.pods.build import at, decide, deleting, info, pod, spec_container, up

HOOKED = spec_container("c", lifecycle={kind: {"exec": {"command": ["x"]}} for kind in ("postStart", "preStop")})
SIDECAR = spec_container("s", restartPolicy="Always", lifecycle={"preStop": {"sleep": {"seconds": 5}}})


class Hands:
    """On an engine that is not there; ``answer`` is what every hook comes to, None for one that hangs."""

    def __init__(self, memory: Memory, answer: Outcome | None) -> None:
        self.told: list[tuple[str, str]] = []
        self.stopped: list[float] = []
        self.hanging = asyncio.Event()
        self.away: Exception | None = None
        """What the engine answers instead of a state."""
        self._answer = answer
        obj = pod(HOOKED, terminationGracePeriodSeconds=20)
        subject: Any = SimpleNamespace(pod=obj, memory=memory, tell=self._tell, changed=lambda: None)
        tools: Any = SimpleNamespace(
            traffic=None,
            clock=SystemClock(),
            handlers=SimpleNamespace(run_hook=self._run),
            runtime=SimpleNamespace(inspect=self._inspect, stop=self._stop, kill=self._kill),
        )
        observer, hooks = Observer(subject, tools), Hooks(subject, tools)
        self.hooks = hooks
        self.starter = Starter(subject, tools, observer, hooks)
        self.stopper = Stopper(subject, tools, observer, hooks, self._nothing)

    def _tell(self, reason: str, message: str, **_: Any) -> None:
        self.told.append((reason, message))

    async def _run(self, *_: Any) -> Outcome:
        if self._answer is None:
            self.hanging.set()
            await asyncio.Event().wait()
        assert self._answer is not None
        return self._answer

    async def _inspect(self, _: str) -> Any:
        if self.away is not None:
            raise self.away
        return info(HOOKED)

    async def _stop(self, _: str, grace: float, **__: Any) -> None:
        self.stopped.append(grace)

    async def _kill(self, _: str) -> None:
        return None

    async def _nothing(self, container_id: str, *kinds: Kind) -> None:
        return None


@pytest.fixture(autouse=True)
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: Any) -> None:
        return None

    monkeypatch.setattr(Observer, "look", look)


async def test_failing_hooks_are_told_without_what_they_printed() -> None:
    memory = up()
    hands = Hands(memory, Outcome(False, "my password"))
    await hands.starter.after_start(HOOKED, "c-0")
    (stop,) = decide(pod(HOOKED, terminationGracePeriodSeconds=20), memory).actions
    assert stop == StopContainer("c", "c-0", 20, "FailedPostStartHook")
    await hands.stopper.stop(stop)
    assert hands.told == [
        ("FailedPostStartHook", "PostStartHook failed"),
        ("Killing", "FailedPostStartHook"),
        ("FailedPreStopHook", "PreStopHook failed"),
    ]
    assert hands.stopped == [pytest.approx(20, abs=1)], "the pod's own grace period"


async def test_a_post_start_that_hangs_holds_no_deletion_back() -> None:
    memory = up()
    hands = Hands(memory, None)
    starting = asyncio.create_task(hands.starter.after_start(HOOKED, "c-0"))
    await hands.hanging.wait()
    memory.in_flight["start:c"] = at(0)
    (stop,) = decide(deleting(pod(HOOKED)), memory, 1).actions
    assert isinstance(stop, StopContainer)
    hands._answer = Outcome(True)
    await hands.stopper.stop(stop)
    await asyncio.wait_for(starting, PATIENCE)
    assert memory.hooks == set()
    assert ("FailedPostStartHook", "PostStartHook failed") not in hands.told
    assert len(hands.stopped) == 1


async def test_a_container_that_was_not_seen_after_its_start_is_not_taken_for_a_whole_one() -> None:
    """The engine went away between the start and the hook: the container that is found later begins anew."""
    memory = up()
    hands = Hands(memory, Outcome(True))
    hands.away = EngineUnavailable("engine is away")
    with pytest.raises(EngineUnavailable):
        await hands.starter.after_start(HOOKED, "c-0")
    memory.observe(info(HOOKED))
    (stop,) = decide(pod(HOOKED), memory).actions
    assert stop == StopContainer("c", "c-0", 30, "FailedPostStartHook")


async def test_a_kill_does_not_wait_for_a_pre_stop() -> None:
    memory = up(info(HOOKED))
    hands = Hands(memory, None)
    stopping = asyncio.create_task(hands.stopper.stop(StopContainer("c", "c-0", 3600, "")))
    await hands.hanging.wait()
    assert hands.hooks.busy("c-0")
    await hands.stopper.kill("c-0")
    await asyncio.wait_for(stopping, PATIENCE)
    assert hands.stopped == [0], "no time is left to it"
    assert ("FailedPreStopHook", "PreStopHook failed") not in hands.told
    assert "c-0" in memory.pre_stopped, "it does not run again, should the rest have failed"


@pytest.mark.parametrize("gone", [False, True])
async def test_hooks_of_a_container_that_ended_by_itself_are_given_up(gone: bool) -> None:
    memory = up()
    hands = Hands(memory, None)
    starting = asyncio.create_task(hands.starter.after_start(HOOKED, "c-0"))
    await hands.hanging.wait()
    hands.hooks.give_up_the_dead()
    await asyncio.sleep(0)
    assert not starting.done()
    if gone:
        memory.forget("c-0")
    else:
        memory.observe(info(HOOKED, "exited", finished=1))
    hands.hooks.give_up_the_dead()
    await asyncio.wait_for(starting, PATIENCE)
    assert (memory.hooks, memory.failed_hooks) == (set(), {})


def test_sidecars_hear_of_the_end_at_once_and_go_last() -> None:
    obj = deleting(pod(spec_container(), init=[SIDECAR]), 30)
    memory = up(info(spec_container()), info(SIDECAR))
    decided = decide(obj, memory)
    assert set(decided.actions) == {StopContainer("c", "c-0", 30, ""), PreStop("s", "s-0", 30)}

    memory.stopping_since = at(0)
    memory.observe(info(spec_container(), "exited", finished=1))
    memory.in_flight["prestop:s-0"] = at(0)
    assert decide(obj, memory, 1).actions == (), "its hook is still running"

    del memory.in_flight["prestop:s-0"]
    memory.pre_stopped.add("s-0")
    assert decide(obj, memory, 5).actions == (StopContainer("s", "s-0", 25, "", hook=False),)


def test_a_sidecar_that_is_alone_runs_its_hook_with_its_stop() -> None:
    memory = up(info(SIDECAR), info(spec_container(), "exited"))
    assert decide(deleting(pod(init=[SIDECAR])), memory).actions == (StopContainer("s", "s-0", 30, ""),)


def test_a_grace_period_that_was_shortened_needs_no_patience() -> None:
    obj = pod()
    memory = up(info(spec_container()))
    memory.stopping_since = at(0)
    memory.in_flight["stop:c"], memory.stop_until["c-0"] = at(0), at(300)
    assert decide(deleting(obj, 1), memory, 2).actions == (KillContainer("c-0"),)
    memory.stop_until["c-0"] = at(1)
    assert decide(deleting(obj, 1), memory, 2).actions == (), "the engine is about to kill it itself"
