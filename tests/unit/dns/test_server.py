"""The server on loopback: cluster names from informers, the rest from a nameserver of the test's own."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dnslib
import pytest

from agents.dns.server import DnsServer
from agents.dns.upstream import NoAnswer, ResolvConf, Upstream
from agents.dns.wire import Query, parse_query
from orca.api.builtin import ENDPOINTSLICES, SERVICES
from orca.client.clock import SystemClock, VirtualClock
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.support.ports import free_port

WEB: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"clusterIP": "10.96.0.50", "ports": [{"name": "http", "port": 80}]},
}


class Nameserver(asyncio.DatagramProtocol):
    """Answers every A question with 192.0.2.1, after ``silent`` questions that it ignores."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = dnslib.DNSRecord.parse(data)
        self.asked.append(str(question.q.qname))
        if self.silent:
            return
        reply = question.reply()
        reply.add_answer(dnslib.RR(question.q.qname, rdata=dnslib.A("192.0.2.1"), ttl=60))
        self.transport.sendto(reply.pack(), addr)


class World:
    def __init__(self, server: DnsServer, client: FakeClient, outside: Nameserver, port: int) -> None:
        self.server, self.client, self.outside, self.port = server, client, outside, port

    async def shown(self, service: str, *, gone: bool = False) -> None:
        """Until the server's informer has seen the service come, or go."""
        changed = asyncio.Event()
        self.server._services.on_change(lambda _: changed.set())
        while (self.server._services.get(service) is None) is not gone:
            changed.clear()
            await changed.wait()

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False) -> dnslib.DNSRecord:
        message = dnslib.DNSRecord.question(name, kind).pack()
        if tcp:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(struct.pack(">H", len(message)) + message)
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            answer = await reader.readexactly(length)
            writer.close()
            return dnslib.DNSRecord.parse(answer)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()

        class Once(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                future.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(Once, remote_addr=("127.0.0.1", self.port))
        transport.sendto(message)
        async with asyncio.timeout(5):
            answer = await future
        transport.close()
        return dnslib.DNSRecord.parse(answer)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    client = FakeClient()
    client.seed(SERVICES, WEB)
    services, slices = Informer(client, SERVICES), Informer(client, ENDPOINTSLICES)
    port, outside_port = free_port(), free_port()
    loop = asyncio.get_running_loop()
    transport, outside = await loop.create_datagram_endpoint(Nameserver, local_addr=("127.0.0.1", outside_port))
    (tmp_path / "resolv.conf").write_text("search example\nnameserver 127.0.0.1\n")
    server = DnsServer(services, slices, addresses=("127.0.0.1",), resolv_conf=tmp_path / "resolv.conf", port=port)
    server._upstream = Upstream(lambda: ["127.0.0.1"], SystemClock(), port=outside_port)
    tasks = [asyncio.create_task(work) for work in (services.run(), slices.run(), server.run())]
    await server.listening()
    await services.synced()
    await slices.synced()
    yield World(server, client, outside, port)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    transport.close()


@pytest.mark.parametrize("tcp", [False, True])
async def test_cluster_names(world: World, tcp: bool) -> None:
    answer = await world.ask("web.default.svc.cluster.local", tcp=tcp)
    assert [str(rr.rdata) for rr in answer.rr] == ["10.96.0.50"]
    assert world.outside.asked == []


async def test_a_change_is_answered_at_once(world: World) -> None:
    assert (await world.ask("new.default.svc.cluster.local")).header.rcode == 3
    new = {"metadata": {"name": "new", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.51", "ports": []}}
    await world.client.create(SERVICES, new, "default")
    await world.shown("default/new")
    assert [str(rr.rdata) for rr in (await world.ask("new.default.svc.cluster.local")).rr] == ["10.96.0.51"]
    await world.client.delete(SERVICES, "new", "default")
    await world.shown("default/new", gone=True)
    assert (await world.ask("new.default.svc.cluster.local")).header.rcode == 3


async def test_other_names_are_forwarded_and_remembered(world: World) -> None:
    for _ in range(3):
        answer = await world.ask("www.example.com")
        assert [str(rr.rdata) for rr in answer.rr] == ["192.0.2.1"]
        assert not answer.header.aa
    assert world.outside.asked == ["www.example.com."]


async def test_external_name_comes_with_the_address_of_its_target(world: World) -> None:
    out = {
        "metadata": {"name": "out", "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": "www.example.com"},
    }
    await world.client.create(SERVICES, out, "default")
    await world.shown("default/out")
    answer = await world.ask("out.default.svc.cluster.local")
    assert [(rr.rtype, str(rr.rdata)) for rr in answer.rr] == [(5, "www.example.com."), (1, "192.0.2.1")]


async def test_silent_nameserver_fails_quickly_and_only_once_slowly(world: World) -> None:
    world.outside.silent = True
    assert (await world.ask("slow.example.com")).header.rcode == 2
    asked = len(world.outside.asked)
    assert (await world.ask("slow2.example.com")).header.rcode == 2
    assert len(world.outside.asked) == asked, "it rests"


async def test_no_nameserver_at_all(world: World) -> None:
    world.server._upstream = Upstream(list, SystemClock())
    assert (await world.ask("www.example.com")).header.rcode == 2
    assert (await world.ask("web.default.svc.cluster.local")).header.rcode == 0


async def test_before_the_first_list_cluster_names_are_not_denied(tmp_path: Path) -> None:
    client = FakeClient()
    port = free_port()
    server = DnsServer(
        Informer(client, SERVICES), Informer(client, ENDPOINTSLICES), addresses=("127.0.0.1",), port=port
    )
    task = asyncio.create_task(server.run())
    await server.listening()
    world = World(server, client, Nameserver(), port)
    assert (await world.ask("web.default.svc.cluster.local")).header.rcode == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def query(name: str) -> Query:
    found = parse_query(dnslib.DNSRecord.question(name).pack())
    assert found
    return found


async def test_without_servers_there_is_no_answer() -> None:
    with pytest.raises(NoAnswer):
        await Upstream(list, VirtualClock()).ask(query("a.b"))


def test_resolv_conf_is_read_again_and_never_names_ourselves(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    conf = ResolvConf(path, own=["10.96.0.10"])
    assert conf.servers() == ()
    path.write_text("nameserver 192.0.2.1\nnameserver 10.96.0.10\n# nameserver 192.0.2.9\noptions ndots:5\n")
    assert conf.servers() == ("192.0.2.1",)
    path.unlink()
    path.write_text("nameserver 192.0.2.2\nnameserver 192.0.2.2\n")
    assert conf.servers() == ("192.0.2.2",)
