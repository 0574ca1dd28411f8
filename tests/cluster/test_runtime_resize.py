"""Resizing running pods on a real engine: what the status says is compared with the kernel's own numbers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orca.api.builtin import PODS
from orca.api.objects import Obj
from tests.cluster.podhost import NODE, PodHost, container, pod, pod_host, shell
from tests.support.engine import PrivateEngine
from tests.support.patience import PATIENCE

Sizes = dict[str, dict[str, str]]


@pytest.fixture
async def host(engine: PrivateEngine) -> AsyncIterator[PodHost]:
    node = {"metadata": {"name": NODE}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}}}
    async with pod_host(engine, node=node) as made:
        yield made


def sized(cpu: str, memory: str, limit_cpu: str = "", limit_memory: str = "") -> Sizes:
    return {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"cpu": limit_cpu or cpu, "memory": limit_memory or memory},
    }


async def resize(host: PodHost, name: str, resources: Sizes, *, which: str = "c") -> Obj:
    """What PATCH pods/resize does to the object."""
    found = await host.get(name)
    assert found is not None
    spec = {**found["spec"]}
    for group in ("initContainers", "containers"):
        if group in spec:
            spec[group] = [{**one, "resources": resources} if one["name"] == which else one for one in spec[group]]
    return await host.client.update(PODS, {**found, "spec": spec})


def condition(status: Obj, kind: str) -> Obj:
    return next((one for one in status.get("conditions") or () if one["type"] == kind), {})


def has(resources: Any, *, which: str = "c") -> Any:
    """True of a status that tells these sizes in force, and nothing under way."""

    def true(status: Obj) -> bool:
        one = container(status, which)
        quiet = not condition(status, "PodResizePending") and not condition(status, "PodResizeInProgress")
        return bool(quiet and one.get("resources") == resources and one["allocatedResources"] == resources["requests"])

    return true


def _runs(host: PodHost, name: str, which: str) -> bool:
    view = host.manager.find("default", name) if host.manager is not None else None
    return view is not None and which in view.containers and view.containers[which].running


async def kernel(host: PodHost, name: str, which: str = "c") -> tuple[int, int, int]:
    """(cpu shares or weight, microseconds of cpu in 100 ms, bytes of memory) as the container's cgroup has them."""
    script = (
        "cd /sys/fs/cgroup; if [ -f cpu.max ]; then cat cpu.weight; cut -d' ' -f1 cpu.max; cat memory.max; "
        "else cat cpu/cpu.shares cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes; fi"
    )
    deadline = time.monotonic() + PATIENCE
    # An agent that just came has not met all containers of its pods yet.
    while not _runs(host, name, which):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    shares, quota, memory = (await host.output(name, "sh", "-c", script, container=which)).split()
    return int(shares), int(quota), int(memory)


async def test_cpu_and_memory_go_up_and_down_while_the_container_runs(host: PodHost) -> None:
    await host.create(pod("updown", container={"resources": sized("100m", "32Mi", "200m", "64Mi")}))
    before = container((await host.running("updown"))["status"])
    shares, *others = await kernel(host, "updown")
    assert others == [20_000, 64 << 20]
    for wanted, quota, memory in (
        (sized("300m", "64Mi", "500m", "128Mi"), 50_000, 128 << 20),
        (sized("50m", "16Mi", "100m", "32Mi"), 10_000, 32 << 20),
    ):
        changed = await resize(host, "updown", wanted)
        status = (await host.until("updown", has(wanted)))["status"]
        now, *others = await kernel(host, "updown")
        assert others == [quota, memory]
        assert (now > shares) is (wanted["requests"]["cpu"] == "300m"), (now, shares)
        assert container(status)["containerID"] == before["containerID"]
        assert container(status)["restartCount"] == 0
        assert status["observedGeneration"] == changed["metadata"]["generation"]
    told = [(kind, reason, text.partition(":")[0]) for kind, reason, text, _ in host.told.events if "Resize" in reason]
    assert told == 2 * [
        ("Normal", "ResizeStarted", "Pod resize started"),
        ("Normal", "ResizeCompleted", "Pod resize completed"),
    ]


async def test_a_policy_may_want_the_container_made_anew(host: PodHost) -> None:
    policy = [
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
    ]
    main = {"resources": sized("100m", "32Mi"), "resizePolicy": policy}
    await host.create(pod("anew", container=main, restartPolicy="OnFailure"))
    first = container((await host.running("anew"))["status"])["containerID"]
    wanted = sized("200m", "32Mi")
    await resize(host, "anew", wanted)
    assert container((await host.until("anew", has(wanted)))["status"])["containerID"] == first
    for count, wanted in ((1, sized("200m", "64Mi")), (2, sized("200m", "48Mi"))):
        await resize(host, "anew", wanted)
        status = (await host.until("anew", has(wanted)))["status"]
        assert container(status)["restartCount"] == count
    assert (await kernel(host, "anew"))[1:] == (20_000, 48 << 20)
    assert "Container c resize requires restart" in [text for _, _, text, _ in host.told.events]


async def test_a_sidecar_is_resized_too(host: PodHost) -> None:
    sidecar = {
        "name": "side", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always",
        "command": ["sleep", "3600"], "resources": sized("100m", "32Mi"),
    }  # fmt: skip
    await host.create(pod("side", initContainers=[sidecar], container={"resources": sized("100m", "32Mi")}))
    await host.running("side")
    wanted = sized("150m", "48Mi")
    await resize(host, "side", wanted, which="side")
    await host.until("side", has(wanted, which="side"))
    assert (await kernel(host, "side", "side"))[1:] == (15_000, 48 << 20)
    assert (await kernel(host, "side"))[1:] == (10_000, 32 << 20)


async def test_what_the_node_never_has_is_infeasible(host: PodHost) -> None:
    small = sized("100m", "32Mi")
    await host.create(pod("giant", container={"resources": small}))
    await host.running("giant")
    changed = await resize(host, "giant", sized("5", "32Mi"))
    found = await host.until("giant", lambda status: condition(status, "PodResizePending"))
    told = condition(found["status"], "PodResizePending")
    assert (told["status"], told["reason"]) == ("True", "Infeasible")
    assert told["message"] == "Node didn't have enough capacity: cpu, requested: 5000, capacity: 2000"
    assert told["observedGeneration"] == changed["metadata"]["generation"]
    assert container(found["status"])["resources"] == small
    assert "ResizeInfeasible" in host.told.reasons()
    await resize(host, "giant", small)
    await host.until("giant", has(small))


async def test_a_resize_waits_for_the_room_that_another_pod_leaves(host: PodHost) -> None:
    await host.create(pod("other", container={"resources": sized("1500m", "32Mi")}))
    await host.create(pod("patient", container={"resources": sized("100m", "32Mi")}))
    await host.running("other")
    await host.running("patient")
    wanted = sized("1", "32Mi")
    await resize(host, "patient", wanted)
    found = await host.until("patient", lambda status: condition(status, "PodResizePending"))
    told = condition(found["status"], "PodResizePending")
    assert told["reason"] == "Deferred"
    assert told["message"] == "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
    assert container(found["status"])["allocatedResources"]["cpu"] == "100m"
    # What waits survives the agent, and what asks for less goes before it.
    await host.stop_agent()
    await host.start_agent()
    await host.until("patient", lambda status: condition(status, "PodResizePending"))
    await host.delete("other")
    await host.until("patient", has(wanted))
    assert (await kernel(host, "patient"))[1] == 100_000
    assert host.told.reasons().count("ResizeDeferred") == 1


async def test_memory_in_use_is_not_taken_away(host: PodHost) -> None:
    eat = shell("head -c 40m /dev/zero > /dev/shm/full; sleep 3600", resources=sized("100m", "64Mi", "100m", "128Mi"))
    await host.create(pod("full", container=eat))
    await host.running("full")
    deadline = time.monotonic() + PATIENCE
    while int(await host.output("full", "sh", "-c", "stat -c %s /dev/shm/full 2>/dev/null || echo 0")) < 40 << 20:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    wanted = sized("100m", "16Mi", "100m", "32Mi")
    await resize(host, "full", wanted)
    found = await host.until("full", lambda status: condition(status, "PodResizeInProgress").get("reason") == "Error")
    text = condition(found["status"], "PodResizeInProgress")["message"]
    start = (
        'cannot decrease memory limits: attempting to set container "c" memory limit (33554432) below current usage ('
    )
    assert text.startswith(start)
    assert container(found["status"])["resources"]["limits"]["memory"] == "128Mi"
    assert container(found["status"])["allocatedResources"]["memory"] == "16Mi"
    await host.output("full", "rm", "/dev/shm/full")
    await host.until("full", has(wanted))
    assert (await kernel(host, "full"))[2] == 32 << 20


async def test_an_agent_that_was_away_applies_what_was_allotted(host: PodHost) -> None:
    old, wanted = sized("100m", "32Mi"), sized("400m", "64Mi")
    await host.create(pod("away", container={"resources": old}))
    await host.running("away")
    await resize(host, "away", wanted)
    deadline = time.monotonic() + PATIENCE
    while "ResizeStarted" not in host.told.reasons():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    await host.stop_agent()
    await host.start_agent()
    await host.until("away", has(wanted))
    assert (await kernel(host, "away"))[1:] == (40_000, 64 << 20)
    # Allotted and applied; now nobody is there when it is asked for more than there is.
    await host.stop_agent()
    await resize(host, "away", sized("1800m", "2Gi"))
    await host.start_agent()
    found = await host.until("away", lambda status: condition(status, "PodResizePending"))
    assert container(found["status"])["resources"] == wanted
    assert container(found["status"])["allocatedResources"] == wanted["requests"]
    assert (await kernel(host, "away"))[1:] == (40_000, 64 << 20)


@pytest.mark.parametrize("policy", ["NotRequired", "RestartContainer"])
async def test_an_agent_killed_at_any_moment_loses_no_resize(host: PodHost, policy: str) -> None:
    policies = [{"resourceName": "memory", "restartPolicy": policy}]
    # It ends with 0 when it is told to: only a resize starts it again.
    polite = shell("trap 'exit 0' TERM; while true; do sleep 0.05; done", resources=sized("100m", "32Mi"))
    await host.create(pod("killed", container={**polite, "resizePolicy": policies}, restartPolicy="OnFailure"))
    await host.running("killed")
    for number, seconds in enumerate((0.0, 0.005, 0.015, 0.03, 0.06, 0.1, 0.2)):
        wanted = sized("100m", f"{40 + 8 * number}Mi")
        await resize(host, "killed", wanted)
        await asyncio.sleep(seconds)
        await host.stop_agent()
        await host.start_agent()
        found = await host.until("killed", has(wanted))
        assert (await kernel(host, "killed"))[2] == (40 + 8 * number) << 20
        assert (container(found["status"])["restartCount"] == 0) is (policy == "NotRequired")


async def test_the_engine_comes_back_with_what_was_allotted(host: PodHost) -> None:
    await host.create(pod("engine", container={"resources": sized("100m", "32Mi")}))
    first = container((await host.running("engine"))["status"])["containerID"]
    wanted = sized("200m", "64Mi")
    await resize(host, "engine", wanted)
    await host.until("engine", has(wanted))
    host.engine.kill()
    host.engine.start()
    more = sized("300m", "96Mi")
    await resize(host, "engine", more)
    found = await host.until("engine", has(more))
    assert container(found["status"])["containerID"] == first
    assert (await kernel(host, "engine"))[1:] == (30_000, 96 << 20)


async def test_status_tells_user_and_mounts(host: PodHost) -> None:
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "data", "mountPath": "/ro", "readOnly": True}]
    security = {"runAsUser": 1000, "runAsGroup": 2000}
    await host.create(
        pod(
            "who",
            container={"volumeMounts": mounts, "securityContext": security},
            volumes=[{"name": "data", "emptyDir": {}}],
            securityContext={"supplementalGroups": [3000]},
        )
    )
    found = container((await host.running("who"))["status"])
    assert found["user"]["linux"]["uid"] == 1000
    assert found["user"]["linux"]["gid"] == 2000
    assert sorted(found["user"]["linux"]["supplementalGroups"]) == [2000, 3000]
    assert found["volumeMounts"] == [
        {"name": "data", "mountPath": "/data"},
        {"name": "data", "mountPath": "/ro", "readOnly": True, "recursiveReadOnly": "Disabled"},
    ]
