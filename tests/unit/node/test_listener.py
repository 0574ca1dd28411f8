"""The agent's ports under hostile clients: connections that never ask, and what is no HTTP."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from agents.server.auth import Guard
from agents.server.listener import Listener
from orca.client.clock import VirtualClock
from tests.support.patience import PATIENCE
from tests.support.ports import free_port


@asynccontextmanager
async def _listening(listener: Listener, *, refuse: bool = False) -> AsyncIterator[int]:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    guard = [Guard(None, "host-1", clock=VirtualClock()).middleware] if refuse else []
    app = web.Application(middlewares=[*guard, listener.middleware])
    app.router.add_get("/", hello)
    port = free_port()
    serving = asyncio.create_task(listener.serve(app, "127.0.0.1", port))
    try:
        for _ in range(5000):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.transport.abort()
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        yield port
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            while await reader.read(1024):
                pass
    except ConnectionResetError:
        return True
    return True


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The answer to a request; empty when the connection has ended."""
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(next(line[15:] for line in head.lower().splitlines() if line.startswith(b"content-length:")))
            return head + await reader.readexactly(length)
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""


async def test_who_never_asks_is_given_up() -> None:
    async with _listening(Listener(seconds=0.05)) as port:
        silent, _ = await asyncio.open_connection("127.0.0.1", port)
        slow, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert await _ended(silent)
        assert await _ended(slow)


async def test_who_was_let_in_stays() -> None:
    for seconds in (0.5, 5.0, 50.0):  # a host that is slower than that has given it up before it could ask
        async with _listening(Listener(seconds=seconds)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            first = await _asked(reader, writer)
            if not first:
                continue
            await asyncio.sleep(seconds + 0.2)
            assert first.startswith(b"HTTP/1.1 200")
            assert (await _asked(reader, writer)).startswith(b"HTTP/1.1 200")
            writer.close()
            return
    pytest.fail("nobody was let in")


async def test_who_is_refused_is_given_up_too() -> None:
    for seconds in (0.1, 1.0, 10.0):  # as above
        async with _listening(Listener(seconds=seconds), refuse=True) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answer = await _asked(reader, writer)
            assert await _ended(reader)
            if answer:
                assert answer.startswith(b"HTTP/1.1 401")
                return
    pytest.fail("nobody was answered")


async def test_of_too_many_strangers_the_oldest_goes() -> None:
    listener = Listener(most=3, seconds=60)
    async with _listening(listener) as port:
        before = len(os.listdir("/proc/self/fd"))
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        for reader, _ in connections[:2]:
            assert await _ended(reader)
        assert listener.strangers <= 3
        assert len(os.listdir("/proc/self/fd")) < before + 6 + 3 + 2, "sockets of those who were turned out stay open"
        reader, writer = connections[-1]
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in connections:
            writer.transport.abort()


async def test_what_is_no_http_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with _listening(Listener()) as port:
        for request in (
            b"\x16\x03\x01 what is this\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            async with asyncio.timeout(PATIENCE):
                assert b" 400 " in await reader.readline()
            writer.transport.abort()
    assert not [record for record in caplog.records if record.name.startswith("aiohttp.server")]
