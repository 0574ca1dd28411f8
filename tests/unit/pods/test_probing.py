"""What is known of probed containers when an agent finds them running."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.pods.containers import is_ready, is_started
from agents.pods.memory import Memory
from agents.pods.probing import Probing
from agents.probes.outcome import Outcome
from agents.probes.tally import Tally
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from tests.unit.pods.build import deleting, info, pod, spec_container, up

PROBED = spec_container(startupProbe={"exec": {}}, readinessProbe={"exec": {}})


class Unasked:
    """Handlers that count how often something was asked."""

    def __init__(self) -> None:
        self.tries = 0

    async def run(self, *_: Any) -> Outcome:
        self.tries += 1
        return Outcome(False, unknown=True)


def probing(obj: Obj, memory: Memory) -> tuple[Probing, Unasked]:
    asked = Unasked()
    tools: Any = SimpleNamespace(clock=VirtualClock(), handlers=asked, tally=Tally())
    subject: Any = SimpleNamespace(pod=obj, memory=memory, changed=lambda: None, tell=lambda *_, **__: None)
    return Probing(subject, tools), asked


@pytest.mark.parametrize("told", [True, False])
async def test_what_the_api_was_told_of_a_deleted_pod_stays_so_for_an_agent_that_starts(told: bool) -> None:
    status = {"containerStatuses": [{"name": "c", "containerID": "docker://c-0", "started": told, "ready": told}]}
    memory = up(info(PROBED))
    room, asked = probing(deleting(pod(PROBED, status=status)), memory)
    room.begin()
    assert is_started(PROBED, info(PROBED), memory) is told
    assert is_ready(PROBED, info(PROBED), memory) is told
    await asyncio.sleep(0)
    assert asked.tries == 0, "it is not probed anew"


async def test_what_was_told_of_another_container_says_nothing() -> None:
    status = {"containerStatuses": [{"name": "c", "containerID": "docker://c-9", "started": True, "ready": True}]}
    memory = up(info(PROBED))
    room, _ = probing(deleting(pod(PROBED, status=status)), memory)
    room.begin()
    assert not is_started(PROBED, info(PROBED), memory)
