"""The gRPC channel against a peer of a few lines that sends the frames a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from orca.store.rpc import DEADLINE_EXCEEDED, UNAVAILABLE, Channel, RpcError

HEAD = b"\x88"
OK = b"\x40\x0bgrpc-status\x010"


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def message(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4, "big") + body


class Peer:
    """Reads frames; `answer` writes them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.write = writer.write

    async def next(self) -> tuple[int, int, int, bytes]:
        head = await self._reader.readexactly(9)
        body = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), body

    async def call(self) -> tuple[int, bytes]:
        """(stream, message) of the next whole call."""
        data = b""
        while True:
            kind, flags, stream, body = await self.next()
            if kind == 0:
                data += body
                if flags & 1:
                    return stream, data[5:]


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def channel(script: Script) -> AsyncIterator[Channel]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(24)
            await script(Peer(reader, writer))
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Channel([f"127.0.0.1:{server.sockets[0].getsockname()[1]}"])
    try:
        yield made
    finally:
        await made.close()
        server.close()


async def test_an_answer_in_pieces() -> None:
    async def script(peer: Peer) -> None:
        peer.write(frame(4, 0, 0, b""))
        stream, asked = await peer.call()
        whole = frame(1, 4, stream, HEAD) + frame(0, 0, stream, message(asked * 2)) + frame(1, 5, stream, OK)
        for byte in whole:
            peer.write(bytes((byte,)))
            await asyncio.sleep(0)

    async with channel(script) as one:
        assert await one.unary("/a/B", b"twice ", 5) == b"twice twice "


async def test_a_failure_tells_its_code_and_text() -> None:
    async def script(peer: Peer) -> None:
        stream, _ = await peer.call()
        text = b"not%20here"
        trailer = b"\x40\x0bgrpc-status\x015" + b"\x40\x0cgrpc-message" + bytes((len(text),)) + text
        # Cut in two: the block goes on in a CONTINUATION.
        peer.write(frame(1, 1, stream, trailer[:7]) + frame(9, 4, stream, trailer[7:]))

    async with channel(script) as one:
        with pytest.raises(RpcError) as caught:
            await one.unary("/a/B", b"", 5)
    assert (caught.value.code, caught.value.details, caught.value.never_sent) == (5, "not here", False)


async def test_a_long_request_waits_for_the_window() -> None:
    async def script(peer: Peer) -> None:
        got = 0
        while True:
            kind, flags, stream, body = await peer.next()
            if kind != 0:
                continue
            got += len(body)
            assert len(body) <= 16384
            if flags & 1:
                break
            wider = len(body).to_bytes(4, "big")
            peer.write(frame(8, 0, 0, wider) + frame(8, 0, stream, wider))
        peer.write(
            frame(1, 4, stream, HEAD) + frame(0, 0, stream, message(str(got).encode())) + frame(1, 5, stream, OK)
        )

    async with channel(script) as one:
        assert await one.unary("/a/B", b"x" * 300_000, 5) == b"300005"


async def test_silence_ends_at_the_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.call()

    async with channel(script) as one:
        with pytest.raises(RpcError) as caught:
            await one.unary("/a/B", b"", 0.05)
    assert caught.value.code == DEADLINE_EXCEEDED


async def test_a_peer_that_leaves() -> None:
    async def script(peer: Peer) -> None:
        first, _ = await peer.call()
        await peer.call()
        # Only the first is answered for: the second was not looked at.
        peer.write(frame(7, 0, 0, first.to_bytes(4, "big") + bytes(4)))
        peer.write(frame(0, 0, first, message(b"done")) + frame(1, 5, first, OK))

    async with channel(script) as one:
        calls = [asyncio.create_task(one.unary("/a/B", b"", 5)) for _ in range(2)]
        first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert first == b"done"
    assert isinstance(second, RpcError)
    assert (second.code, second.never_sent) == (UNAVAILABLE, True)


async def test_nobody_listens() -> None:
    with pytest.raises(RpcError) as caught:
        await Channel(["127.0.0.1:1"]).unary("/a/B", b"", 1)
    assert caught.value.never_sent


async def test_a_stream_of_messages() -> None:
    async def script(peer: Peer) -> None:
        stream = 0
        while not stream:
            kind, _, number, _ = await peer.next()
            stream = number if kind == 0 else 0
        both = message(b"one") + message(b"two")
        peer.write(frame(1, 4, stream, HEAD) + frame(0, 0, stream, both[:9]) + frame(0, 0, stream, both[9:]))
        peer.write(frame(3, 0, stream, (2).to_bytes(4, "big")))

    seen = []

    async def follow(one: Channel) -> None:
        async for body in one.stream("/a/Watch", b""):
            seen.append(body)

    async with channel(script) as one:
        with pytest.raises(RpcError) as caught:
            await follow(one)
    assert seen == [b"one", b"two"]
    assert caught.value.code == UNAVAILABLE
