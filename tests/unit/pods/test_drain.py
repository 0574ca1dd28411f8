"""A deleted pod's containers get their signal only after Services have let go of the pod, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from agents.pods.memory import Memory
from agents.pods.stopper import DRAIN_SECONDS, IN_FLIGHT_SECONDS, drain
from orca.client.clock import VirtualClock
from tests.unit.pods.build import T0


class Traffic:
    """Lets go of addresses after ``takes`` seconds, and never keeps anybody longer than was asked for."""

    def __init__(self, takes: float) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.clock = VirtualClock()
        self._takes = takes

    async def released(self, ips: Sequence[str], seconds: float) -> bool:
        self.asked.append(tuple(ips))
        await self.clock.sleep(min(self._takes, seconds))
        return self._takes <= seconds


async def _drain(traffic: Traffic, grace: float = 30, **spec: Any) -> float:
    pod = {"metadata": {"name": "p", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec}
    subject = SimpleNamespace(pod=pod, memory=Memory(ips=("10.244.1.7", "fd00::7"), first_seen=T0))
    tools = SimpleNamespace(traffic=traffic, clock=traffic.clock)
    draining = asyncio.create_task(drain(subject, tools, grace))  # type: ignore[arg-type]
    await traffic.clock.settle()
    while not draining.done():
        await traffic.clock.advance(0.05)
    return await draining


async def test_all_addresses_of_the_pod_are_waited_for_and_what_is_on_its_way() -> None:
    traffic = Traffic(takes=0.3)
    assert await _drain(traffic) == pytest.approx(0.3 + IN_FLIGHT_SECONDS, abs=0.01)
    assert traffic.asked == [("10.244.1.7", "fd00::7")]


@pytest.mark.parametrize(("grace", "longest"), [(30, DRAIN_SECONDS), (600, DRAIN_SECONDS), (4, 2), (1, 0.5)])
async def test_the_wait_ends_although_nothing_lets_go(grace: float, longest: float) -> None:
    assert await _drain(Traffic(takes=1000), grace) == pytest.approx(longest, abs=0.01)


async def test_a_pod_with_the_hosts_address_is_not_waited_for() -> None:
    traffic = Traffic(takes=1)
    assert await _drain(traffic, hostNetwork=True) == 0
    assert traffic.asked == []
