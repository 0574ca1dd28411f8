"""What a client meets on a connection besides answers: ends, limits, and patience that is over."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from orca.server import connection as module
from orca.server.connection import FIELD_BYTES, HEAD_BYTES
from orca.server.whole import WholeResponse
from tests.support.wire import dialled, listening, reading, said

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


async def _answer(request: web.BaseRequest) -> web.StreamResponse:
    return WholeResponse(body=str(len(request.headers.get("Authorization", ""))).encode())


async def test_headers_are_as_long_as_tokens_get() -> None:
    async with listening(_answer, max_field_size=FIELD_BYTES) as server:
        token = b"x" * (FIELD_BYTES - 100)
        answer = await said(server.port, GET + b"Authorization: " + token + b"\r\nConnection: close\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n%d" % len(token)), answer[:200]
        longer = await said(server.port, GET + b"Authorization: " + b"x" * (FIELD_BYTES + 100) + b"\r\n\r\n")
        assert longer.split(b" ")[1] == b"400", longer[:200]


async def test_heads_have_an_end_together_with_all_their_fields() -> None:
    async with listening(_answer, max_field_size=FIELD_BYTES) as server, dialled(server.port) as (reader, writer):
        writer.write(GET)
        line = b"x" * (FIELD_BYTES - 100)
        with pytest.raises(ConnectionError):  # noqa: PT012 - whichever of the writes meets the end
            for number in range(2 * HEAD_BYTES // FIELD_BYTES):
                writer.write(b"X-%d: " % number + line + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
            assert await reader.read() == b""
            raise ConnectionError


async def test_who_waits_learns_at_once_that_the_server_ends() -> None:
    """A connection on which nothing is under way is closed, another after its answer, which says so."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        response = WholeResponse(body=b"late")
        if module.connection_of(request).ending:
            response.force_close()
        return response

    async with listening(slow) as server, dialled(server.port) as (idle, _), dialled(server.port) as (busy, writer):
        writer.write(GET + b"\r\n")
        await asked.wait()
        while len(server.connections) < 2:  # noqa: ASYNC110 - accepted by the loop
            await asyncio.sleep(0.001)
        server.factory.pre_shutdown()
        assert await idle.read() == b""
        go_on.set()
        answer = await busy.read()
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b"late")


async def test_an_answer_that_nobody_takes_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.05)

    async def large(request: web.BaseRequest) -> web.StreamResponse:
        return WholeResponse(body=b"x" * (32 << 20))

    async with listening(large) as server, dialled(server.port) as (reader, writer):
        reading(writer).pause_reading()
        writer.write(GET + b"\r\n")
        while not server.connections:  # noqa: ASYNC110 - accepted by the loop
            await asyncio.sleep(0.001)
        while server.connections:  # noqa: ASYNC110 - ended by its own timer
            await asyncio.sleep(0.01)
        reading(writer).resume_reading()
        taken = 0
        try:
            while more := await reader.read(1 << 20):
                taken += len(more)
        except ConnectionResetError:
            pass
        assert taken < 32 << 20


async def test_a_stream_may_be_read_as_slowly_as_one_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.01)

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(32):
            await response.write(b"x" * (1 << 20))
        return response

    async with listening(stream) as server, dialled(server.port) as (reader, writer):
        reading(writer).pause_reading()
        writer.write(GET + b"Connection: close\r\n\r\n")
        await asyncio.sleep(0.1)
        reading(writer).resume_reading()
        taken = 0
        while more := await reader.read(1 << 20):
            taken += len(more)
        assert taken > 32 << 20


async def test_what_is_sent_before_the_answer_to_an_upgrade_arrives_whole() -> None:
    """Also where it was so much that reading was put off."""
    fed: list[bytes] = []
    ended = asyncio.Event()

    class Peer(module.RawPeer):
        def feed(self, data: bytes) -> None:
            fed.append(data)
            if sum(map(len, fed)) == len(sent):
                ended.set()

    async def upgraded(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.05)  # so that some has come
        module.connection_of(request).go_raw(Peer())
        await ended.wait()
        raise ConnectionResetError

    sent = bytes(range(256)) * (1 << 12)
    async with listening(upgraded) as server, dialled(server.port) as (reader, writer):
        head = GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        writer.write(head + sent)
        await reader.read()
        assert b"".join(fed) == sent
