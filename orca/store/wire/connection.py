"""The client's half of an HTTP/2 connection, as gRPC needs it: no push, no priorities, flow control both ways."""

from __future__ import annotations

import asyncio
from collections import deque

from hpack import Decoder, HPACKError

from orca.store.wire.errors import NEVER_SENT, Code, RpcError
from orca.store.wire.frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    CREDIT_FROM,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FRAME_SIZE,
    GOAWAY,
    HEADERS,
    LARGEST_HEADERS,
    LARGEST_WINDOW,
    LAST_STREAM,
    NO_ERROR,
    PING,
    PREFACE,
    PUSH_PROMISE,
    REFUSED,
    RST_STREAM,
    SET_ENABLE_PUSH,
    SET_FRAME_SIZE,
    SET_STREAMS,
    SET_TABLE_SIZE,
    SET_WINDOW,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Broken,
    Headers,
    frame,
    status_of,
    unpadded,
)

_REMEMBERED = 256
"""Header blocks."""
KEEPALIVE_SECONDS = 10.0
KEEPALIVE_TIMEOUT = 5.0
"""Of a connection that is silent while calls are under way. etcd allows a question every five seconds."""


class Stream:
    """One call: what has arrived of its answer, and what of its request may not be sent yet."""

    __slots__ = ("ended", "error", "messages", "number", "rest", "uncredited", "unsent", "waiter", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        self.rest = bytearray()
        self.messages: deque[bytes] = deque()
        self.ended = False
        self.error: RpcError | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.unsent: deque[tuple[memoryview, bool]] = deque()
        self.uncredited = 0

    def take(self, data: bytes) -> None:
        """Cut the messages out of what arrived. Raises Broken."""
        rest = self.rest
        rest += data
        while len(rest) >= 5:
            end = 5 + int.from_bytes(rest[1:5], "big")
            if rest[0]:
                raise Broken("a compressed message, which was not asked for")
            if len(rest) < end:
                break
            self.messages.append(bytes(rest[5:end]))
            del rest[:end]

    def end(self, error: RpcError | None) -> None:
        """Nothing more comes; the first reason counts."""
        if self.ended:
            return
        self.ended, self.error = True, error
        self.unsent.clear()
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def wait(self) -> None:
        """Until something arrives."""
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None


class Connection(asyncio.Protocol):
    """One connection; `usable` tells whether further calls may begin on it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self._most = LAST_STREAM  # streams at the same time, as the other side allows
        self._window = FIRST_WINDOW  # bytes that may be sent on all streams together
        self._stream_window = FIRST_WINDOW
        self._frame_size = FRAME_SIZE
        self._uncredited = 0
        self._blocked: deque[Stream] = deque()
        self._out: list[bytes] = []
        self._headers: tuple[int, int, bytearray] | None = None  # stream, flags and block until END_HEADERS
        self._decoder = Decoder(LARGEST_HEADERS)
        self._decoder.max_allowed_table_size = 0
        self._decoder.header_table_size = 0
        self._known: dict[bytes, Headers] = {}
        self._going = False
        self._heard = self._loop.time()
        self._alive: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._going and len(self._streams) < self._most

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._going

    # --- sending -----------------------------------------------------------------------------------------------------

    def begin(self, headers: bytes) -> Stream:
        """A new stream, `headers` encoded. Only while `usable`."""
        stream = self._streams[self._next] = Stream(self._next, self._stream_window)
        self._next += 2
        if self._next > LAST_STREAM:
            self._going = True
        self._send(frame(HEADERS, END_HEADERS, stream.number, headers))
        return stream

    def send(self, stream: Stream, message: bytes | None, *, last: bool) -> None:
        """A message of a call, None: only its end. What the other side has no room for yet waits."""
        data = b"" if message is None else b"\0%b%b" % (len(message).to_bytes(4, "big"), message)
        if stream.ended:
            return
        if not stream.unsent and len(data) <= min(self._window, stream.window, self._frame_size):
            self._window -= len(data)
            stream.window -= len(data)
            self._send(frame(DATA, END_STREAM if last else 0, stream.number, data))
            return
        if not stream.unsent:
            self._blocked.append(stream)
        stream.unsent.append((memoryview(data), last))
        self._unblock()

    def _unblock(self) -> None:
        for _ in range(len(self._blocked)):
            stream = self._blocked.popleft()
            while stream.unsent:
                data, last = stream.unsent[0]
                room = min(self._window, stream.window, self._frame_size)
                if room <= 0 and data:
                    break
                part, left = data[:room], data[room:]
                self._window -= len(part)
                stream.window -= len(part)
                self._send(frame(DATA, END_STREAM if last and not left else 0, stream.number, bytes(part)))
                stream.unsent.popleft()
                if left:
                    stream.unsent.appendleft((left, last))
            if stream.unsent:
                self._blocked.append(stream)

    def cancel(self, stream: Stream) -> None:
        """Nobody waits for the rest of its answer."""
        if self._streams.pop(stream.number, None) is not None:
            self._send(frame(RST_STREAM, 0, stream.number, CANCEL.to_bytes(4, "big")))
            stream.end(RpcError(Code.CANCELLED, "cancelled by the caller"))

    def _send(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def close(self, why: str = "closed") -> None:
        if self._transport is not None:
            self._transport.abort()
        self._lost(why)

    # --- receiving ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are none by inheritance
        assert self._transport is not None
        wanted = ((SET_TABLE_SIZE, 0), (SET_ENABLE_PUSH, 0), (SET_WINDOW, LARGEST_WINDOW))
        settings = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in wanted)
        more = (LARGEST_WINDOW - FIRST_WINDOW).to_bytes(4, "big")
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, more))
        self._alive = self._loop.call_later(KEEPALIVE_SECONDS, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(f"the connection was lost: {exc}" if exc else "the connection was closed by the other side")

    def _lost(self, why: str) -> None:
        self._transport = None
        if self._alive is not None:
            self._alive.cancel()
        streams, self._streams = self._streams, {}
        self._blocked.clear()
        for stream in streams.values():
            stream.end(RpcError(Code.UNAVAILABLE, why))

    def _check(self) -> None:
        """A peer that is silent while calls are under way is asked for a sign of life."""
        self._alive = self._loop.call_later(KEEPALIVE_SECONDS, self._check)
        heard = self._heard
        if self._going and not self._streams:
            self.close()
            return
        if not self._streams or self._loop.time() - heard < KEEPALIVE_SECONDS:
            return
        self._send(frame(PING, 0, 0, b"alive???"))
        self._alive.cancel()
        self._alive = self._loop.call_later(KEEPALIVE_TIMEOUT, self._judge, heard)

    def _judge(self, heard: float) -> None:
        if self._heard == heard:
            self.close("keepalive watchdog timeout: the other side is silent")
        else:
            self._alive = self._loop.call_later(KEEPALIVE_SECONDS, self._check)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        received = self._received
        received += data
        at, size = 0, len(received)
        try:
            while size - at >= 9:
                end = at + 9 + int.from_bytes(received[at : at + 3], "big")
                if end > size:
                    break
                number = int.from_bytes(received[at + 5 : at + 9], "big") & LAST_STREAM
                self._frame(received[at + 3], received[at + 4], number, bytes(received[at + 9 : end]))
                at = end
        except (Broken, HPACKError, IndexError) as error:
            self.close(f"HTTP/2 is not kept to: {error!r}")
            return
        del received[:at]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._headers is not None and kind != CONTINUATION:
            raise Broken("a header block is interrupted")
        if kind == DATA:
            self._data(flags, number, payload)
        elif kind == HEADERS:
            block = unpadded(flags, payload)
            if flags & WITH_PRIORITY:
                block = block[5:]
            if flags & END_HEADERS:
                self._answered(number, flags, block)
            else:
                self._headers = (number, flags, bytearray(block))
        elif kind == CONTINUATION:
            self._continued(flags, number, payload)
        elif kind == SETTINGS:
            if not flags & ACK:
                self._settle(payload)
        elif kind == WINDOW_UPDATE:
            self._credited(number, int.from_bytes(payload, "big") & LARGEST_WINDOW)
        elif kind == PING:
            if not flags & ACK:
                self._send(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            self._reset(number, int.from_bytes(payload, "big"))
        elif kind == GOAWAY:
            self._go_away(int.from_bytes(payload[:4], "big") & LAST_STREAM, payload[8:])
        elif kind == PUSH_PROMISE:
            raise Broken("a push, which was not allowed")

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._uncredited += len(payload)
        if self._uncredited >= CREDIT_FROM:
            self._send(frame(WINDOW_UPDATE, 0, 0, self._uncredited.to_bytes(4, "big")))
            self._uncredited = 0
        stream = self._streams.get(number)
        if stream is None:
            return  # cancelled meanwhile
        stream.uncredited += len(payload)
        if stream.uncredited >= CREDIT_FROM:
            self._send(frame(WINDOW_UPDATE, 0, number, stream.uncredited.to_bytes(4, "big")))
            stream.uncredited = 0
        stream.take(unpadded(flags, payload))
        if flags & END_STREAM:
            self._streams.pop(number)
            stream.end(RpcError(Code.INTERNAL, "an answer ends without a status"))
        elif stream.messages:
            stream.wake()

    def _continued(self, flags: int, number: int, payload: bytes) -> None:
        if self._headers is None or self._headers[0] != number:
            raise Broken("a header block goes on that has not begun")
        _, first, block = self._headers
        block += payload
        if len(block) > LARGEST_HEADERS:
            raise Broken("a header block is too long")
        if flags & END_HEADERS:
            self._headers = None
            self._answered(number, first, bytes(block))

    def _answered(self, number: int, flags: int, block: bytes) -> None:
        """Headers or, at the end, trailers. They are decoded for cancelled calls, too."""
        headers = self._known.get(block)
        if headers is None:
            headers = {str(name): str(value) for name, value in self._decoder.decode(block)}
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = headers
        stream = self._streams.get(number)
        if stream is None:
            return
        status = headers.get(":status", "200")
        if flags & END_STREAM or status != "200":
            self._streams.pop(number)
            if not flags & END_STREAM:
                self._send(frame(RST_STREAM, 0, number, CANCEL.to_bytes(4, "big")))
            stream.end(status_of(status, headers))

    def _settle(self, payload: bytes) -> None:
        for at in range(0, len(payload) - 5, 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == SET_STREAMS:
                self._most = value
            elif name == SET_FRAME_SIZE:
                self._frame_size = min(value, FRAME_SIZE)  # smaller ones let others in between
            elif name == SET_WINDOW:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
        self._send(frame(SETTINGS, ACK, 0))
        self._unblock()

    def _credited(self, number: int, more: int) -> None:
        if number == 0:
            self._window += more
        elif number in self._streams:
            self._streams[number].window += more
        if self._blocked:
            self._unblock()

    def _reset(self, number: int, code: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        if code == NO_ERROR and stream.messages:
            stream.end(None)  # an answer that does not need the rest of the request
            return
        refused = f"{NEVER_SENT}: the stream was refused" if code == REFUSED else f"stream reset with error {code}"
        stream.end(RpcError(Code.UNAVAILABLE, refused))

    def _go_away(self, last: int, why: bytes) -> None:
        self._going = True
        for number in [number for number in self._streams if number > last]:
            told = f"{NEVER_SENT}: the other side is going away: {why.decode(errors='replace')}"
            self._streams.pop(number).end(RpcError(Code.UNAVAILABLE, told))
