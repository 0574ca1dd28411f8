"""Scheduler, controllers and server together: what is wanted is bound, once, also across a kill."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from orca.api.builtin import DEPLOYMENTS, EVENTS, LEASES, NODES, PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.times import format_micro, format_time
from orca.client.clock import SystemClock
from orca.client.http import HttpsClient
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE
from tests.support.server import running_server

CPU = 4
CLOCK = SystemClock()


@pytest.fixture
async def server() -> AsyncIterator[ServerProcess]:
    async with running_server(controllers=True) as running:
        yield running


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[HttpsClient]:
    made = HttpsClient.from_kubeconfig(server.kubeconfig)
    beating = asyncio.create_task(heartbeats(made))
    yield made
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    await made.aclose()


async def heartbeats(client: HttpsClient) -> None:
    """Of all nodes that there are, whenever there is a server."""
    while True:
        with suppress(ApiError):
            for lease in (await client.list(LEASES, "kube-node-lease")).items:
                renewed = {"spec": {"renewTime": format_micro(CLOCK.now())}}
                await client.patch(LEASES, lease["metadata"]["name"], renewed, "kube-node-lease")
        await asyncio.sleep(5)


async def add_node(client: HttpsClient, name: str) -> None:
    """A node that says it is ready, with a lease; returns when pods may go there."""
    stamp = format_time(CLOCK.now())
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": stamp, "lastTransitionTime": stamp}
    amounts = {"cpu": str(CPU), "memory": "8Gi", "pods": "110"}
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [condition]}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name}}
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    await client.patch(NODES, name, {"status": status}, subresource="status")
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": format_micro(CLOCK.now())}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
    await client.create(LEASES, lease, "kube-node-lease")
    await untainted(client, name)


def deployment(replicas: int, cpu: str) -> Obj:
    labels = {"app": "web"}
    container = {"name": "main", "image": "nginx", "resources": {"requests": {"cpu": cpu}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


async def settled(client: HttpsClient, bound: int, waiting: int) -> list[Obj]:
    """The pods, once exactly so many are bound and so many have been told why not."""
    pods: list[Obj] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                pods = (await client.list(PODS, "default")).items
            except ApiError:
                pods = []
            told = [
                one
                for one in pods
                if any(
                    (condition["type"], condition.get("reason")) == ("PodScheduled", "Unschedulable")
                    for condition in (one.get("status") or {}).get("conditions") or []
                )
                and not one["spec"].get("nodeName")
            ]
            if (sum(1 for one in pods if one["spec"].get("nodeName")), len(told)) == (bound, waiting):
                return pods
            await asyncio.sleep(0.2)


async def untainted(client: HttpsClient, name: str) -> None:
    """Every node comes with the taint of one that is not ready; a controller takes it away."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if not (await client.get(NODES, name))["spec"].get("taints"):
                return
            await asyncio.sleep(0.05)


async def told(client: HttpsClient, message: str, *, pods: int) -> None:
    """Wait until so many pods have been told so, and nothing else since."""
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while list(found.values()) != [message] * pods:
                listed = (await client.list(EVENTS, "default", fields="reason=FailedScheduling")).items
                listed.sort(key=lambda one: int(one["metadata"]["resourceVersion"]))
                found = {one["involvedObject"]["name"]: one["message"] for one in listed}
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"told: {found}")


async def retry_create(client: HttpsClient, obj: Obj) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.create(DEPLOYMENTS, obj)
                return
            except ApiError as error:
                if error.code not in (403, 503):
                    raise
                await asyncio.sleep(0.1)


async def test_replicas_spread_and_the_rest_wait_with_a_reason(client: HttpsClient) -> None:
    for name in ("one", "two"):
        await add_node(client, name)
    await retry_create(client, deployment(6, "1500m"))
    pods = await settled(client, bound=4, waiting=2)
    counts = Counter(one["spec"].get("nodeName") for one in pods)
    assert (counts["one"], counts["two"]) == (2, 2)
    wanted = (
        "0/2 nodes are available: 2 Insufficient cpu. "
        "no new claims to deallocate, preemption: 0/2 nodes are available: "
        "2 No preemption victims found for incoming pod."
    )
    await told(client, wanted, pods=2)
    await add_node(client, "three")
    await settled(client, bound=6, waiting=0)


async def test_a_kill_in_the_middle_binds_nothing_twice(server: ServerProcess, client: HttpsClient) -> None:
    for name in ("one", "two", "three"):
        await add_node(client, name)
    await retry_create(client, deployment(60, "100m"))
    await asyncio.sleep(0.3)
    server.kill()
    await asyncio.to_thread(server.start)
    pods = await settled(client, bound=60, waiting=0)
    counts = Counter(one["spec"]["nodeName"] for one in pods)
    assert max(counts.values()) <= CPU * 10
    assert counts == {"one": 20, "two": 20, "three": 20}
