"""Streams over a connection that a test holds in its hand."""

from __future__ import annotations

import asyncio

import pytest

from agents.server import spdy, spdy_session
from agents.server.remote import exited, failed
from agents.server.spdy import SpdyConnection
from agents.server.spdy_command import parse_size
from agents.server.spdy_session import READ_BUFFER, SpdySession, SpdyStream
from tests.support.patience import PATIENCE


class Wire:
    """A ByteStream whose other end is a client of ours. `blocked` makes it take no bytes."""

    def __init__(self) -> None:
        self.client = SpdyConnection(server=False)
        self.events: list[spdy.Event] = []
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.closed = False
        self.reads = 0
        self._to_server: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        self.reads += 1
        return await self._to_server.get()

    async def write(self, data: bytes) -> None:
        await self.may_write.wait()
        self.events += self.client.receive(data)

    async def close(self) -> None:
        self.closed = True

    def push(self) -> None:
        """What the client has to say goes out."""
        self._to_server.put_nowait(self.client.take())

    def hang_up(self) -> None:
        self._to_server.put_nowait(b"")

    def data(self, stream: int) -> bytes:
        return b"".join(e.data for e in self.events if isinstance(e, spdy.DataReceived) and e.stream == stream)


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
async def wire() -> Wire:
    return Wire()


async def start(wire: Wire) -> tuple[SpdySession, SpdyStream, asyncio.Task[None]]:
    session = SpdySession(wire)
    running = asyncio.create_task(session.run())
    wire.client.open({"streamtype": "data"})
    wire.push()
    stream = await session.accept()
    assert stream is not None
    return session, stream, running


async def test_what_is_written_arrives_and_what_is_sent_is_read(wire: Wire) -> None:
    _, stream, running = await start(wire)
    await stream.write(b"hello " * 50_000)
    wire.client.send(stream.id, b"there")
    wire.client.end(stream.id)
    wire.push()
    assert (await stream.read(), await stream.read()) == (b"there", b"")
    await settle()
    assert wire.data(stream.id) == b"hello " * 50_000
    wire.hang_up()
    await running


async def test_a_slow_reader_stops_the_reading_of_the_connection(wire: Wire) -> None:
    _, stream, running = await start(wire)
    for _ in range(2 * READ_BUFFER // 65536):
        wire.client.send(stream.id, b"x" * 65536)
        wire.push()
    await settle()
    held = wire.reads
    assert held < READ_BUFFER // 65536 + 4
    total = 0
    while total < 2 * READ_BUFFER:
        total += len(await stream.read())
    wire.hang_up()
    await running


async def test_a_peer_that_does_not_read_holds_writers_but_not_reading(wire: Wire) -> None:
    _, stream, running = await start(wire)
    await settle()
    wire.may_write.clear()
    writing = asyncio.create_task(stream.write(b"x" * 2_000_000))
    await settle()
    assert not writing.done()
    wire.client.send(stream.id, b"still heard")
    wire.push()
    assert await stream.read() == b"still heard"
    wire.may_write.set()
    await writing
    await settle()
    assert len(wire.data(stream.id)) == 2_000_000
    wire.hang_up()
    await running


async def test_a_lost_connection_wakes_everybody(wire: Wire) -> None:
    session, stream, running = await start(wire)
    await settle()
    wire.may_write.clear()
    writing = asyncio.create_task(stream.write(b"x" * 2_000_000))
    reading = asyncio.create_task(stream.read())
    accepting = asyncio.create_task(session.accept())
    await settle()
    wire.hang_up()
    await running
    assert await reading == b""
    assert await accepting is None
    with pytest.raises(ConnectionError):
        await writing


async def test_closing_sends_everything_then_waits_for_the_peer(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdy_session, "GOODBYE_SECONDS", PATIENCE)
    session, stream, running = await start(wire)
    await stream.write(b"last words")
    closing = asyncio.create_task(session.close())
    await settle()
    assert wire.data(stream.id) == b"last words"
    assert spdy.StreamEnded(stream.id) in wire.events
    assert not wire.closed
    wire.hang_up()
    await closing
    assert wire.closed
    await running


async def test_a_client_that_breaks_the_protocol_is_told_to_go(wire: Wire) -> None:
    session = SpdySession(wire)
    running = asyncio.create_task(session.run())
    wire._to_server.put_nowait(b"\x80\x02\x00\x01\x00\x00\x00\x00")
    await running
    assert [type(event) for event in wire.events] == [spdy.GoneAway]
    assert await session.accept() is None


def test_statuses_are_those_that_kubectl_reads() -> None:
    assert exited(0) == {"metadata": {}, "status": "Success"}
    assert exited(3)["reason"] == "NonZeroExitCode"
    assert exited(3)["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert failed("no engine")["message"] == "Internal error occurred: no engine"


@pytest.mark.parametrize(
    ("text", "size"),
    [(b'{"Width":80,"Height":24}', (80, 24)), (b'{"Width":0,"Height":24}', None), (b"junk", None), (b"[]", None)],
)
def test_terminal_sizes(text: bytes, size: tuple[int, int] | None) -> None:
    assert parse_size(text) == size
