"""RuntimeClasses on a real engine: a pod's containers are run by what its class names, or the pod says why not."""

from __future__ import annotations

import asyncio
import os

import pytest

from orca.api.builtin import RUNTIMECLASSES
from tests.cluster.podhost import PodHost, pod, waiting
from tests.support.engine import SECOND_RUNTIME
from tests.support.kubectl import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def runtime_class(host: PodHost, name: str, handler: str) -> None:
    await host.client.create(RUNTIMECLASSES, {"metadata": {"name": name}, "handler": handler})


async def said(host: PodHost, text: str) -> None:
    """An event of a sandbox that could not be made says so."""

    def seen() -> bool:
        return any(reason == "FailedCreatePodSandBox" and text in words for _, reason, words, _ in host.told.events)

    await asyncio.to_thread(eventually, seen, what=f"an event that says {text}")


async def test_all_containers_of_a_pod_are_run_by_its_handler(host: PodHost) -> None:
    await runtime_class(host, "other", SECOND_RUNTIME)
    await host.create(pod("classy", runtimeClassName="other"))
    await host.create(pod("plain"))
    made, plain = await host.running("classy"), await host.running("plain")
    used: dict[str, set[str]] = {}
    for info in await host.runtime.inspect_all():
        used.setdefault(info.pod_uid, set()).add(info.runtime)
    assert used == {made["metadata"]["uid"]: {SECOND_RUNTIME}, plain["metadata"]["uid"]: {"runc"}}
    assert {SECOND_RUNTIME, "runc"} <= set((await host.runtime.abilities()).runtimes)


async def test_a_handler_the_engine_does_not_know(host: PodHost) -> None:
    await runtime_class(host, "unheard", "unheard-of")
    await host.create(pod("waits", runtimeClassName="unheard"))
    await said(host, 'failed to get sandbox runtime: no runtime for "unheard-of" is configured')
    assert waiting((await host.until("waits", waiting))["status"]) == "ContainerCreating"


async def test_a_class_that_is_gone_and_comes_back(host: PodHost) -> None:
    await host.create(pod("early", runtimeClassName="late"))
    await said(host, 'runtimeclasses.node.k8s.io "late" not found')
    await runtime_class(host, "late", SECOND_RUNTIME)
    await host.running("early")
