"""The server on loopback: cluster names from informers, the rest from a nameserver of the test's own."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import dnslib
import pytest

from agents.dns import server as serving
from agents.dns import streams, upstream
from agents.dns.metrics import Page, families
from agents.dns.nameservers import Address
from agents.dns.server import DnsServer
from agents.dns.sockets import has_family_of
from orca.api.builtin import CONFIGMAPS, ENDPOINTSLICES, NAMESPACES, SERVICES
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

WEB: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"clusterIP": "10.96.0.50", "ports": [{"name": "http", "port": 80}]},
}


class Nameserver(asyncio.DatagramProtocol):
    """Answers every question with 192.0.2.1; over UDP names that begin with "big" are too big. Counts what it is asked,
    but for the question that finds circles."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = dnslib.DNSRecord.parse(data)
        if question.q.qtype in (13, 2):
            return
        self.asked.append(str(question.q.qname))
        if self.silent:
            return
        reply = self.reply(question)
        if str(question.q.qname).startswith("big"):
            reply = question.reply()
            reply.header.tc = 1
        self.transport.sendto(reply.pack(), addr)

    async def over_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        message = self.reply(dnslib.DNSRecord.parse(await reader.readexactly(length)), count=100).pack()
        writer.write(struct.pack(">H", len(message)) + message)
        writer.close()

    def reply(self, question: dnslib.DNSRecord, count: int = 1) -> dnslib.DNSRecord:
        reply = question.reply()
        for number in range(1, count + 1):
            reply.add_answer(dnslib.RR(question.q.qname, rdata=dnslib.A(f"192.0.2.{number}"), ttl=60))
        return reply


class Host:
    """Instead of the host's resolv.conf."""

    def __init__(self, servers: tuple[Address, ...]) -> None:
        self.known = servers

    def servers(self) -> tuple[Address, ...]:
        return self.known


class World:
    def __init__(self, server: DnsServer, client: FakeClient, outside: Nameserver, port: int) -> None:
        self.server, self.client, self.outside, self.port = server, client, outside, port

    async def shown(self, revision: int) -> None:
        """Until the server's informers have come so far."""
        while int(self.server._names._services.resource_version or 0) < revision:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def create(self, obj: dict[str, Any], resource: Any = SERVICES) -> None:
        obj["metadata"].setdefault("namespace", "default")
        await self.client.create(resource, obj, obj["metadata"]["namespace"])
        for _ in range(20):
            await asyncio.sleep(0)

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False) -> dnslib.DNSRecord:
        return dnslib.DNSRecord.parse(await self.say(dnslib.DNSRecord.question(name, kind).pack(), tcp=tcp))

    async def say(self, message: bytes, *, tcp: bool = False) -> bytes:
        if tcp:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(struct.pack(">H", len(message)) + message)
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            answer = await reader.readexactly(length)
            writer.close()
            return answer
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()

        class Once(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                future.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(Once, remote_addr=("127.0.0.1", self.port))
        transport.sendto(message)
        async with asyncio.timeout(PATIENCE):
            answer = await future
        transport.close()
        return answer


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(upstream, "ROUNDS", (PATIENCE,))  # who is asked once more was not asked late
    client = FakeClient()
    client.seed(SERVICES, WEB)
    client.seed(NAMESPACES, {"metadata": {"name": "bare"}})
    informers = [Informer(client, resource) for resource in (SERVICES, ENDPOINTSLICES, NAMESPACES, CONFIGMAPS)]
    services, slices, namespaces, settings = informers
    port, outside_port = free_port(), free_port()
    loop = asyncio.get_running_loop()
    transport, outside = await loop.create_datagram_endpoint(Nameserver, local_addr=("127.0.0.1", outside_port))
    listener = await asyncio.start_server(outside.over_tcp, "127.0.0.1", outside_port)
    server = DnsServer(services, slices, namespaces=namespaces, settings=settings, addresses=("127.0.0.1",), port=port)
    server._host = Host((Address("127.0.0.1", outside_port),))  # type: ignore[assignment]
    tasks = [asyncio.create_task(work) for work in (*(each.run() for each in informers), server.run())]
    await server.listening()
    for informer in informers:
        await informer.synced()
    yield World(server, client, outside, port)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    transport.close()
    listener.close()


@pytest.mark.parametrize("tcp", [False, True])
async def test_cluster_names(world: World, tcp: bool) -> None:
    answer = await world.ask("web.default.svc.cluster.local", tcp=tcp)
    assert [str(rr.rdata) for rr in answer.rr] == ["10.96.0.50"]
    assert world.outside.asked == []
    assert (await world.ask("bare.svc.cluster.local", tcp=tcp)).header.rcode == 0, "a namespace without Services"


async def test_a_change_is_answered_at_once(world: World) -> None:
    assert (await world.ask("new.default.svc.cluster.local")).header.rcode == 3
    await world.create({"metadata": {"name": "new"}, "spec": {"clusterIP": "10.96.0.51", "ports": []}})
    assert [str(rr.rdata) for rr in (await world.ask("new.default.svc.cluster.local")).rr] == ["10.96.0.51"]
    await world.client.delete(SERVICES, "new", "default")
    for _ in range(20):
        await asyncio.sleep(0)
    assert (await world.ask("new.default.svc.cluster.local")).header.rcode == 3


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
async def test_the_zone_is_not_given_away(world: World, kind: str) -> None:
    assert (await world.ask("cluster.local", kind, tcp=True)).header.rcode == 5


async def test_what_is_no_question_gets_its_error_and_what_is_nothing_gets_nothing(world: World) -> None:
    assert dnslib.DNSRecord.parse(await world.say(b"\0\7\x10\0\0\1" + b"\0" * 6)).header.rcode == 4
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await world.say(b"short")
    assert (await world.ask("web.default.svc.cluster.local")).header.rcode == 0


async def test_other_names_are_forwarded_and_remembered(world: World) -> None:
    for _ in range(3):
        answer = await world.ask("www.example.com")
        assert [str(rr.rdata) for rr in answer.rr] == ["192.0.2.1"]
        assert not answer.header.aa
    assert world.outside.asked == ["www.example.com."]


async def test_what_is_too_long_is_fetched_over_tcp_and_cut_for_udp_only(world: World) -> None:
    cut = await world.ask("big.example.com")
    assert cut.header.tc
    assert 20 < len(cut.rr) < 100
    assert len((await world.ask("big.example.com", tcp=True)).rr) == 100
    assert len(world.outside.asked) == 1


async def test_external_name_comes_with_the_address_of_its_target(world: World) -> None:
    await world.create({"metadata": {"name": "out"}, "spec": {"type": "ExternalName", "externalName": "a.example"}})
    for _ in range(2):
        answer = await world.ask("out.default.svc.cluster.local")
        assert [(rr.rtype, str(rr.rdata)) for rr in answer.rr] == [(5, "a.example."), (1, "192.0.2.1")]
    assert world.outside.asked == ["a.example."]
    await world.create({"metadata": {"name": "far"}, "spec": {"type": "ExternalName", "externalName": "far.example"}})
    alias = await world.ask("far.default.svc.cluster.local", "CNAME")
    assert [(rr.rtype, str(rr.rdata)) for rr in alias.rr] == [(5, "far.example.")]
    assert world.outside.asked == ["a.example."], "the alias itself is known here"


async def test_stub_domains_come_and_go_with_the_configmap(world: World) -> None:
    other_port = free_port()
    transport, other = await asyncio.get_running_loop().create_datagram_endpoint(
        Nameserver, local_addr=("127.0.0.1", other_port)
    )
    await world.ask("db.corp.example")
    stub = {"stubDomains": f'{{"corp.example": ["127.0.0.1:{other_port}"]}}'}
    await world.create({"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "data": stub}, CONFIGMAPS)
    await world.ask("db.corp.example")
    await world.ask("www.example.com")
    assert other.asked == ["db.corp.example."], "also what others had answered before"
    bad = {"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "data": {"stubDomains": "{"}}
    await world.client.update(CONFIGMAPS, bad)
    await world.ask("db2.corp.example")
    assert other.asked == ["db.corp.example.", "db2.corp.example."], "what cannot be read changes nothing"
    await world.client.delete(CONFIGMAPS, "kube-dns", "kube-system")
    await world.ask("db3.corp.example")
    await world.ask("db4.corp.example")
    assert world.outside.asked[-1] == "db4.corp.example."
    transport.close()


async def test_no_nameserver_at_all(world: World) -> None:
    world.server._host.known = ()  # type: ignore[attr-defined]
    assert (await world.ask("www.example.com")).header.rcode == 2
    assert (await world.ask("web.default.svc.cluster.local")).header.rcode == 0


async def test_too_many_questions_to_the_outside_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "FORWARDS", 0)
    assert (await world.ask("www.example.com")).header.rcode == 5
    assert (await world.ask("web.default.svc.cluster.local")).header.rcode == 0


async def test_one_client_cannot_use_up_what_all_have(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "FORWARDS_OF_ONE", 2)
    world.outside.silent = True
    said: list[tuple[str, int]] = []

    def ask(client: str) -> None:
        def say(answer: bytes) -> None:
            said.append((client, dnslib.DNSRecord.parse(answer).header.rcode))

        assert world.server.take(dnslib.DNSRecord.question("slow.example").pack(), say, client, udp=True)

    for client in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"):
        ask(client)
    assert said == [("10.0.0.1", 5)]
    for task in list(world.server._tasks):
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not world.server._asking


async def test_questions_on_one_connection_wait_for_no_other(world: World) -> None:
    """300 of them at once, more than are taken at a time; the outside answers the first never."""
    world.outside.silent = True
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    questions = [dnslib.DNSRecord.question("slow.example").pack()]
    questions += [dnslib.DNSRecord.question("web.default.svc.cluster.local").pack() for _ in range(300)]
    writer.write(b"".join(struct.pack(">H", len(each)) + each for each in questions))
    seen = set()
    for _ in range(300):
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        seen.add(dnslib.DNSRecord.parse(await reader.readexactly(length)).header.id)
    assert seen == {dnslib.DNSRecord.parse(each).header.id for each in questions[1:]}
    writer.close()


async def test_idle_connections_end_and_too_many_make_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server._streams._most = 3
    connections = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(5)]
    assert await connections[0][0].read() == b""
    assert await connections[1][0].read() == b""
    assert len(world.server._streams) == 3
    world.server._streams.idle_seconds = 0.0
    reader, _ = await asyncio.open_connection("127.0.0.1", world.port)
    assert await reader.read() == b""
    assert streams.IDLE_SECONDS == 10.0
    for _, writer in connections:
        writer.close()


async def test_what_was_asked_is_counted_under_corednss_names(world: World) -> None:
    await world.ask("web.default.svc.cluster.local")
    await world.ask("nope.default.svc.cluster.local", "AAAA", tcp=True)
    await world.ask("www.example.com")
    await world.ask("www.example.com")
    memory = world.server.upstream.memory
    text = Page(families(world.server.add_up(), cached=memory.counts(), evictions=0)).text().decode()
    for line in (
        'coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="A",view="",zone="."} 3.0',
        'coredns_dns_requests_total{family="1",proto="tcp",server="dns://:53",type="AAAA",view="",zone="."} 1.0',
        'coredns_dns_responses_total{plugin="kubernetes",rcode="NXDOMAIN",server="dns://:53",view="",zone="."} 1.0',
        'coredns_dns_responses_total{plugin="forward",rcode="NOERROR",server="dns://:53",view="",zone="."} 1.0',
        'coredns_cache_hits_total{server="dns://:53",type="success",view="",zones="."} 1.0',
        'coredns_cache_entries{server="dns://:53",type="success",view="",zones="."} 1.0',
        'coredns_dns_request_duration_seconds_count{server="dns://:53",view="",zone="."} 4.0',
        'coredns_dns_request_size_bytes_bucket{le="100",proto="udp",server="dns://:53",view="",zone="."} 3.0',
        'coredns_proxy_request_duration_seconds_bucket{le="+Inf",proxy_name="forward",rcode="NOERROR",'
        f'to="{world.server._host.servers()[0]}"}} 1.0',
    ):
        assert line in text, text


async def test_before_the_first_list_cluster_names_are_not_denied() -> None:
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


@pytest.mark.skipif(not has_family_of("::1"), reason="no IPv6 here")
async def test_both_families_are_served() -> None:
    client = FakeClient()
    client.seed(SERVICES, WEB)
    informers = [Informer(client, resource) for resource in (SERVICES, ENDPOINTSLICES)]
    port = free_port()
    server = DnsServer(*informers, addresses=("127.0.0.1", "::1"), port=port)
    tasks = [asyncio.create_task(work) for work in (*(each.run() for each in informers), server.run())]
    await server.listening()
    for informer in informers:
        await informer.synced()
    for address in ("127.0.0.1", "::1"):
        reader, writer = await asyncio.open_connection(address, port)
        message = dnslib.DNSRecord.question("ns.dns.cluster.local", "AAAA").pack()
        writer.write(struct.pack(">H", len(message)) + message)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        assert [str(rr.rdata) for rr in dnslib.DNSRecord.parse(await reader.readexactly(length)).rr] == ["::1"]
        writer.close()
    assert {family for _, family, _ in server.add_up().requests} == {"1", "2"}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_asked_again_is_counted_and_never_out_of_date(world: World) -> None:
    for _ in range(5):
        assert [str(rr.rdata) for rr in (await world.ask("web.default.svc.cluster.local")).rr] == ["10.96.0.50"]
    changed = {**WEB, "metadata": dict(WEB["metadata"]), "spec": {**WEB["spec"], "clusterIP": "10.96.0.99"}}
    await world.client.update(SERVICES, changed)
    for _ in range(20):
        await asyncio.sleep(0)
    assert [str(rr.rdata) for rr in (await world.ask("web.default.svc.cluster.local")).rr] == ["10.96.0.99"]
    tally = world.server.add_up()
    assert tally.requests["udp", "1", 1] == 6
    assert tally.responses["kubernetes", 0] == 6
    assert sum(tally.seconds.counts) == 6


async def test_a_change_ends_the_answers_that_depend_on_it_and_no_others(world: World) -> None:
    other = {"metadata": {"name": "other", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.60", "ports": []}}
    alias = {"type": "ExternalName", "externalName": "other.default.svc.cluster.local"}
    await world.create({"metadata": {"name": "alias"}, "spec": alias})
    names = ("web", "other", "alias", "x.other")
    asked = [f"{name}.default.svc.cluster.local" for name in names] + ["60.0.96.10.in-addr.arpa"]
    kinds = ["A"] * 4 + ["PTR"]

    async def answers() -> list[tuple[int, list[str]]]:
        found = []
        for _ in range(2):
            found = [await world.ask(name, kind) for name, kind in zip(asked, kinds, strict=True)]
        return [(each.header.rcode, sorted(str(rr.rdata) for rr in each.rr)) for each in found]

    before = await answers()
    assert [rcode for rcode, _ in before] == [0, 3, 3, 3, 3]
    ready = dict(world.server._ready)
    await world.create(other)
    after = await answers()
    assert after[0] == before[0]
    assert after[1] == (0, ["10.96.0.60"])
    assert after[2] == (0, ["10.96.0.60", "other.default.svc.cluster.local."])
    assert after[3][0] == 3
    assert after[4] == (0, ["other.default.svc.cluster.local."])
    kept = [key for key, reply in world.server._ready.items() if ready.get(key) is reply]
    assert [name for name, *_ in kept] == ["web.default.svc.cluster.local"]
    await world.client.delete(SERVICES, "other", "default")
    for _ in range(20):
        await asyncio.sleep(0)
    assert await answers() == before
