"""Parts of the agent that fail."""

from __future__ import annotations

from agents.node.supervise import Supervisor
from orca.client.clock import VirtualClock


async def test_a_part_that_fails_starts_again_and_the_others_go_on() -> None:
    clock = VirtualClock()
    parts = Supervisor(clock)
    starts: list[float] = []
    beats: list[float] = []

    async def broken() -> None:
        starts.append(clock.monotonic())
        raise RuntimeError("on purpose")

    async def steady() -> None:
        while True:
            beats.append(clock.monotonic())
            await clock.sleep(1)

    parts.add("broken", broken)
    parts.add("steady", steady)
    await clock.advance(10)
    assert starts == [0, 0.5, 1.5, 3.5, 7.5]
    assert len(beats) == 11
    await parts.stop()
    assert len(beats) == 11
