"""Hooks that fail: what is told, and how the container is ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.pods.actions import Actions
from agents.pods.memory import Memory
from agents.probes.handlers import Outcome
from orca.client.clock import SystemClock
from tests.unit.pods.build import T0, info, pod, spec_container

HOOKED = spec_container("c", lifecycle={kind: {"exec": {"command": ["x"]}} for kind in ("postStart", "preStop")})


async def test_failing_hooks_are_told_without_what_they_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    graces: list[float] = []

    def tell(reason: str, message: str, **_: Any) -> None:
        told.append((reason, message))

    async def run(*_: Any) -> Outcome:
        return Outcome(False, "my password")

    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(Actions, "look", nothing)

    async def inspect(_: str) -> Any:
        return info(HOOKED)

    async def stop(_: str, grace: float) -> None:
        graces.append(grace)

    obj = pod(containers=[HOOKED], terminationGracePeriodSeconds=20)
    subject = SimpleNamespace(pod=obj, memory=Memory(first_seen=T0), tell=tell, changed=lambda: None)
    tools = SimpleNamespace(
        traffic=None,
        clock=SystemClock(),
        handlers=SimpleNamespace(run=run),
        runtime=SimpleNamespace(inspect=inspect, stop=stop),
    )
    actions = Actions(subject, tools, lambda _: asyncio.sleep(0))  # type: ignore[arg-type]
    await actions._after_start(HOOKED, "c-0")
    assert told == [
        ("FailedPostStartHook", "PostStartHook failed"),
        ("Killing", "FailedPostStartHook"),
        ("FailedPreStopHook", "PreStopHook failed"),
    ]
    assert graces == [pytest.approx(20, abs=1)], "the pod's own grace period"
