"""`Proxy` between informers and a backend that only notes what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agents.proxy import runner
from agents.proxy.backend import BackendError, HostView
from agents.proxy.conntrack import ConntrackTable
from agents.proxy.model import ServicePort
from orca.api.builtin import ENDPOINTSLICES, NODES, SERVICES
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.support.patience import PATIENCE
from tests.unit.proxy.objects import endpoint, endpoint_slice, service


class Backend:
    name, heal_seconds = "fake", 60.0

    def __init__(self) -> None:
        self.told: list[Mapping[str, tuple[ServicePort, ...]]] = []
        self.hosts: list[HostView] = []
        self.healed = 0
        self.failures = 0
        self.harm = 0
        self.wake: Callable[[], None] = lambda: None
        self.services = 0

    async def update(self, changed: Mapping[str, tuple[ServicePort, ...]]) -> int:
        if self.failures:
            self.failures -= 1
            raise BackendError("the kernel does not want to")
        self.told.append(changed)
        return len(changed)

    async def heal(self) -> int:
        self.healed += 1
        found, self.harm = self.harm, 0
        return found

    def listen(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    async def set_host(self, host: HostView) -> None:
        self.hosts.append(host)

    def close(self) -> None: ...


class Host:
    def __init__(self, client: FakeClient, proxy: runner.Proxy, backend: Backend) -> None:
        self.client, self.proxy, self.backend = client, proxy, backend

    def endpoints(self, name: str = "default/web") -> list[str]:
        """What the backend was told last of the service's only port."""
        (port,) = next(changed[name] for changed in reversed(self.backend.told) if name in changed)
        return [each.ip for each in port.cluster]


@asynccontextmanager
async def running(monkeypatch: pytest.MonkeyPatch, *objects: Any, failures: int = 0) -> AsyncIterator[Host]:
    backend = Backend()
    backend.failures = failures

    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr(runner, "make_backend", lambda *_: backend)
    monkeypatch.setattr(runner, "clean_others", nothing)
    monkeypatch.setattr(runner, "_allow_loopback_node_ports", lambda: None)
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.01)
    client = FakeClient()
    kinds = {"Service": SERVICES, "EndpointSlice": ENDPOINTSLICES, "Node": NODES}
    for obj in objects:
        await client.create(kinds[obj["kind"]], obj, obj["metadata"].get("namespace", ""))
    informers = [Informer(client, resource) for resource in (SERVICES, ENDPOINTSLICES, NODES)]
    proxy = runner.Proxy(informers[0], informers[1], "host-1", nodes=informers[2], iptables=object())  # type: ignore[arg-type]
    tasks = [asyncio.create_task(each.run()) for each in (*informers, proxy)]
    try:
        async with asyncio.timeout(PATIENCE):
            await proxy.synced()
            yield Host(client, proxy, backend)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def node(zone: str, ip: str = "192.0.2.1") -> Any:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "host-1", "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
    }


HINTED = endpoint_slice(
    {**endpoint("10.244.1.2"), "hints": {"forZones": [{"name": "a"}]}},
    {**endpoint("10.244.2.2", "host-2"), "hints": {"forZones": [{"name": "b"}]}},
)


async def eventually(judge: Callable[[], bool]) -> None:
    while not judge():  # noqa: ASYNC110 (what happens is not ours to announce)
        await asyncio.sleep(0.002)


async def test_hints_follow_the_zone_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, service(), HINTED, node("a")) as host:
        await eventually(lambda: host.endpoints() == ["10.244.1.2"])
        await host.client.update(NODES, node("b"))
        await eventually(lambda: host.endpoints() == ["10.244.2.2"])
        told = len(host.backend.told)
        await host.client.update(NODES, node("b"))
        await asyncio.sleep(0.05)
        assert len(host.backend.told) == told, "a report of the node changes nothing"


async def test_backend_hears_of_the_nodes_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, node("a")) as host:
        for ip in ("192.0.2.1", "192.0.2.9"):
            await host.client.update(NODES, node("a", ip), subresource="status")
            await eventually(lambda ip=ip: [each.node_ips for each in host.backend.hosts[-1:]] == [(ip,)])
        await host.proxy.settled()


async def test_what_could_not_be_written_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, service(), endpoint_slice(endpoint("10.244.1.2")), failures=3) as host:
        assert host.endpoints() == ["10.244.1.2"]
        assert host.proxy.tally.failures == 3


async def test_heals_when_the_kernel_tells_but_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HEAL_PAUSE_SECONDS", 3600.0)
    async with running(monkeypatch) as host:
        for _ in range(20):
            host.backend.wake()
            await asyncio.sleep(0.002)
        assert host.backend.healed == 1


async def test_settled_means_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, service()) as host:
        heard = asyncio.Event()
        host.proxy._slices.on_add(lambda _: heard.set())
        await host.client.create(ENDPOINTSLICES, endpoint_slice(endpoint("10.244.1.2")), "default")
        await heard.wait()
        await host.proxy.settled()
        assert host.endpoints() == ["10.244.1.2"]


async def test_a_change_survives_a_fault_that_nobody_thought_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, service(), HINTED) as here:
        update = here.backend.update

        async def broken(changed: Mapping[str, tuple[ServicePort, ...]]) -> int:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(here.backend, "update", broken)
        here.proxy._mark("default/web")
        with pytest.raises(RuntimeError):
            await here.proxy._sync()
        monkeypatch.setattr(here.backend, "update", update)
        told = len(here.backend.told)
        await here.proxy._sync()
        assert "default/web" in here.backend.told[told]


async def test_what_passed_while_rules_were_missing_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[set[str]] = []

    async def begin_anew(_: object, services: Mapping[str, tuple[ServicePort, ...]]) -> int:
        begun.append(set(services))
        return 0

    monkeypatch.setattr(ConntrackTable, "begin_anew", begin_anew)
    monkeypatch.setattr(runner, "HEAL_PAUSE_SECONDS", 0)
    async with running(monkeypatch, service(), HINTED, node("a")) as host:
        assert begun == [{"default/web"}], "pods may have asked before an agent that starts"
        healed = host.backend.healed
        host.backend.wake()
        await eventually(lambda: host.backend.healed > healed)
        assert len(begun) == 1, "nobody has taken anything"
        host.backend.harm = 3
        host.backend.wake()
        await eventually(lambda: begun == [{"default/web"}] * 2)


async def test_who_insists_gets_an_answer_a_moment_later_and_not_at_the_next_regular_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "HEAL_PAUSE_SECONDS", 0.2)
    async with running(monkeypatch, service(), HINTED, node("a")) as host:
        host.backend.wake()
        began = asyncio.get_running_loop().time()
        await eventually(lambda: host.backend.healed == 1)
        host.backend.wake()
        await asyncio.sleep(0.02)
        assert host.backend.healed == 1 or asyncio.get_running_loop().time() - began > 0.2
        await eventually(lambda: host.backend.healed == 2)
        await asyncio.sleep(0.3)
        assert host.backend.healed == 2, "once is enough"
