"""An engine that hangs over some containers: their pods wait, and nothing else does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.pods import gate, silence
from agents.runtime import runtime
from orca.api.builtin import PODS
from tests.cluster.podhost import PodHost, pod, shell
from tests.support.stalling import StallingProxy, stalling_proxy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

STUCK = 5
"""More than the agent lets the engine do at once."""
ENDS = shell("trap 'exit 0' TERM; while :; do sleep 0.1; done")


@pytest.fixture
async def proxy(host: PodHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StallingProxy]:
    """The host's agent, which is less patient here, speaks to its engine through this."""
    monkeypatch.setattr(runtime, "SURVEY_SECONDS", 2.0)
    monkeypatch.setattr(silence, "ASK_SECONDS", 1.0)
    monkeypatch.setattr(gate, "PATIENCE_SECONDS", 2.0)
    await host.stop_agent()
    async with stalling_proxy(tmp_path, host.engine.socket) as made:
        host.socket = made.socket
        await host.start_agent()
        yield made
        await host.stop_agent()


async def _lives(host: PodHost, name: str) -> None:
    """A pod comes and goes, while others hang that would do so for ever."""
    await host.create(pod(name, container={**ENDS, "readinessProbe": {"exec": {"command": ["true"]}}}))
    await host.running(name)
    await host.delete(name)


async def test_starts_that_hang_hold_no_other_pod_up(host: PodHost, proxy: StallingProxy) -> None:
    proxy.stalls = lambda method, path: method == "POST" and "k8s_c_stuck" in path
    for number in range(STUCK):
        await host.create(pod(f"stuck-{number}"))
    await host.until("stuck-0", lambda _: len(proxy.stalled) >= 4)
    await _lives(host, "fine")
    # Also those do not wait for each other.
    await host.until("stuck-0", lambda _: len(proxy.stalled) == STUCK)


async def test_ends_that_hang_hold_no_other_pod_up_nor_does_an_agent_that_comes_then(
    host: PodHost, proxy: StallingProxy
) -> None:
    await host.create(pod("kept", container=ENDS))
    for number in range(STUCK):
        await host.create(pod(f"stuck-{number}", container=ENDS))
    made = [await host.running(f"stuck-{number}") for number in range(STUCK)]
    kept = await host.running("kept")
    stuck = {one["metadata"]["uid"] for one in made}
    ids = {info.id for info in await host.runtime.inspect_all() if info.pod_uid in stuck and not info.is_sandbox}
    proxy.stalls = lambda _, path: any(one in path for one in ids)
    for number in range(STUCK):
        await host.client.delete(PODS, f"stuck-{number}", "default")
    await host.until("kept", lambda _: len(proxy.stalled) >= STUCK)
    await _lives(host, "fine")

    await host.stop_agent()
    proxy.stalled.clear()
    await host.start_agent()
    await _lives(host, "later")
    # It asked, and was not told.
    await host.until("kept", lambda _: len(proxy.stalled) >= STUCK)
    there = host.engine.docker("ps", "-aq", "--no-trunc").split()
    assert ids <= set(there), "of what nobody knows nothing is touched"
    assert (await host.running("kept"))["status"]["containerStatuses"] == kept["status"]["containerStatuses"]

    proxy.stalls = lambda *_: False
    await asyncio.gather(*(host.gone(one) for one in made))
    await host.delete("kept")
