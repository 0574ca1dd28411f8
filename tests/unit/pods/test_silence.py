"""Containers that the engine does not tell of: asked again until it does."""

from __future__ import annotations

import asyncio
from typing import Any

from agents.pods.silence import ASK_SECONDS, Silence
from agents.runtime.errors import EngineTimeout, NoSuchContainer
from agents.runtime.model import ContainerInfo
from orca.client.clock import VirtualClock
from tests.unit.pods.build import info, spec_container


class Engine:
    """Tells of what it is not silent about."""

    def __init__(self, *containers: ContainerInfo) -> None:
        self.containers = {one.id: one for one in containers}
        self.silent: set[str] = set()
        self.asked = 0

    async def inspect(self, container_id: str, *, seconds: float) -> ContainerInfo:
        self.asked += 1
        if container_id in self.silent:
            raise EngineTimeout(container_id)
        if container_id not in self.containers:
            raise NoSuchContainer(container_id)
        return self.containers[container_id]


async def test_a_pod_is_handed_over_when_all_is_known_of_it() -> None:
    clock, engine = VirtualClock(), Engine(info(), info(spec_container()))
    engine.silent = {"c-0", "gone-0"}
    heard: list[tuple[str, set[str]]] = []

    async def hear(pod_uid: str, containers: list[ContainerInfo]) -> None:
        heard.append((pod_uid, {one.id for one in containers}))

    runtime: Any = engine
    silence = Silence(runtime, clock, hear)
    running = asyncio.create_task(silence.run())
    await clock.advance(60)
    assert engine.asked == 0, "nothing is asked while nothing is silent"

    silence.note({"c-0": "u1", "gone-0": "u1"})
    silence.keep(info())
    assert "u1" in silence
    assert silence.pods == {"u1"}
    await clock.advance(3 * ASK_SECONDS)
    assert heard == []

    engine.silent = set()
    await clock.advance(2 * ASK_SECONDS)
    assert heard == [("u1", {"POD-0", "c-0"})], "what is gone is left out"
    assert "u1" not in silence
    running.cancel()
