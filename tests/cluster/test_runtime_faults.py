"""Pods when the engine or the host fails under them, on real engines."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial

import pytest

from orca.api.objects import Obj
from tests.cluster.podhost import PodHost, container, ended, pod, ready, shell

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def test_containers_outlive_an_engine_that_is_killed(host: PodHost) -> None:
    await host.create(pod("kept"))
    before = container((await host.running("kept"))["status"])
    host.engine.kill()
    await host.create(pod("new"))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(host.engine.start)
    await host.running("new")
    assert container((await host.running("kept"))["status"]) == before
    await host.delete("kept")
    await host.delete("new")


async def test_what_died_while_the_engine_was_away_is_noticed(host: PodHost) -> None:
    await host.create(pod("died"))
    await host.running("died")
    info = next(item for item in await host.runtime.inspect_all() if item.container == "c")
    host.engine.kill()
    os.kill(info.pid, signal.SIGKILL)
    await asyncio.to_thread(host.engine.start)
    await host.until("died", lambda s: container(s)["restartCount"] == 1 and ready(s, "Ready"))
    await host.delete("died")


async def test_after_a_reboot_everything_is_started_again(host: PodHost) -> None:
    await host.create(pod("back"))
    await host.create(pod("job", restartPolicy="Never"))
    address = (await host.running("back"))["status"]["podIP"]
    await host.running("job")
    await host.stop_agent()
    host.engine.power_off()
    await asyncio.to_thread(host.engine.start)
    await host.start_agent()
    status = (await host.until("back", lambda s: container(s)["restartCount"] == 1 and ready(s, "Ready")))["status"]
    assert status["podIP"] == address
    await host.until("job", lambda s: s["phase"] == "Failed")
    await host.delete("back")
    await host.delete("job")


async def test_an_engine_that_takes_its_containers_with_it_gets_them_again(host: PodHost) -> None:
    """Without live-restore every start of the engine ends what ran; what had ended for good stays so."""
    await host.create(pod("again", container=shell("trap 'exit 0' TERM; while :; do sleep 0.1; done")))
    await host.create(pod("over", restartPolicy="Never", container={"command": ["true"]}))
    address = (await host.running("again"))["status"]["podIP"]
    over = container((await host.until("over", lambda s: s["phase"] == "Succeeded"))["status"])
    try:
        for end in (host.engine.kill, host.engine.terminate):
            restarts = container((await host.running("again"))["status"])["restartCount"]
            await asyncio.to_thread(end)
            await asyncio.to_thread(host.engine.start, "--live-restore=false")
            await host.until("again", partial(_ran_again, restarts + 1))
            assert (await host.running("again"))["status"]["podIP"] == address
        assert container((await host.until("over", lambda s: s["phase"] == "Succeeded"))["status"]) == over
        await host.delete("again")
        await host.delete("over")
    finally:
        host.engine.kill()
        await asyncio.to_thread(host.engine.start)


def _ran_again(times: int, status: Obj) -> bool:
    return bool(container(status)["restartCount"] == times) and ready(status, "Ready")


async def test_an_eviction_survives_the_agent(host: PodHost) -> None:
    """It is decided, the agent dies while the pod still has its grace period, and the next one carries it through."""
    await host.create(pod("evicted", container=shell("trap '' TERM; sleep 3600"), terminationGracePeriodSeconds=600))
    made = await host.running("evicted")
    assert host.manager is not None
    assert await host.manager.evict(
        made["metadata"]["uid"],
        reason="Evicted",
        message="The node was low on resource: memory.",
        grace_seconds=12,  # long enough for the agent to die within it on any machine
        event="The node was low on resource: memory.",
        disruption="The node was low on resource: memory.",
    )
    await host.stop_agent()
    assert (await host.until("evicted", lambda s: True))["status"]["phase"] == "Running", "until it has ended"
    await host.start_agent()
    status = (await host.until("evicted", lambda s: s["phase"] == "Failed"))["status"]
    assert (status["reason"], status["message"]) == ("Evicted", "The node was low on resource: memory.")
    assert ended(status)["exitCode"] == 137
    condition = next(item for item in status["conditions"] if item["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    assert ("Warning", "Evicted") in {event[:2] for event in host.told.events}
    assert not await host.manager.evict(made["metadata"]["uid"], reason="Evicted", message="again")
    await host.no_sandbox_is_left()
    await host.delete("evicted")
