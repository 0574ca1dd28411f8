"""Connections the kernel remembers and that lead to an endpoint that is gone, or past all endpoints.

A UDP client that keeps its source port would be sent to the dead address for ever. A TCP client connects anew, but from
a port that was used before, half-closed with the dead pod, it would be sent there too, for minutes. And whoever began
while there were no rules (somebody has flushed them) is remembered as untranslated: what he sends again follows that.
The decisions are pure (`stale`, `missed`); `ConntrackTable` reads and deletes through netlink, in a thread: with the
``conntrack`` program every deleted kind of flow costs a process and another look at the whole table.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from agents.network.sockets import attribute, attributes
from agents.proxy.model import ServicePort, family_of

log = structlog.get_logger()

_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIG, _TUPLE_REPLY, _ZONE = 1, 2, 18
_IP, _PROTO = 1, 2
_HEADER = struct.Struct("=IHHII")
_PROTOINFO = 4
_UDP, _TCP = 17, 6
ANSWER_SECONDS = 0.1
"""Within which any endpoint on any host answers a first packet that has reached it."""
_TCP_ASKED = 1
"""State SYN_SENT."""
_TCP_OPEN = (2, 3)
"""States SYN_RECV and ESTABLISHED."""
_STATUS, _STATUS_MASK, _SEEN_REPLY = 3, 26, 2


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """Remembered flows from any client: asked at ``destination:port``, answered by ``server``."""

    destination: str
    port: int
    server: str
    protocol: int = _UDP
    open: bool = False
    """A TCP connection that both sides may still be using."""
    asked: bool = False
    """A TCP connection that the server has not answered yet: its client will ask again."""

    @property
    def translated(self) -> bool:
        return self.destination != self.server


def stale(flows: Iterable[Flow], ports: Iterable[ServicePort], is_here: Callable[[str], bool]) -> list[Flow]:
    """Flows to a UDP service port that end at none of its endpoints that serve, or were not translated although they
    could be. ``is_here``: whether an address is one of this host's, which serve node ports.

    Policies, hints and the end of a pod that still serves are for new flows (kube-proxy's rule as well).
    """
    known = _Frontends(ports, "UDP")
    found = []
    for flow in flows:
        servers = known.servers(flow, is_here) if flow.protocol == _UDP else None
        if servers is not None and flow.server not in servers and (servers or flow.translated):
            found.append(flow)
    return sorted(found)


def missed(flows: Iterable[Flow], ports: Iterable[ServicePort], is_here: Callable[[str], bool]) -> list[Flow]:
    """TCP connections to service ports that nobody has answered, since no rule has translated them."""
    known = _Frontends(ports, "TCP")
    found = []
    for flow in flows:
        servers = known.servers(flow, is_here) if flow.protocol == _TCP and flow.asked else None
        if servers and flow.server not in servers and not flow.translated:
            found.append(flow)
    return sorted(found)


class _Frontends:
    """Which addresses answer for what can be asked at service ports of one protocol."""

    def __init__(self, ports: Iterable[ServicePort], protocol: str) -> None:
        self._addresses: dict[tuple[str, int], set[str]] = {}
        self._node_ports: dict[tuple[int, int], set[str]] = {}
        for port in ports:
            if port.protocol != protocol:
                continue
            servers = {*port.serving, *(endpoint.ip for endpoint in (*port.cluster, *port.local))}
            for address in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
                self._addresses[(address, port.port)] = servers
            if port.node_port:
                self._node_ports[(port.family, port.node_port)] = servers

    def servers(self, flow: Flow, is_here: Callable[[str], bool]) -> set[str] | None:
        """None when the flow asks for none of them."""
        servers = self._addresses.get((flow.destination, flow.port))
        if servers is None and (at := self._node_ports.get((family_of(flow.destination), flow.port))) is not None:
            # Untranslated ones to this number elsewhere are anybody's.
            servers = at if flow.translated or is_here(flow.destination) else None
        return servers


def dead(flows: Iterable[Flow], gone: Collection[str]) -> list[Flow]:
    """TCP flows that a service has sent to addresses no pod has any more, and that nobody uses."""
    return sorted(f for f in flows if f.protocol == _TCP and f.translated and not f.open and f.server in gone)


def unanswered(flows: Iterable[Flow], servers: Collection[str]) -> list[Flow]:
    """TCP connections that a service has sent to these addresses, and that were not answered."""
    return sorted(f for f in flows if f.translated and f.asked and f.server in servers)


class ConntrackTable:
    """The kernel's table of this host. Where it cannot be read, stale flows end by timeout, and the log says so."""

    def __init__(self) -> None:
        self._told = False

    async def sweep(self, services: Mapping[str, tuple[ServicePort, ...]]) -> int:
        """Delete the stale UDP flows of these services; returns how many."""
        ports = [port for ports in services.values() for port in ports if port.protocol == "UDP"]
        return await self._delete(lambda flows: stale(flows, ports, _is_here)) if ports else 0

    async def begin_anew(self, services: Mapping[str, tuple[ServicePort, ...]]) -> int:
        """After a time without rules: delete what began then and was not translated; returns how many."""
        ports = [port for ports in services.values() for port in ports]

        def choose(flows: set[Flow]) -> list[Flow]:
            return [*stale(flows, ports, _is_here), *missed(flows, ports, _is_here)]

        return await self._delete(choose) if ports else 0

    async def bury(self, gone: Collection[str]) -> int:
        """Delete TCP flows that ended at these addresses, of pods that are no more; returns how many."""
        return await self._delete(lambda flows: dead(flows, gone)) if gone else 0

    async def forget_unanswered(self, servers: Collection[str]) -> int:
        """Delete connections that these addresses, which get no new ones, have not answered; returns how many.

        A first packet that was lost is sent again a second later: it shall find another endpoint then.
        """
        # The kernel sorts out the others: the cost does not grow with connections that are in use.
        only = attribute(_STATUS, bytes(4)) + attribute(_STATUS_MASK, _SEEN_REPLY.to_bytes(4, "big"))
        # What is being answered in this very moment must not be torn apart: seen twice, the answer is really missing.
        wait = ANSWER_SECONDS
        return await self._delete(lambda flows: unanswered(flows, servers), only, twice=wait) if servers else 0

    async def _delete(self, choose: Callable[[set[Flow]], list[Flow]], only: bytes = b"", *, twice: float = 0.0) -> int:
        try:
            return await asyncio.get_running_loop().run_in_executor(None, _delete, choose, only, twice)
        except OSError as error:
            if not self._told:
                log.warning("clients may go on using endpoints that are gone", reason=str(error))
            self._told = True
            return 0


def connections(destination: str, port: int) -> Counter[str]:
    """How many flows (of TCP: connections in use) asked for an address and port, by the address that answers them.

    Blocking; for whoever looks for a fault. Raises OSError.
    """
    with contextlib.closing(
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    ) as table:
        table.settimeout(5.0)
        table.bind((0, 0))
        return Counter(
            flow.server
            for flow, _ in _entries(table)
            if (flow.destination, flow.port) == (destination, port) and (flow.open or flow.protocol == _UDP)
        )


def _is_here(address: str) -> bool:
    """Whether this host has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _delete(choose: Callable[[set[Flow]], list[Flow]], only: bytes = b"", twice: float = 0.0) -> int:
    """``twice``: only what is chosen again after so many seconds."""
    with contextlib.closing(
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    ) as table:
        table.settimeout(5.0)
        table.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        table.bind((0, 0))
        entries = list(_entries(table, only))
        gone = set(choose({flow for flow, _ in entries}))
        if gone and twice:
            before = {identity for flow, identity in entries if flow in gone}
            time.sleep(twice)
            entries = [entry for entry in _entries(table, only) if entry[1] in before]
            gone = set(choose({flow for flow, _ in entries}))
        count = 0
        for flow, identity in entries:
            if flow in gone:
                family = socket.AF_INET6 if ":" in flow.destination else socket.AF_INET
                table.send(_message(_DELETE, _REQUEST | _ACK, identity, family))
                code = -struct.unpack_from("=i", table.recv(65536), _HEADER.size)[0]
                # One that has ended by itself meanwhile is gone as well.
                if code not in (0, errno.ENOENT):
                    raise OSError(code, os.strerror(code))
                count += 1
        return count


def _entries(table: socket.socket, only: bytes = b"") -> Iterator[tuple[Flow, bytes]]:
    """(flow, the attributes that name it to the kernel) of every UDP and TCP entry. ``only``: attributes of a filter,
    which old kernels may not heed."""
    table.send(_message(_GET, _REQUEST | _DUMP, only, socket.AF_UNSPEC))
    while True:
        data = table.recv(1 << 18)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, offset)
            if kind == _DONE:
                return
            body = data[offset + _HEADER.size : offset + length]
            if kind == _ERROR:
                code = -struct.unpack_from("=i", body)[0]
                raise OSError(code, f"the connection table cannot be read: {os.strerror(code)}")
            if entry := read_entry(body[4:]):
                yield entry
            offset += (length + 3) & ~3


def read_entry(body: bytes) -> tuple[Flow, bytes] | None:
    """An entry of the dump, from its attributes; None when it is not UDP or TCP."""
    given = attributes(body)
    original, reply = ((attributes(given.get(each, b""))) for each in (_TUPLE_ORIG, _TUPLE_REPLY))
    protocol = attributes(original.get(_PROTO, b""))
    number = int.from_bytes(protocol.get(1, b""), "big")
    if number not in (_UDP, _TCP):
        return None
    asked, answered = ((attributes(each.get(_IP, b""))) for each in (original, reply))
    # Source and destination of IPv4 are numbers 1 and 2, those of IPv6 are 3 and 4.
    destination, server = asked.get(2) or asked.get(4, b""), answered.get(1) or answered.get(3, b"")
    port = protocol.get(3, b"")
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(destination))
    if family is None or len(server) != len(destination) or len(port) != 2:
        return None
    identity = attribute(_TUPLE_ORIG | 0x8000, given[_TUPLE_ORIG])
    if _ZONE in given:
        identity += attribute(_ZONE, given[_ZONE])
    tcp = attributes((attributes(given.get(_PROTOINFO, b""))).get(1, b""))
    state = int.from_bytes(tcp.get(1, b""), "big") if number == _TCP else 0
    asked_for, answers = socket.inet_ntop(family, destination), socket.inet_ntop(family, server)
    return Flow(
        asked_for, int.from_bytes(port, "big"), answers, number, state in _TCP_OPEN, state == _TCP_ASKED
    ), identity


def _message(kind: int, flags: int, attributes: bytes, family: int) -> bytes:
    head = _HEADER.pack(_HEADER.size + 4 + len(attributes), kind, flags, 1, 0)
    return head + struct.pack(">BBH", family, 0, 0) + attributes
