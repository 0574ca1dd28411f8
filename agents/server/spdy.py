"""SPDY/3.1 frames and stream states, without I/O.

Spec: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/. kubectl before 1.31 speaks it for exec,
attach and port-forward, and newer ones inside a WebSocket for port-forward.

How it is used: feed what arrived to `receive`, act on the events; call `reply`, `send`, `reset`, … and write what
`take` gives. Rules kept here:

1. A stream is opened by its SYN_STREAM; ids of the peer only grow and have its parity (odd for clients).
2. Nothing may be sent on a stream after our FIN, nothing is accepted after the peer's; RST_STREAM ends both halves.
3. Header blocks share one zlib stream a direction, so every block must pass through it, also one nobody wants.
4. Send windows bind only once the peer has shown that it keeps them, by a WINDOW_UPDATE or an initial window in
   SETTINGS: the library in every kubectl neither sends nor honours window updates and would stall after 64 KiB.
   For the same reason we send updates only to a peer that does; back-pressure then is the connection's own.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

VERSION = 3
MAX_CONTROL_LENGTH = 1 << 18
MAX_HEADER_BYTES = 1 << 18
MAX_DATA_LENGTH = 1 << 16
INITIAL_WINDOW = 1 << 16
MAX_STREAM_ID = 0x7FFFFFFF
SETTINGS_INITIAL_WINDOW = 7
FLAG_FIN = 0x01
FLAG_UNIDIRECTIONAL = 0x02

_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_VALUES = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
# Section 2.6.10.1: names and values, each after its length, then a tail of plain text.
DICTIONARY = (
    b"".join(struct.pack("!I", len(word)) + word.encode() for word in (*_NAMES.split(), *_VALUES)) + _TAIL.encode()
)


class FrameType(enum.IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class ResetStatus(enum.IntEnum):
    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9
    FRAME_TOO_LARGE = 11


class State(enum.Enum):
    """Of one stream, as we see it."""

    OPEN = "open"
    ENDED_BY_PEER = "ended by peer"
    ENDED_BY_US = "ended by us"
    CLOSED = "closed"


class Move(enum.Enum):
    RECEIVE_FIN = "receive FIN"
    SEND_FIN = "send FIN"
    RESET = "reset"


TRANSITIONS: Mapping[tuple[State, Move], State] = {
    (State.OPEN, Move.RECEIVE_FIN): State.ENDED_BY_PEER,
    (State.OPEN, Move.SEND_FIN): State.ENDED_BY_US,
    (State.OPEN, Move.RESET): State.CLOSED,
    (State.ENDED_BY_PEER, Move.SEND_FIN): State.CLOSED,
    (State.ENDED_BY_PEER, Move.RESET): State.CLOSED,
    (State.ENDED_BY_US, Move.RECEIVE_FIN): State.CLOSED,
    (State.ENDED_BY_US, Move.RESET): State.CLOSED,
}


class SpdyError(Exception):
    """The peer broke the protocol; the connection cannot go on. A GOAWAY is among the bytes to send."""


class StreamClosed(Exception):
    """We may not send on this stream: it ended or was reset."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    stream: int
    headers: dict[str, str]
    """Names in lower case; several values of one name are joined by NUL, as on the wire."""


@dataclass(frozen=True, slots=True)
class StreamReplied:
    stream: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class DataReceived:
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer will send no more on this stream; we still may."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """More may be sent on this stream (0: on any) than before."""

    stream: int


@dataclass(frozen=True, slots=True)
class PongReceived:
    ping: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer will open no more streams and accepts none after `last_stream`."""

    last_stream: int
    status: int


Event = StreamOpened | StreamReplied | DataReceived | StreamEnded | StreamReset | WindowOpened | PongReceived | GoneAway


class _Stream:
    __slots__ = ("consumed", "replied", "state", "window")

    def __init__(self, window: int, replied: bool) -> None:
        self.state = State.OPEN
        self.replied = replied
        self.window = window
        self.consumed = 0

    def move(self, move: Move) -> None:
        try:
            self.state = TRANSITIONS[self.state, move]
        except KeyError:
            raise StreamClosed(f"cannot {move.value} when {self.state.value}") from None


class SpdyConnection:
    """One side of a connection; `server` is the side that did not dial."""

    def __init__(self, *, server: bool = True) -> None:
        self._server = server
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._input = bytearray()
        self._output: list[bytes] = []
        self._data_stream, self._data_left, self._data_fin = 0, 0, False
        self._streams: dict[int, _Stream] = {}
        self._last_peer_stream = 0
        self._next_stream = 2 if server else 1
        self._next_ping = 2 if server else 1
        self._keeps_windows = False
        self._initial_window = INITIAL_WINDOW
        self._gone_away = False

    def __repr__(self) -> str:
        side = "server" if self._server else "client"
        return f"<SpdyConnection {side}, {len(self._streams)} streams>"

    @property
    def pending(self) -> int:
        """Bytes that `take` would give."""
        return sum(map(len, self._output))

    def knows(self, stream_id: int) -> bool:
        """True while at least one half of the stream is open."""
        return stream_id in self._streams

    # --- what arrives ---------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Events in the bytes that arrived, in order. Raises SpdyError; `take` then has a GOAWAY to send first."""
        self._input += data
        events: list[Event] = []
        try:
            while self._receive_frame(events):
                pass
        except SpdyError:
            self.go_away(status=1)
            raise
        return events

    def _receive_frame(self, events: list[Event]) -> bool:
        """Consume one frame or part of a data frame; False when more bytes are needed."""
        if self._data_left:
            return self._receive_data(events)
        if len(self._input) < 8:
            return False
        first, second = struct.unpack_from("!II", self._input)
        flags, length = second >> 24, second & 0xFFFFFF
        if not first & 0x80000000:
            del self._input[:8]
            self._data_stream, self._data_left, self._data_fin = first, length, bool(flags & FLAG_FIN)
            if not length:
                self._end_data(events)
            return True
        if length > MAX_CONTROL_LENGTH:
            raise SpdyError(f"control frame of {length} bytes")
        if len(self._input) < 8 + length:
            return False
        body = bytes(self._input[8 : 8 + length])
        del self._input[: 8 + length]
        if (version := first >> 16 & 0x7FFF) != VERSION:
            raise SpdyError(f"version {version} of the protocol")
        try:
            self._receive_control(first & 0xFFFF, flags, body, events)
        except struct.error as error:
            raise SpdyError(f"frame of type {first & 0xFFFF} is too short") from error
        return True

    def _receive_data(self, events: list[Event]) -> bool:
        """Data is handed on as it comes: a frame may be 16 MiB, its pieces need not wait for each other."""
        if not self._input:
            return False
        chunk = bytes(self._input[: self._data_left])
        del self._input[: len(chunk)]
        self._data_left -= len(chunk)
        stream = self._streams.get(self._data_stream)
        if stream is None:
            if self._data_stream > self._last_peer_stream and not self._data_left:
                self._control(FrameType.RST_STREAM, 0, struct.pack("!II", self._data_stream, 2))
        elif stream.state in (State.OPEN, State.ENDED_BY_US):
            events.append(DataReceived(self._data_stream, chunk))
        if not self._data_left:
            self._end_data(events)
        return True

    def _end_data(self, events: list[Event]) -> None:
        if self._data_fin:
            self._peer_fin(self._data_stream, events)

    def _receive_control(self, kind: int, flags: int, body: bytes, events: list[Event]) -> None:
        match kind:
            case FrameType.SYN_STREAM:
                (stream_id,) = struct.unpack_from("!I", body)
                headers = self._inflate_headers(body[10:])
                if self._peer_opens(stream_id & MAX_STREAM_ID, flags):
                    events.append(StreamOpened(stream_id & MAX_STREAM_ID, headers))
                    if flags & FLAG_FIN:
                        self._peer_fin(stream_id & MAX_STREAM_ID, events)
            case FrameType.SYN_REPLY | FrameType.HEADERS:
                (stream_id,) = struct.unpack_from("!I", body)
                headers = self._inflate_headers(body[4:])
                stream = self._streams.get(stream_id & MAX_STREAM_ID)
                if stream is not None and kind == FrameType.SYN_REPLY and not stream.replied:
                    stream.replied = True
                    events.append(StreamReplied(stream_id & MAX_STREAM_ID, headers))
                if flags & FLAG_FIN:
                    self._peer_fin(stream_id & MAX_STREAM_ID, events)
            case FrameType.RST_STREAM:
                stream_id, status = struct.unpack("!II", body)
                stream = self._streams.pop(stream_id & MAX_STREAM_ID, None)
                if stream is not None:
                    stream.move(Move.RESET)
                    events.append(StreamReset(stream_id & MAX_STREAM_ID, status))
            case FrameType.SETTINGS:
                self._receive_settings(body, events)
            case FrameType.PING:
                (ping,) = struct.unpack("!I", body)
                if bool(ping & 1) == self._server:
                    self._control(FrameType.PING, 0, body)
                else:
                    events.append(PongReceived(ping))
            case FrameType.GOAWAY:
                last, status = struct.unpack("!II", body)
                events.append(GoneAway(last & MAX_STREAM_ID, status))
            case FrameType.WINDOW_UPDATE:
                stream_id, delta = struct.unpack("!II", body)
                self._receive_window(stream_id, delta, events)
            case _:
                pass  # Section 2.2.1: unknown control frames are ignored.

    def _peer_opens(self, stream_id: int, flags: int) -> bool:
        """Take a new stream in; False when it was refused."""
        if bool(stream_id & 1) != self._server or stream_id <= self._last_peer_stream:
            if stream_id in self._streams:
                raise SpdyError(f"stream {stream_id} opened twice")
            self._control(FrameType.RST_STREAM, 0, struct.pack("!II", stream_id, ResetStatus.PROTOCOL_ERROR))
            return False
        self._last_peer_stream = stream_id
        if self._gone_away:
            self._control(FrameType.RST_STREAM, 0, struct.pack("!II", stream_id, ResetStatus.REFUSED_STREAM))
            return False
        stream = self._streams[stream_id] = _Stream(self._initial_window, replied=False)
        if flags & FLAG_UNIDIRECTIONAL:
            stream.move(Move.SEND_FIN)
        return True

    def _peer_fin(self, stream_id: int, events: list[Event]) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.state is State.ENDED_BY_PEER:
            return
        self._move(stream_id, stream, Move.RECEIVE_FIN)
        events.append(StreamEnded(stream_id))

    def _receive_settings(self, body: bytes, events: list[Event]) -> None:
        (count,) = struct.unpack_from("!I", body)
        if len(body) < 4 + 8 * count:
            raise SpdyError("SETTINGS shorter than it says")
        for position in range(4, 4 + 8 * count, 8):
            key, value = struct.unpack_from("!II", body, position)
            if key & 0xFFFFFF == SETTINGS_INITIAL_WINDOW:
                self._keeps_windows = True
                for stream in self._streams.values():
                    stream.window += value - self._initial_window
                self._initial_window = value
                events.append(WindowOpened(0))

    def _receive_window(self, stream_id: int, delta: int, events: list[Event]) -> None:
        self._keeps_windows = True
        stream = self._streams.get(stream_id & MAX_STREAM_ID)
        if stream is not None:
            stream.window += delta & MAX_STREAM_ID
            events.append(WindowOpened(stream_id & MAX_STREAM_ID))

    def _inflate_headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, MAX_HEADER_BYTES)
            if self._inflate.unconsumed_tail:
                raise SpdyError("header block too large")
            (count,) = struct.unpack_from("!I", plain)
            headers, position = {}, 4
            for _ in range(count):
                name, position = _counted(plain, position)
                value, position = _counted(plain, position)
                headers[name.decode("latin-1").lower()] = value.decode("utf-8", "replace")
        except (zlib.error, struct.error) as error:
            raise SpdyError(f"header block: {error}") from error
        return headers

    # --- what we say ----------------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Bytes to write now; each is given once."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def open(self, headers: Mapping[str, str]) -> int:
        """Open a stream of ours; answers its id."""
        stream_id, self._next_stream = self._next_stream, self._next_stream + 2
        self._streams[stream_id] = _Stream(self._initial_window, replied=False)
        body = struct.pack("!IIBB", stream_id, 0, 0, 0) + self._deflate_headers(headers)
        self._control(FrameType.SYN_STREAM, 0, body)
        return stream_id

    def reply(self, stream_id: int, headers: Mapping[str, str] | None = None) -> None:
        """Accept a stream of the peer; must come before data on it. Raises StreamClosed."""
        stream = self._sendable(stream_id)
        if not stream.replied:
            stream.replied = True
            self._control(FrameType.SYN_REPLY, 0, struct.pack("!I", stream_id) + self._deflate_headers(headers or {}))

    def window(self, stream_id: int) -> int:
        """How many bytes may be sent on the stream now; raises StreamClosed."""
        stream = self._sendable(stream_id)
        return max(stream.window, 0) if self._keeps_windows else MAX_DATA_LENGTH

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        """Queue as much of `data` as the window allows in one frame; answers how many bytes. Raises StreamClosed."""
        stream = self._sendable(stream_id)
        count = min(len(data), MAX_DATA_LENGTH, self.window(stream_id))
        if count:
            stream.window -= count
            self._output.append(struct.pack("!II", stream_id, count))
            self._output.append(bytes(data[:count]))
        return count

    def end(self, stream_id: int) -> None:
        """We send no more on this stream. Harmless when that is so already."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.state is State.ENDED_BY_US:
            return
        self._output.append(struct.pack("!II", stream_id, FLAG_FIN << 24))
        self._move(stream_id, stream, Move.SEND_FIN)

    def reset(self, stream_id: int, status: ResetStatus = ResetStatus.CANCEL) -> None:
        """Break a stream off in both directions. Harmless when it is closed already."""
        if self._streams.pop(stream_id, None) is not None:
            self._control(FrameType.RST_STREAM, 0, struct.pack("!II", stream_id, status))

    def consumed(self, stream_id: int, count: int) -> None:
        """The application has taken `count` bytes of a stream; opens the peer's window when it keeps one."""
        stream = self._streams.get(stream_id)
        if stream is None or not self._keeps_windows:
            return
        stream.consumed += count
        if stream.consumed >= INITIAL_WINDOW // 2:
            self._control(FrameType.WINDOW_UPDATE, 0, struct.pack("!II", stream_id, stream.consumed))
            stream.consumed = 0

    def ping(self) -> int:
        """Ask for a PongReceived; answers its id."""
        ping, self._next_ping = self._next_ping, self._next_ping + 2
        self._control(FrameType.PING, 0, struct.pack("!I", ping))
        return ping

    def go_away(self, status: int = 0) -> None:
        """Accept no more streams of the peer; those that are open go on."""
        if not self._gone_away:
            self._gone_away = True
            self._control(FrameType.GOAWAY, 0, struct.pack("!II", self._last_peer_stream, status))

    def _sendable(self, stream_id: int) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None or stream.state is State.ENDED_BY_US:
            raise StreamClosed(f"stream {stream_id}")
        return stream

    def _move(self, stream_id: int, stream: _Stream, move: Move) -> None:
        stream.move(move)
        if stream.state is State.CLOSED:
            del self._streams[stream_id]

    def _control(self, kind: FrameType, flags: int, body: bytes) -> None:
        self._output.append(struct.pack("!II", 0x80000000 | VERSION << 16 | kind, flags << 24 | len(body)) + body)

    def _deflate_headers(self, headers: Mapping[str, str]) -> bytes:
        block = [struct.pack("!I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode()):
                block.append(struct.pack("!I", len(text)) + text)
        return self._deflate.compress(b"".join(block)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _counted(data: bytes, position: int) -> tuple[bytes, int]:
    """A length-prefixed string and where it ends."""
    (length,) = struct.unpack_from("!I", data, position)
    end = position + 4 + length
    if end > len(data):
        raise SpdyError("header longer than its block")
    return data[position + 4 : end], end
