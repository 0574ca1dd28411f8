"""What an agent that starts without the API knows of names, and what becomes of it once the API tells."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agents.dns import wire
from agents.dns.keeping import FILE, SETTLE_SECONDS, Kept, KeptNames
from agents.dns.names import Names
from agents.dns.zone import Zone
from orca.api.builtin import ENDPOINTSLICES, NAMESPACES, SERVICES
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.support.patience import PATIENCE

WEB = {"metadata": {"name": "web", "namespace": "d", "uid": "1"}, "spec": {"clusterIP": "10.96.0.5", "ports": []}}
DB = {"metadata": {"name": "db", "namespace": "d"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}
SLICE = {
    "metadata": {"name": "db-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "db"}},
    "addressType": "IPv4",
    "endpoints": [
        {"addresses": ["10.244.0.7"], "hostname": "db-0", "conditions": {"ready": True}, "nodeName": "host-1"},
        {"addresses": ["10.244.0.8"], "conditions": {"ready": False}},
    ],
    "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
}


class World:
    def __init__(self, *objects: tuple[Any, dict[str, Any]]) -> None:
        client = FakeClient()
        for resource, obj in objects:
            client.seed(resource, obj)
        self.informers = [Informer(client, resource) for resource in (SERVICES, ENDPOINTSLICES, NAMESPACES)]
        self.zone = Zone()
        self.changes = 0
        services, slices, namespaces = self.informers
        self.names = Names(self.zone, services, slices, namespaces, self.changed)
        self.names.follow()
        self.tasks: list[asyncio.Task[None]] = []

    def changed(self, service: str) -> None:
        self.changes += 1

    async def connect(self) -> None:
        self.tasks = [
            asyncio.create_task(work) for work in (self.names.run(), *(each.run() for each in self.informers))
        ]
        await asyncio.wait_for(asyncio.shield(self.tasks[0]), PATIENCE)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def addresses(self, name: str) -> list[bytes]:
        return [record.data for record in self.zone.answer(f"{name}.svc.cluster.local", wire.A).answers]


async def kept_by(tmp_path: Path, world: World) -> Kept:
    clock = VirtualClock()
    keeper = KeptNames(tmp_path / "dns", clock)
    task = asyncio.create_task(keeper.run(world.names.services, world.names.namespaces))
    keeper.changed()
    await clock.advance(SETTLE_SECONDS)
    while not (tmp_path / "dns" / FILE).exists():  # noqa: ASYNC110 (a thread writes it)
        await asyncio.sleep(0.001)
    task.cancel()
    return await keeper.read()


async def test_an_agent_without_the_api_answers_as_the_one_before(tmp_path: Path) -> None:
    before = World(
        (SERVICES, WEB), (SERVICES, DB), (ENDPOINTSLICES, SLICE), (NAMESPACES, {"metadata": {"name": "bare"}})
    )
    await before.connect()
    kept = await kept_by(tmp_path, before)
    await before.close()
    assert "host-1" not in (tmp_path / "dns" / FILE).read_text(), "only what answers are made of"

    after = World((SERVICES, {**WEB, "spec": {"clusterIP": "10.96.0.6", "ports": []}}))
    assert not after.names.known
    after.names.start_with(kept)
    assert after.names.known
    for name in ("web.d", "db.d", "db-0.db.d"):
        assert after.addresses(name) == before.addresses(name), name
    assert len(after.addresses("db.d")) == 1
    assert after.zone.exists("bare.svc.cluster.local")

    await after.connect()
    assert after.addresses("web.d") == [bytes((10, 96, 0, 6))]
    assert after.zone.answer("db.d.svc.cluster.local", wire.A).rcode == wire.NXDOMAIN, "it went meanwhile"
    assert not after.zone.exists("bare.svc.cluster.local")
    assert after.names.known
    await after.close()


async def test_services_without_their_endpoints_are_not_told_of() -> None:
    """The lists of Services and of EndpointSlices come one after the other."""
    world = World((SERVICES, DB), (ENDPOINTSLICES, SLICE))
    services = asyncio.create_task(world.informers[0].run())
    await world.informers[0].synced()
    assert not world.names.known
    assert world.addresses("db.d") == []
    await world.connect()
    assert len(world.addresses("db.d")) == 1
    services.cancel()
    await asyncio.gather(services, return_exceptions=True)
    await world.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"services": [1], "namespaces": []}', '{"services": []}'])
async def test_a_file_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert await KeptNames(tmp_path, VirtualClock()).read() == Kept()


async def test_nothing_is_kept_before_the_api_has_told(tmp_path: Path) -> None:
    clock, world = VirtualClock(), World()
    keeper = KeptNames(tmp_path, clock)
    task = asyncio.create_task(keeper.run(world.names.services, world.names.namespaces))
    keeper.changed()
    await clock.advance(SETTLE_SECONDS * 2)
    task.cancel()
    assert not (tmp_path / FILE).exists()
