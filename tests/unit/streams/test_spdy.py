"""SPDY/3.1 without I/O: a server and a client of ours talk to each other, whatever way the bytes are cut."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.server import spdy
from agents.server.spdy import SpdyConnection


def pair() -> tuple[SpdyConnection, SpdyConnection]:
    return SpdyConnection(server=True), SpdyConnection(server=False)


def pass_on(sender: SpdyConnection, receiver: SpdyConnection) -> list[spdy.Event]:
    return receiver.receive(sender.take())


def opened() -> tuple[SpdyConnection, SpdyConnection, int]:
    """A stream of the client that the server has replied to."""
    server, client = pair()
    stream = client.open({"streamtype": "stdin"})
    pass_on(client, server)
    server.reply(stream)
    pass_on(server, client)
    return server, client, stream


def settings(window: int) -> bytes:
    """What a peer that keeps windows sends: SETTINGS with its initial window."""
    body = struct.pack("!III", 1, spdy.SETTINGS_INITIAL_WINDOW, window)
    return struct.pack("!II", 0x80000000 | spdy.VERSION << 16 | spdy.FrameType.SETTINGS, len(body)) + body


def test_the_dictionary_is_the_one_of_the_specification() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_a_stream_is_opened_replied_to_and_ended_by_both_sides() -> None:
    server, client = pair()
    stream = client.open({"StreamType": "error", "port": "80"})
    assert pass_on(client, server) == [spdy.StreamOpened(1, {"streamtype": "error", "port": "80"})]
    server.reply(stream, {"ok": "1"})
    server.send(stream, b"hello")
    server.end(stream)
    assert pass_on(server, client) == [
        spdy.StreamReplied(1, {"ok": "1"}),
        spdy.DataReceived(1, b"hello"),
        spdy.StreamEnded(1),
    ]
    assert client.send(stream, b"bye") == 3
    client.end(stream)
    assert pass_on(client, server) == [spdy.DataReceived(1, b"bye"), spdy.StreamEnded(1)]
    assert not server.knows(stream)
    assert not client.knows(stream)


def test_headers_of_several_streams_share_one_compression_state() -> None:
    server, client = pair()
    ids = [client.open({"streamtype": kind, "requestid": str(n)}) for n, kind in enumerate(["error", "data"] * 20)]
    events = pass_on(client, server)
    assert [event.stream for event in events if isinstance(event, spdy.StreamOpened)] == ids
    assert events[-1] == spdy.StreamOpened(ids[-1], {"streamtype": "data", "requestid": "39"})


@given(st.lists(st.binary(max_size=200_000), max_size=4), st.lists(st.integers(1, 100_000), min_size=1, max_size=30))
def test_bytes_arrive_whole_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    server, client, stream = opened()
    for message in messages:
        view = memoryview(message)
        while view:
            view = view[client.send(stream, view) :]
    client.end(stream)
    wire = client.take()
    events: list[spdy.Event] = []
    position = 0
    while position < len(wire):
        step = cuts[position % len(cuts)]
        events += server.receive(wire[position : position + step])
        position += step
    assert b"".join(e.data for e in events if isinstance(e, spdy.DataReceived)) == b"".join(messages)
    assert events[-1] == spdy.StreamEnded(stream)


def test_nothing_may_be_sent_after_our_end() -> None:
    server, _, stream = opened()
    server.end(stream)
    server.end(stream)
    with pytest.raises(spdy.StreamClosed):
        server.send(stream, b"x")


def test_a_reset_ends_both_directions() -> None:
    server, client, stream = opened()
    client.reset(stream)
    assert pass_on(client, server) == [spdy.StreamReset(stream, spdy.ResetStatus.CANCEL)]
    with pytest.raises(spdy.StreamClosed):
        server.send(stream, b"x")
    assert not server.knows(stream)


def test_pings_are_answered_and_our_own_are_recognised() -> None:
    server, client = pair()
    ping = client.ping()
    assert pass_on(client, server) == []
    assert pass_on(server, client) == [spdy.PongReceived(ping)]


def test_after_going_away_new_streams_are_refused_and_old_ones_go_on() -> None:
    server, client, stream = opened()
    server.go_away()
    assert pass_on(server, client) == [spdy.GoneAway(stream, 0)]
    late = client.open({"streamtype": "data"})
    client.send(stream, b"still")
    assert pass_on(client, server) == [spdy.DataReceived(stream, b"still")]
    assert pass_on(server, client) == [spdy.StreamReset(late, spdy.ResetStatus.REFUSED_STREAM)]


def test_windows_bind_only_for_a_peer_that_keeps_them() -> None:
    server, client, stream = opened()
    for _ in range(10):
        assert server.send(stream, b"x" * 65536) == 65536
    pass_on(server, client)
    # A peer that announces a window is one that keeps it, and what was sent counts.
    assert server.receive(settings(100)) == [spdy.WindowOpened(0)]
    assert server.send(stream, b"x") == 0


def test_a_window_opens_as_the_peer_consumes() -> None:
    server, client = pair()
    server.receive(settings(100))
    client.receive(settings(65536))
    stream = client.open({})
    pass_on(client, server)
    server.reply(stream)
    assert server.send(stream, b"x" * 500) == 100
    assert server.send(stream, b"x") == 0
    pass_on(server, client)
    client.consumed(stream, 40_000)
    assert pass_on(client, server) == [spdy.WindowOpened(stream)]
    assert server.send(stream, b"x" * 500) == 500


@pytest.mark.parametrize(
    "wire",
    [
        struct.pack("!II", 0x80000000 | 2 << 16 | 1, 10) + bytes(10),
        struct.pack("!II", 0x80030001, 0xFFFFFF),
        struct.pack("!II", 0x80030001, 2) + b"ab",
        struct.pack("!II", 0x80030001, 14) + struct.pack("!IIBB", 1, 0, 0, 0) + b"junk",
        struct.pack("!III", 0x80030004, 4, 9),
    ],
    ids=["version", "length", "short", "headers", "settings"],
)
def test_nonsense_ends_the_connection_with_a_goaway(wire: bytes) -> None:
    server = SpdyConnection()
    with pytest.raises(spdy.SpdyError):
        server.receive(wire)
    assert struct.unpack_from("!II", server.take()) == (0x80030007, 8)


def test_unknown_frames_are_ignored() -> None:
    server = SpdyConnection()
    assert server.receive(struct.pack("!II", 0x80030063, 3) + b"abc") == []


@given(st.binary(max_size=500))
def test_no_bytes_make_it_fail_otherwise(wire: bytes) -> None:
    server = SpdyConnection()
    try:
        server.receive(wire)
    except spdy.SpdyError:
        pass


def test_data_for_a_stream_that_never_was_is_answered_with_a_reset() -> None:
    server, _ = pair()
    assert server.receive(struct.pack("!II", 7, 1) + b"x") == []
    assert struct.unpack("!IIII", server.take()) == (0x80030003, 8, 7, spdy.ResetStatus.INVALID_STREAM)
