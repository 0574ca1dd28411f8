"""Names that are not the cluster's: asked of the host's own nameservers, remembered as long as they say.

A nameserver that does not answer is left out for a while, so that only the first client waits for it; with none left
the answer is SERVFAIL at once.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from agents.dns import wire
from agents.dns.wire import Query
from orca.client.clock import Clock

TIMEOUT_SECONDS = 1.5
REST_SECONDS = 3.0
"""How long a silent nameserver is not asked."""
LONGEST_MEMORY = 30.0
FAILURE_MEMORY = 1.0
MEMORY_SIZE = 10_000
MAX_NAMESERVERS = 3


class NoAnswer(Exception):
    """No nameserver of the host answers."""


class ResolvConf:
    """The nameservers in a resolv.conf, read again when the file changes. Own addresses are no nameservers."""

    def __init__(self, path: Path = Path("/etc/resolv.conf"), *, own: Sequence[str] = ()) -> None:
        self._path = path
        self._own = frozenset(own)
        self._seen: tuple[int, int] = (0, 0)
        self._servers: tuple[str, ...] = ()

    def servers(self) -> tuple[str, ...]:
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_ino) != self._seen:
                self._seen = (stat.st_mtime_ns, stat.st_ino)
                words = [line.split() for line in self._path.read_text(errors="replace").splitlines()]
                named = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
                self._servers = tuple(dict.fromkeys(ip for ip in named if ip not in self._own))[:MAX_NAMESERVERS]
        except OSError:
            return ()
        return self._servers


class Upstream:
    """Asks nameservers and remembers. `ask` returns the packed answer or raises ``NoAnswer``."""

    def __init__(self, servers: Callable[[], Sequence[str]], clock: Clock, *, port: int = 53) -> None:
        self._servers = servers
        self._clock = clock
        self._port = port
        self._memory: OrderedDict[tuple[str, int, bool, bool], tuple[float, float, bytes]] = OrderedDict()
        self._resting: dict[str, float] = {}
        self._asking: dict[tuple[tuple[str, int, bool, bool], bool], asyncio.Future[bytes]] = {}

    async def ask(self, query: Query, *, tcp: bool = False) -> bytes:
        """The answer as the nameserver gave it (identity and spelling are those of whoever asked first)."""
        now = self._clock.monotonic()
        known = self._memory.get(query.key)
        if known and now < known[1] and not (tcp and wire.is_truncated(known[2])):
            return aged(known[2], int(now - known[0]), len(query.wire))
        # Several clients that ask the same at the same time wait for one answer.
        running = self._asking.get((query.key, tcp))
        if running is None:
            running = asyncio.ensure_future(self._ask_all(query, tcp))
            self._asking[(query.key, tcp)] = running
            running.add_done_callback(lambda done: self._finished((query.key, tcp), done))
        return await asyncio.shield(running)

    def _finished(self, key: tuple[tuple[str, int, bool, bool], bool], done: asyncio.Future[bytes]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def _ask_all(self, query: Query, tcp: bool) -> bytes:
        now = self._clock.monotonic()
        failed: bytes | None = None
        for server in self._servers():
            if self._resting.get(server, 0.0) > now:
                continue
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    answer = await (self._over_tcp if tcp else self._over_udp)(server, query)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self._resting[server] = self._clock.monotonic() + REST_SECONDS
                continue
            self._resting.pop(server, None)
            # Passed on, it is nobody's authority any more, and whoever asked us may ask for recursion again.
            answer = answer[:2] + bytes([answer[2] & ~0x04, answer[3] | 0x80]) + answer[4:]
            if answer[3] & 15 in (wire.SERVFAIL, wire.REFUSED, wire.NOTIMP):
                failed = answer
                continue
            self._remember(query, answer)
            return answer
        if failed is not None:
            return failed
        raise NoAnswer(query.name)

    async def _over_udp(self, server: str, query: Query) -> bytes:
        loop = asyncio.get_running_loop()
        identity, message = _question(query)
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: _OneAnswer(identity, query), remote_addr=(server, self._port)
        )
        try:
            transport.sendto(message)
            return await protocol.answer
        finally:
            transport.close()

    async def _over_tcp(self, server: str, query: Query) -> bytes:
        identity, message = _question(query)
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(struct.pack(">H", len(message)) + message)
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            answer = await reader.readexactly(length)
            if not fits(answer, identity, query):
                raise OSError("the answer is to another question")
            return answer
        finally:
            writer.close()

    def _remember(self, query: Query, answer: bytes) -> None:
        seconds = min(lifetime(answer, len(query.wire)), LONGEST_MEMORY)
        if seconds <= 0:
            return
        now = self._clock.monotonic()
        self._memory[query.key] = (now, now + seconds, answer)
        self._memory.move_to_end(query.key)
        while len(self._memory) > MEMORY_SIZE:
            self._memory.popitem(last=False)


class _OneAnswer(asyncio.DatagramProtocol):
    """Waits for the answer to one question; anything else that arrives is not it."""

    def __init__(self, identity: int, query: Query) -> None:
        self._identity, self._query = identity, query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if fits(data, self._identity, self._query) and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or OSError("closed"))
            self.answer.exception()


def fits(answer: bytes, identity: int, query: Query) -> bool:
    """Whether a message answers this question."""
    return (
        len(answer) >= 12 + len(query.wire)
        and answer[:2] == struct.pack(">H", identity)
        and bool(answer[2] & 0x80)
        and answer[12 : 12 + len(query.wire)].lower() == query.wire.lower()
    )


def lifetime(answer: bytes, question: int) -> float:
    """Seconds an answer may be remembered: the shortest TTL in it; for a negative one its SOA says."""
    rcode = answer[3] & 15
    if rcode not in (wire.NOERROR, wire.NXDOMAIN) or wire.is_truncated(answer):
        return 0.0
    ttls = []
    for offset, kind in _records(answer, question):
        if kind == wire.OPT:
            continue
        ttl = struct.unpack_from(">I", answer, offset)[0]
        if kind == wire.SOA:
            length = struct.unpack_from(">H", answer, offset + 4)[0]
            ttl = min(ttl, struct.unpack_from(">I", answer, offset + 6 + length - 4)[0])
        ttls.append(ttl)
    return float(min(ttls)) if ttls else FAILURE_MEMORY


def aged(answer: bytes, seconds: int, question: int) -> bytes:
    """The answer with TTLs that have run down meanwhile."""
    if seconds <= 0:
        return answer
    out = bytearray(answer)
    for offset, kind in _records(answer, question):
        if kind != wire.OPT:
            struct.pack_into(">I", out, offset, max(struct.unpack_from(">I", answer, offset)[0] - seconds, 0))
    return bytes(out)


def _records(message: bytes, question: int) -> list[tuple[int, int]]:
    """(offset of the TTL, type) of every record after the question; stops at what it cannot read."""
    found = []
    offset = 12 + question
    try:
        for _ in range(sum(struct.unpack_from(">HHH", message, 6))):
            while (length := message[offset]) and length < 0xC0:
                offset += 1 + length
            offset += 2 if length >= 0xC0 else 1
            kind, _, _, size = struct.unpack_from(">HHIH", message, offset)
            if offset + 10 + size > len(message):
                break
            found.append((offset + 4, kind))
            offset += 10 + size
    except (IndexError, struct.error):
        pass
    return found


def _question(query: Query) -> tuple[int, bytes]:
    """(identity, message): the same question under an identity nobody can guess."""
    identity = int.from_bytes(os.urandom(2), "big")
    extra = b"\0" + struct.pack(">HHBBHH", wire.OPT, wire.UDP_SIZE, 0, 0, 0x8000 if query.dnssec else 0, 0)
    counts = (1, 0, 0, 1 if query.edns else 0)
    return identity, struct.pack(">6H", identity, 0x100, *counts) + query.wire + (extra if query.edns else b"")
