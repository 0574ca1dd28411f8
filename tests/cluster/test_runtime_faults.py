"""Pods when the engine or the host fails under them, on real engines."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from orca.api.builtin import PODS
from tests.cluster.podhost import PodHost, container, pod, ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def test_containers_outlive_an_engine_that_is_killed(host: PodHost) -> None:
    await host.create(pod("kept"))
    before = container((await host.running("kept"))["status"])
    host.engine.kill()
    await host.create(pod("new"))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(host.engine.start)
    await host.running("new", seconds=30)
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
    await host.until("died", lambda s: container(s)["restartCount"] == 1 and ready(s, "Ready"), seconds=30)
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
    status = (await host.until("back", lambda s: container(s)["restartCount"] == 1 and ready(s, "Ready"), seconds=30))[
        "status"
    ]
    assert status["podIP"] == address
    await host.until("job", lambda s: s["phase"] == "Failed", seconds=30)
    await host.delete("back")
    await host.delete("job")


async def test_an_agent_killed_at_any_moment_of_a_pods_life_finishes_what_was_begun(host: PodHost) -> None:
    """Every 30 ms of a start, and of an end, an agent dies; the next one goes on, and nothing is left or run twice."""
    first = {"name": "i", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "command": ["true"]}
    for step in range(20):
        name = f"cut-{step}"
        await host.create(pod(name, initContainers=[first]))
        await asyncio.sleep(step * 0.03)
        await host.stop_agent()
        await host.start_agent()
        made = await host.running(name)
        assert container(made["status"])["restartCount"] == 0, step
        mine = [info for info in await host.runtime.inspect_all() if info.pod_uid == made["metadata"]["uid"]]
        assert sorted(info.container for info in mine) == ["POD", "c", "i"], step
        await host.client.delete(PODS, name, "default")
        await asyncio.sleep(0.9 + step * 0.02 if step % 2 else step * 0.03)
        await host.stop_agent()
        await host.start_agent()
        await host.gone(made)
    assert not list((host.root / "pods").iterdir())
