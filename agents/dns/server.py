"""`DnsServer`: answers the pods of this host on the cluster's DNS address, over UDP and TCP.

    dns = DnsServer(services_informer, slices_informer, addresses=("10.96.0.10",))
    asyncio.create_task(dns.run())

The address is on this host (`agents.network` puts it there), so a query never leaves it; the listener does not wait for
the address, nor for the API: until the first list is in, names of the cluster get SERVFAIL and everything else is
forwarded.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import structlog

from agents.dns import wire
from agents.dns.upstream import NoAnswer, ResolvConf, Upstream
from agents.dns.wire import Answer, BadQuery, Query
from agents.dns.zone import Zone, service_names
from orca.api.objects import Obj, key, labels, namespace
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()

TURNS = 8
"""Several addresses of one name are rotated through this many orders."""
PACKED_SIZE = 20_000
TCP_IDLE_SECONDS = 10.0
TCP_CLIENTS = 500
FORWARDS = 1000
"""Questions to the outside under way at once; beyond it the answer is SERVFAIL."""
_IP_FREEBIND = 15

Address = tuple[Any, ...]


class DnsServer:
    """See the module. ``run`` until cancelled; raises OSError when somebody else has the port."""

    def __init__(
        self,
        services: Informer,
        slices: Informer,
        *,
        addresses: Sequence[str] = ("10.96.0.10",),
        domain: str = "cluster.local",
        local_ranges: Sequence[str] = ("10.244.0.0/16", "10.96.0.0/16"),
        resolv_conf: Path = Path("/etc/resolv.conf"),
        port: int = 53,
        clock: Clock | None = None,
    ) -> None:
        self._services = services
        self._slices = slices
        self._addresses = tuple(addresses)
        self._port = port
        self._zone = Zone(domain, addresses=addresses, local_ranges=local_ranges)
        self._upstream = Upstream(ResolvConf(resolv_conf, own=addresses).servers, clock or SystemClock())
        self._slices_of: dict[str, dict[str, Obj]] = {}
        self._packed: dict[tuple[tuple[str, int, bool, bool], int], bytes] = {}
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._tcp_clients = 0
        self._following = False
        self._listening = asyncio.Event()
        self.answered = 0
        self.forwarded = 0

    def __repr__(self) -> str:
        return f"<DnsServer {', '.join(self._addresses)} {self._zone}>"

    async def listening(self) -> None:
        """Returns once queries are taken."""
        await self._listening.wait()

    async def run(self) -> None:
        self._follow()
        loop = asyncio.get_running_loop()
        transports: list[asyncio.DatagramTransport] = []
        servers: list[asyncio.Server] = []
        try:
            for address in self._addresses:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), sock=_socket(address, self._port, socket.SOCK_DGRAM)
                )
                transports.append(transport)
                listener = _socket(address, self._port, socket.SOCK_STREAM)
                servers.append(await asyncio.start_server(self._client, sock=listener))
            self._listening.set()
            log.info("cluster DNS answers", addresses=list(self._addresses), domain=self._zone.domain)
            await asyncio.Event().wait()
        finally:
            self._listening.clear()
            for transport in transports:
                transport.close()
            for server in servers:
                server.close()
            for task in self._tasks:
                task.cancel()

    # --- questions ---------------------------------------------------------------------------------------------------

    def take(self, message: bytes, transport: asyncio.DatagramTransport, client: Address) -> None:
        """A datagram: answered on the spot when it can be."""
        try:
            query = wire.parse_query(message)
        except BadQuery as bad:
            transport.sendto(wire.refusal(bad.identity, bad.rcode), client)
            return
        if query is None:
            return
        known = self._at_once(query)
        if known is not None:
            transport.sendto(wire.address_to(query, known, udp=True), client)
        elif len(self._tasks) >= FORWARDS:
            transport.sendto(self._failure(query), client)
        else:
            task = asyncio.create_task(self._later(query, transport, client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _later(self, query: Query, transport: asyncio.DatagramTransport, client: Address) -> None:
        answer = await self._forward(query, tcp=False)
        if not transport.is_closing():
            transport.sendto(wire.address_to(query, answer, udp=True), client)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection, any number of questions one after the other."""
        if self._tcp_clients >= TCP_CLIENTS:
            writer.close()
            return
        self._tcp_clients += 1
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE_SECONDS):
                    (length,) = struct.unpack(">H", await reader.readexactly(2))
                    message = await reader.readexactly(length)
                try:
                    query = wire.parse_query(message)
                except BadQuery as bad:
                    answer = wire.refusal(bad.identity, bad.rcode)
                else:
                    if query is None:
                        break
                    packed = self._at_once(query) or await self._forward(query, tcp=True)
                    answer = wire.address_to(query, packed, udp=False)
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tcp_clients -= 1
            writer.close()

    def _at_once(self, query: Query) -> bytes | None:
        """The packed answer to a question about the cluster; None for what has to be asked elsewhere."""
        self.answered += 1
        self._turn += 1
        turn = self._turn % TURNS
        packed = self._packed.get((query.key, turn))
        if packed is not None:
            return packed
        if not self._zone.covers(query.name):
            return None
        if not (self._services.is_synced and self._slices.is_synced):
            return self._failure(query)
        answer = self._zone.answer(query, turn=turn)
        if self._zone.outside_target(answer):
            return None
        packed = wire.pack(query, answer)
        if len(self._packed) >= PACKED_SIZE:
            self._packed.clear()
        self._packed[(query.key, turn)] = packed
        return packed

    async def _forward(self, query: Query, *, tcp: bool) -> bytes:
        self.forwarded += 1
        try:
            if self._zone.covers(query.name):
                return await self._alias(query)
            return await self._upstream.ask(query, tcp=tcp)
        except NoAnswer:
            return self._failure(query)

    async def _alias(self, query: Query) -> bytes:
        """An ExternalName: its CNAME with what the outside says about the target."""
        answer = self._zone.answer(query)
        target = self._zone.outside_target(answer)
        if not target:
            return wire.pack(query, answer)
        question = wire.name_data(target) + query.wire[-4:]
        asked = replace(query, name=target, wire=question, edns=False, dnssec=False)
        found = await self._upstream.ask(asked)
        if wire.is_truncated(found):
            found = await self._upstream.ask(asked, tcp=True)
        records = wire.answer_records(found, len(question))
        return wire.pack(query, replace(answer, answers=(*answer.answers, *records), rcode=found[3] & 15))

    def _failure(self, query: Query) -> bytes:
        return wire.pack(query, Answer(wire.SERVFAIL, authoritative=False))

    # --- names -------------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        if self._following:
            return
        self._following = True
        self._services.on_change(lambda service: self._renew(key(service)))
        self._slices.on_add(self._slice_is)
        self._slices.on_update(self._slice_changed)
        self._slices.on_delete(self._slice_gone)

    def _renew(self, service_key: str) -> None:
        service = self._services.get(service_key)
        names = {}
        if service is not None:
            try:
                names = service_names(service, self._slices_of.get(service_key, {}).values(), self._zone.domain)
            except (KeyError, TypeError, ValueError) as error:
                log.error("a service has no names", service=service_key, error=repr(error))
        if self._zone.replace(service_key, names):
            self._packed.clear()

    def _slice_is(self, endpoint_slice: Obj) -> None:
        if owner := _owner(endpoint_slice):
            self._slices_of.setdefault(owner, {})[key(endpoint_slice)] = endpoint_slice
            self._renew(owner)

    def _slice_changed(self, old: Obj, new: Obj) -> None:
        if _owner(old) != _owner(new):
            self._slice_gone(old)
        self._slice_is(new)

    def _slice_gone(self, endpoint_slice: Obj) -> None:
        owner = _owner(endpoint_slice)
        slices = self._slices_of.get(owner, {})
        if slices.pop(key(endpoint_slice), None) is not None:
            if not slices:
                del self._slices_of[owner]
            self._renew(owner)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self._transport:
            self._server.take(data, self._transport, addr)


def _owner(endpoint_slice: Obj) -> str:
    owner = labels(endpoint_slice).get("kubernetes.io/service-name")
    return f"{namespace(endpoint_slice)}/{owner}" if owner else ""


def _socket(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A bound socket; the address may come later (the network puts it on the host)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == socket.SOCK_DGRAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(256)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"DNS cannot listen on {address}:{port}: {error.strerror}") from error
    return made
