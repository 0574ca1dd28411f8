"""DNS over TCP (RFC 7766): any number of questions on a connection, answered as soon as each can be.

Idle connections end after ten seconds; when there are too many the one that was silent longest makes room.
"""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

IDLE_SECONDS = 10.0
MOST = 500
UNANSWERED = 64
"""Questions of one connection under way; more are not read before some are answered."""

Say = Callable[[bytes], None]
Take = Callable[[bytes, Say, str], bool]
"""`take(message, say, client)`: `say(answer)` will be called once, or not at all; False: the client is no client."""


class Streams:
    """All connections of a server. `protocol` is what ``loop.create_server`` wants."""

    def __init__(self, take: Take, *, most: int = MOST, idle_seconds: float = IDLE_SECONDS) -> None:
        self.take = take
        self._most = most
        self.idle_seconds = idle_seconds
        self._open: OrderedDict[_Stream, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self) -> asyncio.Protocol:
        return _Stream(self)

    def close(self) -> None:
        for stream in list(self._open):
            stream.end()

    def came(self, stream: _Stream) -> None:
        self._open[stream] = None
        if len(self._open) > self._most:
            next(iter(self._open)).end()

    def spoke(self, stream: _Stream) -> None:
        if stream in self._open:
            self._open.move_to_end(stream)

    def gone(self, stream: _Stream) -> None:
        self._open.pop(stream, None)


class _Stream(asyncio.Protocol):
    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spoke_at = 0.0
        self._unanswered = 0
        self._full = False
        self._reading = False
        self._client = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        loop = asyncio.get_running_loop()
        self._spoke_at = loop.time()
        self._timer = loop.call_later(self._streams.idle_seconds, self._look_whether_idle)
        self._streams.came(self)

    def data_received(self, data: bytes) -> None:
        self._spoke_at = asyncio.get_running_loop().time()
        self._streams.spoke(self)
        self._buffer += data
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._streams.gone(self)

    def pause_writing(self) -> None:
        self._full = True
        self._pause()

    def resume_writing(self) -> None:
        self._full = False
        self._read()

    def end(self) -> None:
        self._streams.gone(self)
        if self._transport is not None:
            self._transport.close()

    def _read(self) -> None:
        """Take the questions that are there whole, as long as there is room for answers."""
        if self._reading:
            return  # An answer at once leads here again.
        self._reading = True
        offset, buffer = 0, self._buffer
        while len(buffer) >= offset + 2 and not self._full and self._unanswered < UNANSWERED:
            (length,) = struct.unpack_from(">H", buffer, offset)
            if len(buffer) < offset + 2 + length:
                break
            message = buffer[offset + 2 : offset + 2 + length]
            offset += 2 + length
            self._unanswered += 1
            if not self._streams.take(message, self._say, self._client):
                self.end()
                break
        self._buffer = buffer[offset:]
        self._reading = False
        if self._transport is None or self._transport.is_closing():
            return
        if self._full or self._unanswered >= UNANSWERED:
            self._pause()
        else:
            self._transport.resume_reading()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _say(self, answer: bytes) -> None:
        self._unanswered -= 1
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(struct.pack(">H", len(answer)) + answer)
        if self._unanswered == UNANSWERED - 1:
            self._read()

    def _look_whether_idle(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._spoke_at + self._streams.idle_seconds - loop.time()
        if left <= 0 and not self._unanswered:
            self.end()
        else:
            self._timer = loop.call_later(max(left, 1.0), self._look_whether_idle)
