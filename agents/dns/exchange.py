"""One question put to one nameserver, over UDP, and over TCP when the answer does not fit.

Every question leaves from a port of its own, which the kernel draws, and under an identity that nobody can guess.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable

from agents.dns import wire
from agents.dns.nameservers import Address
from agents.dns.received import fits, is_truncated
from agents.dns.wire import Query

Exchange = Callable[[Address, Query, float], Awaitable[bytes]]
"""`exchange(server, query, seconds)`: the whole answer. Raises OSError or TimeoutError when there is none."""
_WITHOUT_EDNS = (wire.FORMERR, wire.NOTIMP)


async def exchange(server: Address, query: Query, seconds: float) -> bytes:
    """See `Exchange`; a nameserver that does not know EDNS is asked again without."""
    async with asyncio.timeout(seconds):
        answer = await _over_udp(server, query, edns=True)
        edns = True
        if answer[3] & 15 in _WITHOUT_EDNS:
            edns = False
            answer = await _over_udp(server, query, edns=False)
        if is_truncated(answer):
            answer = await _over_tcp(server, query, edns=edns)
        return answer


async def _over_udp(server: Address, query: Query, *, edns: bool) -> bytes:
    loop = asyncio.get_running_loop()
    identity, message = _question(query, edns=edns)
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _OneAnswer(identity, query), remote_addr=(server.ip, server.port)
    )
    try:
        transport.sendto(message)
        return await protocol.answer
    finally:
        transport.close()


async def _over_tcp(server: Address, query: Query, *, edns: bool) -> bytes:
    identity, message = _question(query, edns=edns)
    reader, writer = await asyncio.open_connection(server.ip, server.port)
    try:
        writer.write(struct.pack(">H", len(message)) + message)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        answer = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise OSError(f"{server} closed the connection") from error
    finally:
        writer.close()
    if not fits(answer, identity, query):
        raise OSError("the answer is to another question")
    return answer


def _question(query: Query, *, edns: bool) -> tuple[int, bytes]:
    identity = int.from_bytes(os.urandom(2), "big")
    flags = wire.RECURSION_DESIRED | query.flags & (wire.AUTHENTIC | wire.CHECKING_DISABLED)
    extra = wire.opt_record(dnssec=query.dnssec) if edns else b""
    return identity, wire.HEADER.pack(identity, flags, 1, 0, 0, 1 if edns else 0) + query.wire + extra


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
