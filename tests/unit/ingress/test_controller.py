"""The controller's loop over a cluster in memory and an engine that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from orca.api.builtin import ENDPOINTSLICES, EVENTS, INGRESSCLASSES, INGRESSES, NODES, PODS, SERVICES
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.ingress.controller import MOST_REFUSED, Identity, IngressController
from orca.ingress.engine import Refused, Unsettled
from orca.ingress.model import Pool, Routing
from orca.ingress.page import Rendered
from tests.unit.ingress.examples import HOST
from tests.unit.ingress.objects import CLASS, Obj, backend, endpoint, ingress, path, piece, service

OWN = {"app": "ingress", "controller-revision-hash": "x"}


@dataclass
class FakeEngine:
    """Takes what has no "(" in a location of its own."""

    configurations: list[Rendered] = field(default_factory=list)
    live: list[dict[str, tuple[str, ...]]] = field(default_factory=list)
    unsettled: int = 0
    free: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set a configuration does not come into force."""
    stopped: bool = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped = True

    async def set_live(self, routing: Routing, *, besides: dict[str, Pool] | None = None) -> None:
        pools = {**(besides or {}), **routing.pools}
        self.live.append({name: pool.peers for name, pool in pools.items()})

    async def configure(self, rendered: Rendered, routing: Routing) -> bool:
        await self.free.wait()
        if self.unsettled:
            self.unsettled -= 1
            raise Unsettled("not yet")
        for number, line in enumerate(rendered.text.splitlines(), 1):
            if "/broken(" in line:
                raise Refused("missing )", number)
        if self.configurations and self.configurations[-1].generation == rendered.generation:
            return False
        self.configurations.append(rendered)
        return True


@dataclass
class World:
    clock: VirtualClock
    client: FakeClient
    engine: FakeEngine
    controller: IngressController
    task: asyncio.Task[None]

    async def wait(self, seconds: float = 0.1) -> None:
        await self.clock.advance(seconds)

    def events(self) -> list[tuple[str, str]]:
        return sorted((one["involvedObject"]["name"], one["reason"]) for one in self.client.objects(EVENTS))

    async def status(self, name: str = "site") -> Any:
        found = await self.client.get(INGRESSES, name, "shop")
        return ((found.get("status") or {}).get("loadBalancer") or {}).get("ingress")


def own_pod(name: str = "ingress-1", node: str = "host-1") -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "edge", "labels": OWN},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"containerPort": 8080, "hostPort": 80}]}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def node(name: str, address: str) -> Obj:
    status = {"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


@asynccontextmanager
async def running(*ingresses: Obj, pods: tuple[Obj, ...] = ()) -> AsyncIterator[World]:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    client.seed(INGRESSCLASSES, {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", **CLASS})
    client.seed(SERVICES, service())
    client.seed(ENDPOINTSLICES, piece(endpoint("10.1.1.1")))
    for pod in pods or (own_pod(),):
        client.seed(PODS, pod)
    client.seed(NODES, node("host-1", "172.30.0.11"))
    client.seed(NODES, node("host-2", "172.30.0.12"))
    for one in ingresses:
        client.seed(INGRESSES, one)
    engine = FakeEngine()
    engine.free.set()
    identity = Identity("ingress-1", "edge", "edge/front")
    controller = IngressController(client, engine, HOST, identity, clock=clock)  # type: ignore[arg-type]
    task = asyncio.create_task(controller.run())
    world = World(clock, client, engine, controller, task)
    await world.wait(0.5)
    try:
        yield world
    finally:
        task.cancel()
        while not task.done():
            await clock.advance(1)


async def test_what_is_there_is_served_and_told() -> None:
    async with running(ingress(path("/"))) as world:
        assert len(world.engine.configurations) == 1
        assert world.engine.live[-1] == {"shop/web:80": ("10.1.1.1:8080",)}
        await world.wait(1)
        assert ("site", "Sync") in world.events()
        assert await world.status() == [{"ip": "172.30.0.11"}]


async def test_endpoints_move_without_a_configuration() -> None:
    async with running(ingress(path("/"))) as world:
        await world.client.update(ENDPOINTSLICES, piece(endpoint("10.1.1.2")))
        await world.wait(0.02)
        assert world.engine.live[-1] == {"shop/web:80": ("10.1.1.2:8080",)}
        assert len(world.engine.configurations) == 1


async def test_endpoints_move_while_a_configuration_is_on_its_way() -> None:
    async with running(ingress(path("/"))) as world:
        await world.wait(5)
        world.engine.free.clear()
        world.client.seed(SERVICES, service("other"))
        other = ingress(path("/", to=backend("other")), name="other", host="o.test")
        await world.client.patch(INGRESSES, "site", {"spec": other["spec"]}, "shop")
        await world.wait(1)
        await world.client.update(ENDPOINTSLICES, piece(endpoint("10.1.1.9")))
        await world.wait(0.1)
        assert world.engine.live[-1] == {"shop/web:80": ("10.1.1.9:8080",), "shop/other:80": ()}
        await world.client.create(ENDPOINTSLICES, piece(endpoint("10.1.1.8"), of="other"))
        await world.wait(0.1)
        world.engine.free.set()
        await world.wait(0.1)
        assert world.engine.live[-1] == {"shop/other:80": ("10.1.1.8:8080",)}


async def test_many_changes_share_a_reload() -> None:
    async with running(ingress(path("/"))) as world:
        await world.wait(5)
        for number in range(5):
            await world.client.create(INGRESSES, ingress(path("/"), name=f"n{number}", host=f"n{number}.test"))
            await world.wait(0.1)
        await world.wait(2)
        assert len(world.engine.configurations) == 3
        assert '"n4.test"' in world.engine.configurations[-1].text


async def test_however_many_nginx_does_not_take_the_others_are_served() -> None:
    ask = {"use-regex": "true"}
    broken = (
        ingress(path(f"/broken({n}", "ImplementationSpecific"), name=f"bad-{n}", host="b.test", ask=ask)
        for n in range(MOST_REFUSED + 1)
    )
    async with running(ingress(path("/")), *broken) as world:
        await world.wait(2)
        assert '"a.test"' in world.engine.configurations[-1].text


async def test_what_nginx_does_not_take_is_left_out_until_it_changes() -> None:
    broken = ingress(path("/broken(", "ImplementationSpecific"), name="bad", host="b.test", ask={"use-regex": "true"})
    async with running(ingress(path("/")), broken) as world:
        assert len(world.engine.configurations) == 1
        assert '"a.test"' in world.engine.configurations[0].text
        assert "/broken" not in world.engine.configurations[0].text
        await world.wait(2)
        assert ("bad", "Rejected") in world.events()
        await world.client.patch(INGRESSES, "bad", {"spec": {"rules": ingress(path("/fine"))["spec"]["rules"]}}, "shop")
        await world.wait(2)
        assert '"^/fine(?=/|$)"' in world.engine.configurations[-1].text


async def test_nginx_that_is_not_ready_is_asked_again() -> None:
    async with running() as world:
        world.engine.unsettled = 1
        await world.client.create(INGRESSES, ingress(path("/")))
        await world.wait(1.5)
        before = len(world.engine.configurations)
        await world.wait(3)
        assert len(world.engine.configurations) == before + 1


async def test_the_last_one_clears_the_status() -> None:
    async with running(ingress(path("/"))) as world:
        await world.wait(1)
        assert await world.status()
    assert await world.status() is None
    assert world.engine.stopped


async def test_one_of_two_leaves_the_status() -> None:
    async with running(ingress(path("/")), pods=(own_pod(), own_pod("ingress-2", "host-2"))) as world:
        await world.wait(1)
        assert await world.status() == [{"ip": "172.30.0.11"}, {"ip": "172.30.0.12"}]
    assert len(await world.status()) == 2


async def test_addresses_of_the_service_count_before_those_of_hosts() -> None:
    async with running(ingress(path("/"))) as world:
        front = service("front", type="LoadBalancer")
        front["metadata"]["namespace"] = "edge"
        front["status"] = {"loadBalancer": {"ingress": [{"ip": "172.30.0.200", "ipMode": "VIP"}]}}
        world.client.seed(SERVICES, front)
        await world.wait(2)
        assert await world.status() == [{"ip": "172.30.0.200"}]


async def test_what_is_missing_for_a_moment_is_not_told() -> None:
    async with running() as world:
        site = ingress(path("/"), name="late")
        site["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "late"
        await world.client.create(INGRESSES, site)
        await world.wait(3)
        assert ("late", "BackendMissing") not in world.events()
        await world.wait(4)
        assert ("late", "BackendMissing") in world.events()
