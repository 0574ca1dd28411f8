"""A host full of pods for long: made, failing, replaced and deleted, with an engine that stumbles. Nothing may stay.

``ORCA_SOAK_MINUTES`` (10) is how long they are churned, ``ORCA_SOAK_PODS`` (100) how many there are.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest

from orca.api.builtin import CONFIGMAPS, EVENTS, NAMESPACES, NODES, PODS
from orca.api.errors import ApiError, is_conflict
from orca.api.objects import Obj
from orca.client.http import HttpsClient
from orca.client.informer import Informer
from orca.lab import host as hosts
from orca.lab.layout import Host, Lab
from tests.cluster.footprint import Footprint, footprint

MINUTES = float(os.environ.get("ORCA_SOAK_MINUTES", "10"))
PODS_AT_ONCE = int(os.environ.get("ORCA_SOAK_PODS", "100"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(MINUTES * 60 + 1800),
]

NODE = "host-1"
SPACE = "soak"
PAUSE_SECONDS = 0.4
HICCUP_SECONDS = 60.0
WARM_SECONDS = 60.0
SETTLE_SECONDS = 100.0
"""Idle connections are given up after 90 s."""
IMAGE = "busybox:1.36"
_ports = itertools.count(21000)


def container(name: str, script: str, **more: object) -> Obj:
    return {"name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script], **more}


def serving(name: str) -> Obj:
    """Ready by HTTP, with a configuration, a token and a disk in memory."""
    main = container(
        name,
        "exec httpd -f -p 8080 -h /config",
        readinessProbe={"httpGet": {"path": "/page", "port": 8080}, "periodSeconds": 5},
        volumeMounts=[{"name": "config", "mountPath": "/config"}, {"name": "ram", "mountPath": "/ram"}],
    )
    ram = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    return {"containers": [main], "volumes": [{"name": "config", "configMap": {"name": "page"}}, ram]}


def crashing(name: str) -> Obj:
    return {"containers": [container(name, "sleep 0.3; exit 3")]}


def ending(name: str) -> Obj:
    return {"containers": [container(name, "sleep 1")], "restartPolicy": "Never"}


def unhealthy(name: str) -> Obj:
    """Killed again and again by its liveness probe."""
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 2, "failureThreshold": 1}
    return {"containers": [container(name, "exec sleep 3600", livenessProbe=probe)]}


def hanging_probe(name: str) -> Obj:
    """Its probe never answers: each try is killed."""
    probe = {"exec": {"command": ["sleep", "60"]}, "periodSeconds": 5, "timeoutSeconds": 1}
    return {"containers": [container(name, "exec sleep 3600", readinessProbe=probe)]}


def accompanied(name: str) -> Obj:
    """An init container, a sidecar, and a main container that shares its processes."""
    sidecar = container("sidecar", "exec sleep 3600", restartPolicy="Always")
    spec = {"containers": [container(name, "exec sleep 3600")], "shareProcessNamespace": True}
    return {**spec, "initContainers": [container("first", "true"), sidecar]}


def exposed(name: str) -> Obj:
    """Reached by a port of the host."""
    port = {"containerPort": 8080, "hostPort": next(_ports)}
    return {"containers": [container(name, "exec httpd -f -p 8080", ports=[port])]}


def without_image(name: str) -> Obj:
    return {"containers": [{**container(name, "true"), "image": "no-such-image:1"}]}


KINDS: tuple[tuple[Callable[[str], Obj], int], ...] = (
    (serving, 30),
    (accompanied, 20),
    (ending, 15),
    (crashing, 10),
    (unhealthy, 8),
    (exposed, 8),
    (hanging_probe, 4),
    (without_image, 5),
)
"""What pods there are, by weight."""


class Crowd:
    """The pods of the soak on a host; ``pods`` is a cache of them."""

    def __init__(self, host: Host, client: HttpsClient, pods: Informer) -> None:
        self._host = host
        self._client = client
        self._pods = pods
        self._made = 0
        self._chance = random.Random(20)

    async def add(self) -> None:
        self._made += 1
        make = self._chance.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]
        name = f"{make.__name__.replace('_', '-')}-{self._made}"
        spec = {"nodeName": NODE, "terminationGracePeriodSeconds": self._chance.choice((1, 1, 2)), **make("main")}
        await self._client.create(PODS, {"metadata": {"name": name, "namespace": SPACE}, "spec": spec})

    async def replace(self, chosen: str) -> None:
        await self.remove(chosen)
        await self.add()

    async def remove(self, name: str, grace: int | None = None) -> None:
        with suppress(ApiError):
            await self._client.delete(PODS, name, SPACE, grace_seconds=grace)

    def names(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self._pods.list() if "deletionTimestamp" not in pod["metadata"]]

    async def churn(self, until: float) -> int:
        """Replace one pod after the other; now and then three are forced away at once. How many were replaced."""
        count = 0
        while time.monotonic() < until:
            names = self.names()
            if names:
                count += 1
                await self.replace(self._chance.choice(names))
            if count % 25 == 24 and len(names) > 3:
                forced = self._chance.sample(names, 3)
                await asyncio.gather(*(self.remove(name, grace=0) for name in forced))
                await asyncio.gather(*(self.add() for _ in forced))
            await asyncio.sleep(PAUSE_SECONDS)
        return count

    async def settled(self, seconds: float = 240.0) -> None:
        """Each pod has become what its kind becomes."""
        deadline = time.monotonic() + seconds
        while left := [pod for pod in self._pods.list() if not _as_it_should_be(pod)]:
            assert time.monotonic() < deadline, await self._told(left[:3])
            await asyncio.sleep(0.5)

    async def _told(self, pods: list[Obj]) -> str:
        """What there is to know of pods that hang, and the last lines of their host's agent."""
        lines = []
        for pod in pods:
            events = await self._client.list(EVENTS, SPACE, fields=f"involvedObject.name={pod['metadata']['name']}")
            told = [f"{e['lastTimestamp']} {e['reason']} x{e['count']}: {e['message']}" for e in events.items]
            lines += [json.dumps({"metadata": pod["metadata"], "status": pod.get("status")}), *told]
        return "\n".join([*lines, "", *self._host.log("agent").read_text().splitlines()[-100:]])

    async def clear(self, seconds: float = 240.0) -> None:
        """Delete all, and wait until the API has none."""
        await asyncio.gather(*(self.remove(name) for name in self.names()))
        deadline = time.monotonic() + seconds
        while left := [pod["metadata"]["name"] for pod in self._pods.list()]:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.2)


def _as_it_should_be(pod: Obj) -> bool:
    kind, status = pod["metadata"]["name"].rpartition("-")[0], pod.get("status") or {}
    states = [item.get("state") or {} for item in status.get("containerStatuses") or ()]
    restarts = sum(item.get("restartCount", 0) for item in status.get("containerStatuses") or ())
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or ())
    if status.get("reason") == "OutOfpods":
        # The host takes 110, and those count that are still ending, also the ones forced away.
        return True
    match kind:
        case "ending":
            # The engine may have lost it on the way.
            return status.get("phase") in ("Succeeded", "Failed")
        case "crashing" | "unhealthy":
            return restarts > 0
        case "without-image":
            return any((state.get("waiting") or {}).get("reason") == "ErrImageNeverPull" for state in states)
        case "hanging-probe":
            return status.get("phase") == "Running" and not ready
        case _:
            return ready


@pytest.fixture
async def client(lab: Lab) -> AsyncIterator[HttpsClient]:
    client = HttpsClient.from_kubeconfig(lab.kubeconfig)
    for resource, obj in (
        (NAMESPACES, {"metadata": {"name": SPACE}}),
        (CONFIGMAPS, {"metadata": {"name": "page", "namespace": SPACE}, "data": {"page": "hello\n"}}),
    ):
        try:
            await client.create(resource, obj)
        except ApiError as error:
            if not is_conflict(error):
                raise
    yield client
    with suppress(ApiError):
        await client.delete(NAMESPACES, SPACE)
    await client.aclose()


async def stumble(lab: Lab, turns: Iterator[str]) -> None:
    """The engine hangs for some seconds, or is killed and comes back, in turn."""
    while True:
        await asyncio.sleep(HICCUP_SECONDS)
        with suppress(ProcessLookupError):
            pid = hosts.service_pid(lab.host(NODE), "engine")
            if next(turns) == "hang":
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(4)
                os.kill(pid, signal.SIGCONT)
            else:
                os.kill(pid, signal.SIGKILL)


def _turns() -> Iterator[str]:
    while True:
        yield "hang"
        yield "kill"


async def test_a_full_host_that_is_churned_leaks_nothing(lab: Lab, client: HttpsClient) -> None:
    host = lab.host(NODE)
    agent = hosts.service_pid(host, "agent")
    pods = Informer(client, PODS, namespace=SPACE)
    following = asyncio.create_task(pods.run())
    await pods.synced()
    crowd = Crowd(host, client, pods)
    try:
        # Once around, so that pools and caches are filled and what is made once is there.
        await asyncio.gather(*(crowd.add() for _ in range(PODS_AT_ONCE)))
        await crowd.settled()
        await crowd.churn(time.monotonic() + WARM_SECONDS)
        await crowd.settled()
        await crowd.clear()
        await asyncio.sleep(SETTLE_SECONDS)
        empty = footprint(host)
        print(f"\nempty:   {empty}")

        await asyncio.gather(*(crowd.add() for _ in range(PODS_AT_ONCE)))
        await crowd.settled()
        full = footprint(host)
        print(f"full:    {full}")
        stumbling = asyncio.create_task(stumble(lab, _turns()))
        try:
            replaced = await crowd.churn(time.monotonic() + MINUTES * 60)
        finally:
            stumbling.cancel()
            await asyncio.gather(stumbling, return_exceptions=True)
            with suppress(ProcessLookupError):
                os.kill(hosts.service_pid(host, "engine"), signal.SIGCONT)
        await crowd.settled()
        print(f"churned: {footprint(host)}, {replaced} pods replaced")

        await crowd.clear()
        after = await _nothing_more_than(empty, host, SETTLE_SECONDS + 60)
        print(f"after:   {after}")
        assert not after.more_than(empty), after.more_than(empty)
        assert hosts.service_pid(host, "agent") == agent, "the agent was started again"
        node = await client.get(NODES, NODE)
        assert any(item["type"] == "Ready" and item["status"] == "True" for item in node["status"]["conditions"])
    finally:
        with suppress(AssertionError):
            await crowd.clear()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _nothing_more_than(before: Footprint, host: Host, seconds: float) -> Footprint:
    """The footprint once it is no larger than before, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        now = footprint(host)
        if not now.more_than(before) or time.monotonic() > deadline:
            return now
        await asyncio.sleep(2)
