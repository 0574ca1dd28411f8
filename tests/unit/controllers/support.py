"""A cluster for controller tests: the fake API, virtual time, and a host that runs pods the moment they appear."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from orca.api.builtin import DEPLOYMENTS, LEASES, NAMESPACES, NODES, PODS, REPLICASETS
from orca.api.errors import ApiError
from orca.api.objects import Obj, is_terminating, name
from orca.api.times import format_micro, format_time
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.controllers import ControllersConfig, run_all
from orca.controllers.cache import Caches
from orca.controllers.harness import BaseController, Context

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def template(image: str = "nginx:1", **labels: str) -> Obj:
    """A pod template with one container."""
    found = {"app": "web", **labels}
    return {"metadata": {"labels": found}, "spec": {"containers": [{"name": "main", "image": image}]}}


def deployment(replicas: int = 3, **spec: Any) -> Obj:
    """Deployment default/web."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            **spec,
        },
    }


def replicaset(replicas: int = 3, **spec: Any) -> Obj:
    """ReplicaSet default/web."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "default", "uid": "rs-uid", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            **spec,
        },
    }


def pod(
    pod_name: str,
    *,
    ready: bool | None = True,
    phase: str = "Running",
    node: str = "host-1",
    ip: str = "",
    labels: dict[str, str] | None = None,
    owner: str = "",
    kind: str = "ReplicaSet",
    since: datetime = NOW,
    namespace: str = "default",
    **metadata: Any,
) -> Obj:
    """A pod; `ready` None leaves the condition out, `owner` is the uid of its controller."""
    made: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name,
            "namespace": namespace,
            "uid": f"uid-{pod_name}",
            "labels": {"app": "web"} if labels is None else labels,
            "creationTimestamp": format_time(NOW),
            **metadata,
        },
        "spec": {"containers": [{"name": "main", "image": "nginx:1"}]},
        "status": {"phase": phase},
    }
    if node:
        made["spec"]["nodeName"] = node
    if ip:
        made["status"] |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    if owner:
        reference = {"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": owner, "controller": True}
        made["metadata"]["ownerReferences"] = [reference]
    if ready is not None:
        state = "True" if ready else "False"
        made["status"]["conditions"] = [
            {"type": "Ready", "status": state, "lastTransitionTime": format_time(since)},
        ]
    return made


class Cluster:
    """What a test holds: the API, the clock, the pods' host."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = FakeClient(clock=self.clock)
        self.runs: Callable[[Obj], bool] = lambda _: True
        """Whether the host gets a pod running and ready."""
        self.ready_after = 1.0
        self.cut_off: set[str] = set()
        self.background: list[asyncio.Task[None]] = []
        self._address = 0

    async def settle(self, seconds: float = 0.0) -> None:
        """Lets everything happen that happens within `seconds`."""
        await self.clock.advance(seconds)
        await self.clock.settle(200)

    def pods(self) -> list[Obj]:
        """Pods that are not being deleted."""
        return [found for found in self.api.objects(PODS) if not is_terminating(found)]

    def images(self) -> list[str]:
        """Images of the live pods, sorted."""
        return sorted(found["spec"]["containers"][0]["image"] for found in self.pods())

    def sets(self) -> dict[str, int]:
        """Image -> replicas asked for."""
        sets = self.api.objects(REPLICASETS)
        return {rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs["spec"]["replicas"] for rs in sets}

    async def deployment(self, found: str = "web") -> Obj:
        """Deployment as it is now."""
        return await self.api.get(DEPLOYMENTS, found, "default")

    async def change(self, patch: Obj, found: str = "web") -> None:
        """Merge patch of a Deployment."""
        await self.api.patch(DEPLOYMENTS, found, patch, "default")

    async def set_image(self, image: str) -> None:
        """As `kubectl set image`."""
        await self.change({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}})

    async def host(self) -> None:
        """Binds, starts and removes pods."""
        async with asyncio.TaskGroup() as group, self.api.watch(PODS) as events:
            group.create_task(self.heartbeat("host-1"))
            seen: set[str] = set()
            async for event in events:
                found = event.obj
                if event.type == "DELETED":
                    continue
                if is_terminating(found):
                    group.create_task(self._remove(found))
                elif found["metadata"]["uid"] not in seen and self.runs(found):
                    seen.add(found["metadata"]["uid"])
                    group.create_task(self._start(found))

    async def heartbeat(self, node: str) -> None:
        """Registers a node, and renews its lease every 10 seconds while its name is not in `cut_off`."""
        stamp = format_time(self.clock.now())
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": stamp, "lastTransitionTime": stamp}
        made = {"metadata": {"name": node}, "spec": {}, "status": {"conditions": [ready]}}
        lease = {"metadata": {"name": node, "namespace": "kube-node-lease"}, "spec": {}}
        with suppress(ApiError):
            self.api.seed(NODES, made)
            self.api.seed(LEASES, lease)
        while True:
            if node not in self.cut_off:
                change = {"spec": {"renewTime": format_micro(self.clock.now())}}
                await self.api.patch(LEASES, node, change, "kube-node-lease")
            await self.clock.sleep(10)

    async def _start(self, found: Obj) -> None:
        with suppress(ApiError):  # deleted meanwhile
            if not found["spec"].get("nodeName"):
                target = {"target": {"kind": "Node", "name": "host-1"}}
                await self.api.create_sub(PODS, name(found), found["metadata"]["namespace"], "binding", target)
            await self.clock.sleep(self.ready_after)
            self._address += 1
            ip = f"10.244.{self._address // 250}.{self._address % 250 + 1}"
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(self.clock.now())}
            status = {"phase": "Running", "conditions": [ready], "podIP": ip, "podIPs": [{"ip": ip}]}
            space = found["metadata"]["namespace"]
            await self.api.patch(PODS, name(found), {"status": status}, space, subresource="status")

    async def _remove(self, found: Obj) -> None:
        with suppress(ApiError):  # gone already
            await self.api.delete(PODS, name(found), found["metadata"]["namespace"], grace_seconds=0)


@asynccontextmanager
async def running(
    *, host: bool = True, config: ControllersConfig | None = None, cluster: Cluster | None = None
) -> AsyncIterator[Cluster]:
    """All controllers over a fake API with one host."""
    cluster = cluster or Cluster()
    with suppress(ApiError):  # there since a first run over the same API
        cluster.api.seed(NAMESPACES, {"metadata": {"name": "default"}, "spec": {"finalizers": ["kubernetes"]}})
    work = run_all(cluster.api, clock=cluster.clock, config=config or ControllersConfig())
    tasks = [asyncio.create_task(work)]
    if host:
        tasks.append(asyncio.create_task(cluster.host()))
    try:
        await cluster.settle(0.1)
        yield cluster
    finally:
        await _end([*tasks, *cluster.background])


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels them; an error of one is the test's."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


@asynccontextmanager
async def running_one(
    kind: type[BaseController], *, cluster: Cluster | None = None, config: ControllersConfig | None = None
) -> AsyncIterator[tuple[Cluster, Any]]:
    """One controller alone over a fake API."""
    cluster = cluster or Cluster()
    caches = Caches(cluster.api, cluster.clock)
    controller = kind(Context(cluster.api, cluster.clock, config or ControllersConfig(), caches))
    tasks = [asyncio.create_task(caches.run())]
    await controller.caches.synced()
    tasks.append(asyncio.create_task(controller.run()))
    try:
        await cluster.settle()
        yield cluster, controller
    finally:
        await _end(tasks)
