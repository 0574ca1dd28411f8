"""Our channel of gRPC against a server made of the h2 library, which judges every frame that we send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest

from orca.store.wire import Channel, Code, RpcError
from orca.store.wire import connection as wire_connection

Answer = Callable[["Peer", int, bytes], Coroutine[None, None, None]]
OK = [("grpc-status", "0"), ("grpc-message", "")]


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


class Peer(asyncio.Protocol):
    """A server: `answer(peer, stream, request)` for every complete request."""

    def __init__(self, answer: Answer, settings: Mapping[int, int], *, credit: bool) -> None:
        self.answer, self.credit = answer, credit
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.settings = settings
        self.bodies: dict[int, bytes] = {}
        self.reset: list[int] = []
        self.open = self.most = 0
        self.withheld: dict[int, int] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.h2.initiate_connection()
        self.h2.update_settings({**self.settings})
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.RequestReceived(stream_id=stream) if stream is not None:
                    self.bodies[stream] = b""
                    self.open += 1
                    self.most = max(self.most, self.open)
                case h2.events.DataReceived(stream_id=stream, data=part, flow_controlled_length=size):
                    assert stream is not None
                    assert size is not None
                    self.bodies[stream] += part or b""
                    if self.credit:
                        self.h2.acknowledge_received_data(size, stream)
                    else:
                        self.withheld[stream] = self.withheld.get(stream, 0) + size
                case h2.events.StreamEnded(stream_id=stream) if stream is not None:
                    task = asyncio.create_task(self.answer(self, stream, self.bodies[stream][5:]))
                    self.tasks.add(task)
                case h2.events.StreamReset(stream_id=stream) if stream is not None:
                    self.reset.append(stream)
        self.flush()

    def reply(self, stream: int, *messages: bytes, trailers: list[tuple[str, str]] | None = None) -> None:
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        whole = b"".join(map(message, messages))
        for at in range(0, len(whole), 16_000):
            self.h2.send_data(stream, whole[at : at + 16_000], pad_length=7)
        self.h2.send_headers(stream, trailers or OK, end_stream=True)
        self.open -= 1
        self.flush()


async def echo(peer: Peer, stream: int, request: bytes) -> None:
    peer.reply(stream, request)


@asynccontextmanager
async def serving(
    answer: Answer = echo, settings: Mapping[int, int] | None = None, *, credit: bool = True
) -> AsyncIterator[tuple[Channel, list[Peer]]]:
    peers: list[Peer] = []

    def make() -> Peer:
        peers.append(Peer(answer, settings or {}, credit=credit))
        return peers[-1]

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    channel = Channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield channel, peers
    finally:
        await channel.close()
        server.close()


async def ask(channel: Channel, data: bytes, seconds: float = 5) -> bytes:
    call = channel.unary_unary("/test/Echo", bytes, bytes)
    answer: bytes = await call(data, timeout=seconds)
    return answer


async def test_many_at_a_time() -> None:
    async with serving() as (channel, peers):
        wanted = [b"%d" % number for number in range(300)]
        assert await asyncio.gather(*(ask(channel, one) for one in wanted)) == wanted
        assert len(peers) == 1


async def test_long_requests_keep_to_windows_and_frame_sizes() -> None:
    settings: dict[int, int] = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 5000}
    async with serving(settings=settings) as (channel, _):
        wanted = [bytes([number]) * size for number, size in enumerate((0, 995, 996, 70_000, 300_000))]
        assert await asyncio.gather(*(ask(channel, one) for one in wanted)) == wanted


async def test_one_that_may_not_send_does_not_hold_up_others() -> None:
    async with serving(credit=False) as (channel, peers):
        await ask(channel, b"")  # settings are known
        stuck = asyncio.create_task(ask(channel, b"x" * 65_535))
        await asyncio.sleep(0.05)
        assert not stuck.done()
        peer = peers[0]
        peer.h2.increment_flow_control_window(1 << 20)
        peer.flush()
        assert await ask(channel, b"small") == b"small"
        assert not stuck.done()  # its own window is used up
        for stream in peer.withheld:
            if stream in peer.bodies and len(peer.bodies[stream]) > 60_000:
                peer.h2.increment_flow_control_window(1 << 20, stream)
        peer.flush()
        assert len(await stuck) == 65_535


async def test_no_more_streams_than_allowed() -> None:
    async def slowly(peer: Peer, stream: int, request: bytes) -> None:
        await asyncio.sleep(0.005)
        peer.reply(stream, request)

    async with serving(slowly, {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as (channel, peers):
        await ask(channel, b"")
        assert len(await asyncio.gather(*(ask(channel, b"%d" % number) for number in range(20)))) == 20
        assert peers[0].most <= 2


async def test_errors_in_trailers_with_and_without_an_answer() -> None:
    trailers = [("grpc-status", "11"), ("grpc-message", "etcdserver: revision %E2%9C%93")]

    async def refuse(peer: Peer, stream: int, request: bytes) -> None:
        if request:
            peer.reply(stream, trailers=trailers)
        else:
            peer.h2.send_headers(stream, [(":status", "200"), *trailers], end_stream=True)
            peer.flush()

    async with serving(refuse) as (channel, _):
        for request in (b"a", b""):
            with pytest.raises(RpcError) as caught:
                await ask(channel, request)
            assert caught.value.code is Code.OUT_OF_RANGE
            assert caught.value.details == "etcdserver: revision ✓"


@pytest.mark.parametrize(
    ("code", "sent"), [(h2.errors.ErrorCodes.REFUSED_STREAM, False), (h2.errors.ErrorCodes.INTERNAL_ERROR, True)]
)
async def test_a_reset_tells_whether_it_was_handled(code: h2.errors.ErrorCodes, sent: bool) -> None:
    async def reset(peer: Peer, stream: int, request: bytes) -> None:
        peer.h2.reset_stream(stream, code)
        peer.flush()

    async with serving(reset) as (channel, _):
        with pytest.raises(RpcError) as caught:
            await ask(channel, b"")
        assert caught.value.code is Code.UNAVAILABLE
        assert ("failed to connect" in str(caught.value.details)) is not sent


async def test_what_a_lost_connection_did_is_unknown_and_the_next_call_connects_anew() -> None:
    async def hang_up(peer: Peer, stream: int, request: bytes) -> None:
        if request == b"bye":
            peer.transport.abort()
        else:
            peer.reply(stream, request)

    async with serving(hang_up) as (channel, peers):
        with pytest.raises(RpcError) as caught:
            await ask(channel, b"bye")
        assert caught.value.code is Code.UNAVAILABLE
        assert "failed to connect" not in str(caught.value.details)
        assert await ask(channel, b"again") == b"again"
        assert len(peers) == 2


async def test_going_away_ends_nothing_that_has_begun() -> None:
    async def go(peer: Peer, stream: int, request: bytes) -> None:
        if request == b"go":
            # Gracefully: up to the last one that is known.
            peer.h2.close_connection(last_stream_id=stream)
            data = peer.h2.data_to_send()
            peer.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
            peer.transport.write(data)
            await asyncio.sleep(0.02)
        peer.reply(stream, request)

    async with serving(go) as (channel, peers):
        assert await ask(channel, b"go") == b"go"
        assert await ask(channel, b"next") == b"next"
        assert len(peers) == 2


async def test_a_deadline_and_a_cancellation_reset_the_stream() -> None:
    async def never(peer: Peer, stream: int, request: bytes) -> None:
        pass

    async with serving(never) as (channel, peers):
        with pytest.raises(RpcError) as caught:
            await ask(channel, b"", 0.05)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        asking = asyncio.create_task(ask(channel, b""))
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0.02)
        assert peers[0].reset == [1, 3]


async def test_nobody_listens() -> None:
    async with serving() as (channel, _):
        pass
    absent = Channel(channel._address)
    with pytest.raises(RpcError) as caught:
        await ask(absent, b"")
    assert "failed to connect" in str(caught.value.details)
    await absent.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "etcd.sock:0")
    server = await asyncio.get_running_loop().create_unix_server(lambda: Peer(echo, {}, credit=True), path)
    channel = Channel(f"unix:{path}")
    assert await ask(channel, b"here") == b"here"
    await channel.close()
    server.close()


async def test_a_stream_of_answers_in_pieces() -> None:
    async def pour(peer: Peer, stream: int, request: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", "200")])
        whole = b"".join(message(b"%d" % number * number) for number in range(50))
        for at in range(0, len(whole), 11):
            peer.h2.send_data(stream, whole[at : at + 11])
            peer.flush()
            if at % 110 == 0:
                await asyncio.sleep(0)
        peer.h2.send_headers(stream, OK, end_stream=True)
        peer.flush()

    async with serving(pour) as (channel, _):
        stream = channel.stream_stream("/test/Pour", bytes, bytes)(iter([b"go"]), timeout=5)
        assert [one async for one in stream] == [b"%d" % number * number for number in range(50)]
        stream.cancel()


async def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_connection, "KEEPALIVE_SECONDS", 0.05)
    monkeypatch.setattr(wire_connection, "KEEPALIVE_TIMEOUT", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    channel = Channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(RpcError) as caught:
        await ask(channel, b"")
    assert caught.value.code is Code.UNAVAILABLE
    assert "silent" in str(caught.value.details)
    await channel.close()
    server.close()


async def test_nonsense_ends_the_connection() -> None:
    async def nonsense(peer: Peer, stream: int, request: bytes) -> None:
        peer.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"\xff" * 100)

    async with serving(nonsense) as (channel, _):
        with pytest.raises(RpcError) as caught:
            await ask(channel, b"", 0.2)
        assert caught.value.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
