"""`DnsServer`: answers the pods of this host on the cluster's DNS address, over UDP and TCP.

    dns = DnsServer(services_informer, slices_informer, addresses=("10.96.0.10",))
    asyncio.create_task(dns.run())

The address is on this host (`agents.network` puts it there), so a query never leaves it; the listener does not wait for
the address, nor for the API: until the first lists are in, names of the cluster get SERVFAIL and everything else is
forwarded. Without the API it goes on with what it was told last.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import structlog

from agents.dns import reply as replies
from agents.dns import wire
from agents.dns.keeping import KeptNames
from agents.dns.memory import Key
from agents.dns.names import Names
from agents.dns.nameservers import SETTINGS, Address, ResolvConf, Settings, SettingsInvalid
from agents.dns.quick import QuickAnswers
from agents.dns.received import answers
from agents.dns.reply import Reply
from agents.dns.sockets import bound_socket, has_family_of
from agents.dns.streams import Streams
from agents.dns.tally import Tally
from agents.dns.upstream import NoAnswer, Upstream
from agents.dns.wire import Answer, BadQuery, Query
from agents.dns.zone import Zone
from orca.api.objects import Obj, key
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()

REMEMBERED = 4_000
"""Questions about the cluster whose answers are kept ready, until a Service they depend on changes."""
FORWARDS = 1000
"""Questions to the outside under way at once; beyond it they are refused, as by kubeadm's ``max_concurrent 1000``."""
FORWARDS_OF_ONE = 250
"""Of one client: a pod that asks without end leaves the others of its host theirs."""
_PLUGIN_ZONE, _PLUGIN_FORWARD, _PLUGIN_CACHE, _PLUGIN_NONE = "kubernetes", "forward", "cache", ""

Client = tuple[Any, ...]
Say = Callable[[bytes], None]


class DnsServer:
    """See the module. ``run`` until cancelled; raises OSError when somebody else has the port."""

    def __init__(
        self,
        services: Informer,
        slices: Informer,
        *,
        namespaces: Informer | None = None,
        settings: Informer | None = None,
        addresses: Sequence[str] = ("10.96.0.10",),
        domain: str = "cluster.local",
        local_ranges: Sequence[str] = ("10.244.0.0/16", "10.96.0.0/16"),
        resolv_conf: Path = Path("/etc/resolv.conf"),
        port: int = 53,
        keep: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``namespaces``: without them those with a Service are known. ``settings``: ConfigMaps, of which the one named
        kube-system/kube-dns counts (`agents.dns.nameservers`). ``local_ranges``: see `Zone`. ``keep``: directory where
        names are kept for the agent that comes next."""
        clock = clock or SystemClock()
        self._addresses = tuple(addresses)
        self._port = port
        self._zone = Zone(
            domain, addresses=addresses, local_ranges=local_ranges, serial=int(clock.now().timestamp()) & 0xFFFFFFFF
        )
        self._names = Names(self._zone, services, slices, namespaces, self._names_changed)
        self._keeper = KeptNames(keep, clock) if keep is not None else None
        self._host = ResolvConf(resolv_conf, own=addresses, now=clock.monotonic)
        self._settings = Settings()
        self._configured = settings
        self.tally = Tally()
        self._upstream = Upstream(self._servers_of, clock, tally=self.tally)
        self._ready: dict[Key, Reply] = {}
        self._ready_of: dict[str, list[Key]] = {}
        self._quick: list[QuickAnswers] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: dict[str, int] = {}
        """How many questions of a client are under way."""
        self._streams = Streams(self._take_stream)
        self._following = False
        self._listening = asyncio.Event()

    def __repr__(self) -> str:
        return f"<DnsServer {', '.join(self._addresses)} {self._zone}>"

    @property
    def upstream(self) -> Upstream:
        return self._upstream

    async def listening(self) -> None:
        """Returns once queries are taken."""
        await self._listening.wait()

    async def run(self) -> None:
        self._follow()
        loop = asyncio.get_running_loop()
        if self._keeper is not None:
            self._names.start_with(await self._keeper.read())
        beside = [asyncio.create_task(self._names.run())]
        if self._keeper is not None:
            beside.append(asyncio.create_task(self._keeper.run(self._names.services, self._names.namespaces)))
        transports: list[asyncio.DatagramTransport] = []
        servers: list[asyncio.Server] = []
        try:
            self._quick = []
            for address in self._addresses:
                if not has_family_of(address):
                    log.warning("this host has no IPv6; DNS is not served there", address=address)
                    continue
                quick = QuickAnswers(self.tally, "2" if ":" in address else "1")
                self._quick.append(quick)
                transport, _ = await loop.create_datagram_endpoint(
                    functools.partial(_Datagrams, self, quick),
                    sock=bound_socket(address, self._port, socket.SOCK_DGRAM),
                )
                transports.append(transport)
                listener = bound_socket(address, self._port, socket.SOCK_STREAM)
                servers.append(await loop.create_server(self._streams.protocol, sock=listener))
            self._listening.set()
            log.info("cluster DNS answers", addresses=list(self._addresses), domain=self._zone.domain)
            await asyncio.Event().wait()
        finally:
            self._listening.clear()
            for transport in transports:
                transport.close()
            for server in servers:
                server.close()
            self._streams.close()
            for task in (*self._tasks, *beside):
                task.cancel()
            await self._upstream.close()

    # --- questions ---------------------------------------------------------------------------------------------------

    def take(self, message: bytes, say: Say, client: str, *, udp: bool, quick: QuickAnswers | None = None) -> bool:
        """A message of an address: answered on the spot when that can be, and by ``quick`` the next time when its
        answer is of the cluster. False for one that gets no answer."""
        began = time.perf_counter()
        family = "2" if ":" in client else "1"
        try:
            query = wire.parse_query(message)
        except BadQuery as bad:
            self._count("udp" if udp else "tcp", family, 0, len(message))
            self._said(bad.rcode, _PLUGIN_NONE, bad.message, udp, began)
            say(bad.message)
            return True
        if query is None:
            return False
        self._count("udp" if udp else "tcp", family, query.kind, len(message))
        self.tally.dnssec += query.dnssec
        known, plugin = self._at_once(query)
        if known is not None:
            answer = known.to(query, udp=udp)
            self._said(known.rcode, plugin, answer, udp, began)
            say(answer)
            if quick is not None and self._ready.get(query.key) is known:
                quick.learn(message, query, known, plugin)
            return True
        under_way = self._asking.get(client, 0)
        if len(self._tasks) >= FORWARDS or under_way >= FORWARDS_OF_ONE:
            self.tally.too_many += 1
            answer = replies.failure(wire.REFUSED).to(query, udp=udp)
            self._said(wire.REFUSED, _PLUGIN_FORWARD, answer, udp, began)
            say(answer)
            return True
        self._asking[client] = under_way + 1
        task = asyncio.create_task(self._later(query, say, udp, began))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._done, client))
        return True

    def _done(self, client: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._asking[client] -= 1
        if not self._asking[client]:
            del self._asking[client]

    def _take_stream(self, message: bytes, say: Say, client: str) -> bool:
        return self.take(message, say, client, udp=False)

    async def _later(self, query: Query, say: Say, udp: bool, began: float) -> None:
        found = await self._forward(query)
        answer = found.to(query, udp=udp)
        self._said(found.rcode, _PLUGIN_FORWARD, answer, udp, began)
        say(answer)

    def _at_once(self, query: Query) -> tuple[Reply | None, str]:
        """(answer, who has it); no answer when it has to be asked for elsewhere."""
        ready = self._ready.get(query.key)
        if ready is not None:
            return ready, _PLUGIN_ZONE
        if query.kind in (wire.AXFR, wire.IXFR):
            return replies.failure(wire.REFUSED), _PLUGIN_NONE
        if not self._zone.covers(query.name):
            if query.kind == wire.HINFO and self._upstream.is_own(query.name):
                return replies.failure(wire.REFUSED), _PLUGIN_NONE
            return self._upstream.remembered(query), _PLUGIN_CACHE
        if not self._names.known:
            return replies.failure(), _PLUGIN_ZONE
        answer = self._zone.answer(query.name, query.kind)
        # Who asks for the alias itself wants nothing of what it leads to.
        if query.kind != wire.CNAME and self._zone.outside_target(answer):
            return None, _PLUGIN_ZONE
        packed = replies.pack(query, answer)
        if len(self._ready) >= REMEMBERED:
            self._forget(*list(self._ready_of))
        self._ready[query.key] = packed
        self._ready_of.setdefault(self._zone.owner_of(query.name, answer), []).append(query.key)
        return packed, _PLUGIN_ZONE

    async def _forward(self, query: Query) -> Reply:
        try:
            if self._zone.covers(query.name):
                return await self._alias(query)
            return (await self._upstream.ask(query)).reply()
        except NoAnswer:
            return replies.failure()

    async def _alias(self, query: Query) -> Reply:
        """An ExternalName: its CNAME with what the outside says about the target."""
        answer = self._zone.answer(query.name, query.kind)
        target = self._zone.outside_target(answer)
        if not target:
            return replies.pack(query, answer)
        asked = replace(query, name=target, wire=wire.name_data(target) + query.wire[-4:])
        found = await self._upstream.ask(asked)
        return replies.pack(query, Answer(found.rcode, (*answer.answers, *answers(found, asked))))

    def add_up(self) -> Tally:
        """What was counted, complete."""
        for quick in self._quick:
            quick.add_up()
        return self.tally

    # --- counting ----------------------------------------------------------------------------------------------------

    def _count(self, proto: str, family: str, kind: int, size: int) -> None:
        self.tally.requests[proto, family, wire.told_apart(kind)] += 1
        self.tally.request_sizes[proto].add(size)

    def _said(self, rcode: int, plugin: str, answer: bytes, udp: bool, began: float) -> None:
        tally = self.tally
        tally.responses[plugin, rcode] += 1
        tally.response_sizes["udp" if udp else "tcp"].add(len(answer))
        tally.seconds.add(time.perf_counter() - began)

    # --- what is known -----------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        if self._following:
            return
        self._following = True
        self._names.follow()
        if self._configured is not None:
            self._configured.on_change(self._configure)

    def _names_changed(self, service: str) -> None:
        if self._keeper is not None:
            self._keeper.changed()
        self._forget("", service)

    def _forget(self, *services: str) -> None:
        """Answers that depend on these Services, "" for those that depend on more than one."""
        for service in services if self._ready else ():
            for question in self._ready_of.pop(service, ()):
                if self._ready.pop(question, None) is not None:
                    for quick in self._quick:
                        quick.forget(question)

    def _servers_of(self, name: str) -> tuple[Address, ...]:
        return self._settings.stub_of(name) or self._settings.upstream or self._host.servers()

    def _configure(self, changed: Obj) -> None:
        if key(changed) != SETTINGS or self._configured is None:
            return
        now = self._configured.get(SETTINGS)
        try:
            settings = Settings.parse((now or {}).get("data") or {}, own=self._addresses)
        except SettingsInvalid as error:
            log.error("DNS goes on with its former settings", configmap=SETTINGS, error=str(error))
            return
        if settings != self._settings:
            self._settings = settings
            self._upstream.forget()
            log.info("DNS has new settings", stub_domains=sorted(settings.stubs), upstream=settings.upstream)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer, quick: QuickAnswers) -> None:
        self._server = server
        self._quick = quick
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Client) -> None:
        transport = self._transport
        if transport is None or len(data) < 12:
            return
        known = self._quick.answer(data)
        if known is not None:
            transport.sendto(known, addr)
            return

        def say(answer: bytes) -> None:
            if not transport.is_closing():
                transport.sendto(answer, addr)

        self._server.take(data, say, addr[0], udp=True, quick=self._quick)
