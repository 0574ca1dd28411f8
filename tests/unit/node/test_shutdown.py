"""What a node does when its host is about to go down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.config import Configuration, override
from agents.config.model import ShutdownGracePeriod
from agents.node.shutdown import (
    CRITICAL,
    GracefulShutdown,
    InhibitorError,
    Period,
    grace_of,
    groups_of,
    periods_of,
)
from agents.pods.ports import Tenant
from orca.api.objects import Obj, uid
from orca.client.clock import VirtualClock


def pod(name: str, priority: int | None = None, grace: int = 30) -> Obj:
    spec: Obj = {"terminationGracePeriodSeconds": grace}
    if priority is not None:
        spec["priority"] = priority
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}


def test_two_periods_of_the_older_fields() -> None:
    both = override(Configuration(), shutdown_grace_period=30.0, shutdown_grace_period_critical_pods=10.0)
    assert periods_of(both) == (Period(0, 20), Period(CRITICAL, 10))
    assert periods_of(Configuration()) == ()


def test_periods_by_priority_go_from_low_to_high() -> None:
    entries = (ShutdownGracePeriod(10000, 20), ShutdownGracePeriod(0, 30))
    configuration = override(Configuration(), shutdown_grace_period_by_pod_priority=entries)
    assert periods_of(configuration) == (Period(0, 30), Period(10000, 20))


def test_every_pod_belongs_to_the_highest_period_at_or_below_its_priority() -> None:
    periods = (Period(100, 1), Period(1000, 2), Period(CRITICAL, 3))
    pods = [pod("none"), pod("low", 100), pod("mid", 999), pod("high", 1000), pod("node", CRITICAL + 1000)]
    groups = [(group.period.seconds, [uid(one) for one in group.pods]) for group in groups_of(periods, pods)]
    assert groups == [(1, ["none", "low", "mid"]), (2, ["high"]), (3, ["node"])]
    assert [group.period.seconds for group in groups_of(periods, pods[:1])] == [1]


def test_a_pod_gets_its_own_grace_when_that_is_shorter() -> None:
    assert grace_of(pod("a", grace=5), Period(0, 20)) == 5
    assert grace_of(pod("a", grace=50), Period(0, 20)) == 20
    assert grace_of({"spec": {}}, Period(0, 20)) == 20


class Host:
    """A made-up host: pods that end when they are told to, and an inhibitor that a test drives."""

    def __init__(self, root: Path, *pods: Obj, slow: Sequence[str] = ()) -> None:
        self.clock = VirtualClock()
        self.pods = list(pods)
        self.slow = slow
        self.log: list[str] = []
        self.signals: asyncio.Queue[bool] = asyncio.Queue()
        self.failures: list[str] = []
        self.shutdown = GracefulShutdown(
            (Period(0, 20), Period(CRITICAL, 10)),
            "n",
            lambda: self,
            root=root,
            clock=self.clock,
            recorder=self,  # type: ignore[arg-type]
            connect=lambda: self,
            changed=lambda: self.log.append(f"node: {self.shutdown.problem() or 'well'}"),
        )

    # the recorder
    def event(self, obj: Obj, kind: str, reason: str, message: str) -> None:
        self.log.append(f"event {reason}")

    # the inhibitor
    async def hold(self, seconds: float) -> None:
        if self.failures:
            raise InhibitorError(self.failures.pop())
        self.log.append(f"hold {seconds:g}")

    async def next(self) -> bool:
        return await self.signals.get()

    async def release(self) -> None:
        self.log.append("release")

    async def close(self) -> None:
        return

    # the pods
    def tenants(self) -> list[Tenant]:
        return [Tenant(one, None, (), {}) for one in self.pods]

    async def evict(self, pod_uid: str, **why: Any) -> bool:
        assert why["reason"] == "Terminated"
        assert why["message"] == why["disruption"] == "Pod was terminated in response to imminent node shutdown."
        self.log.append(f"evict {pod_uid} {why['grace_seconds']}")
        return True

    async def stopped(self, pod_uid: str) -> None:
        await self.clock.sleep(1000 if pod_uid in self.slow else 2)


async def run(host: Host) -> asyncio.Task[None]:
    task = asyncio.create_task(host.shutdown.run())
    await host.clock.settle()
    return task


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noted on disk is there in the same moment: virtual time does not wait for threads."""

    async def done(work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    monkeypatch.setattr(asyncio, "to_thread", done)


async def until(host: Host, true: Callable[[], bool], *, step: float = 0.1) -> None:
    """Move time on until it is so."""
    for _ in range(1000):
        if true():
            return
        await host.clock.advance(step)
    raise AssertionError(host.log)


async def test_pods_end_by_priority_and_then_the_host_may_go(tmp_path: Path) -> None:
    host = Host(tmp_path, pod("app"), pod("short", grace=1), pod("critical", CRITICAL))
    task = await run(host)
    assert host.log == ["hold 30"]
    assert host.shutdown.objection(pod("new")) is None
    host.signals.put_nowait(True)
    await until(host, lambda: "evict short 1" in host.log, step=0.0)
    assert host.log[1:] == ["event NodeShutdown", "node: node is shutting down", "evict app 20", "evict short 1"]
    doom = host.shutdown.objection(pod("new"))
    assert doom is not None
    assert (doom.reason, doom.message) == (
        "NodeShutdown",
        "Pod was rejected: Pod was rejected as the node is shutting down.",
    )
    await until(host, lambda: "release" in host.log)
    assert host.log[5:] == ["evict critical 10", "release"]
    began, ended = host.shutdown.times
    assert 3 < ended - began < 20, "nobody waits for a period that is not needed"
    assert Host(tmp_path).shutdown.times == (began, ended)
    task.cancel()


async def test_who_does_not_end_in_time_is_not_waited_for(tmp_path: Path) -> None:
    host = Host(tmp_path, pod("stuck"), pod("critical", CRITICAL), slow=["stuck"])
    task = await run(host)
    host.signals.put_nowait(True)
    await until(host, lambda: "release" in host.log, step=0.5)
    assert host.log[-2:] == ["evict critical 10", "release"]
    began, ended = host.shutdown.times
    assert ended - began >= 20
    task.cancel()


async def test_a_shutdown_that_is_called_off_lets_pods_in_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    task = await run(host)
    host.signals.put_nowait(True)
    host.signals.put_nowait(False)
    await until(host, lambda: len(host.log) > 1 and host.log[-1] == "hold 30")
    assert host.log[-3:] == ["event NodeShutdown", "node: well", "hold 30"]
    assert host.shutdown.problem() == ""
    task.cancel()


async def test_a_host_that_cannot_be_held_up_is_asked_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.failures = ["no bus"] * 3
    task = await run(host)
    assert host.log == []
    await host.clock.advance(1 + 2 + 4)
    assert host.log == ["hold 30"]
    task.cancel()


@pytest.mark.parametrize("twice", [False, True])
async def test_a_signal_to_the_agent_does_the_same(tmp_path: Path, twice: bool) -> None:
    host = Host(tmp_path, pod("app"))
    host.shutdown.trigger()
    if twice:
        host.shutdown.trigger()
    await until(host, lambda: bool(host.shutdown.times[1]))
    assert host.log == ["event NodeShutdown", "node: node is shutting down", "evict app 20"]
