"""A deleted pod's containers get their signal only after Services have let go of the pod, within bounds."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.pods import stopper
from agents.pods.memory import Memory
from agents.pods.stopper import drain
from orca.client.clock import SystemClock
from tests.unit.pods.build import T0


class Traffic:
    """Lets go of an address when told."""

    def __init__(self, *, used: bool) -> None:
        self.asked: list[str] = []
        self._used = used
        self.free = asyncio.Event()

    async def released(self, ip: str) -> bool:
        self.asked.append(ip)
        if self._used:
            await self.free.wait()
        return self._used


async def _drain(traffic: Traffic | None, **spec: Any) -> float:
    pod = {"metadata": {"name": "p", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec}
    subject = SimpleNamespace(pod=pod, memory=Memory(ips=("10.244.1.7",), first_seen=T0))
    tools = SimpleNamespace(traffic=traffic, clock=SystemClock())
    return await drain(subject, tools, 30)  # type: ignore[arg-type]


async def test_an_address_in_use_is_waited_for() -> None:
    traffic = Traffic(used=True)
    waiting = asyncio.create_task(_drain(traffic))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    traffic.free.set()
    assert await waiting >= stopper.OTHER_HOSTS_SECONDS
    assert traffic.asked == ["10.244.1.7"]


async def test_an_address_nobody_uses_costs_nothing() -> None:
    assert await _drain(Traffic(used=False)) < stopper.OTHER_HOSTS_SECONDS


async def test_the_wait_ends_although_nothing_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopper, "DRAIN_SECONDS", 0.01)
    assert await _drain(Traffic(used=True)) < 1


async def test_a_pod_with_the_hosts_address_is_not_waited_for() -> None:
    traffic = Traffic(used=True)
    assert await _drain(traffic, hostNetwork=True) == 0
    assert traffic.asked == []
