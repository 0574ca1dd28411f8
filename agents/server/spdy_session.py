"""Streams of a SPDY connection over a ByteStream: reading with back-pressure, writing without blocking each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

import structlog

from agents.server import spdy
from agents.server.spdy import ResetStatus, SpdyConnection, SpdyError
from agents.server.transport import ByteStream, Signal

READ_BUFFER = 1 << 19
"""Bytes of one stream that may wait for their reader before the whole connection is read no further."""
WRITE_BUFFER = 1 << 18
"""Bytes that may wait for the connection before writers are held."""
GOODBYE_SECONDS = 5.0

log = structlog.get_logger()


class SpdyStream:
    """One stream; made by the session."""

    def __init__(self, session: SpdySession, stream_id: int, headers: Mapping[str, str]) -> None:
        self._session = session
        self.id = stream_id
        self.headers = headers
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._discarding = False

    def __repr__(self) -> str:
        return f"<SpdyStream {self.id} {self.headers.get('streamtype', '')}>"

    @property
    def is_full(self) -> bool:
        return self._size > READ_BUFFER

    async def read(self) -> bytes:
        """What has arrived next; b"" after the peer's end, a reset or the loss of the connection."""
        while not self._chunks:
            if self._ended:
                return b""
            await self._session.arrived.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._take(len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Waits while the peer does not read. Raises ConnectionError when stream or connection is gone."""
        view = memoryview(data)
        while view:
            view = view[await self._session.send(self.id, view) :]

    def end(self) -> None:
        """We write no more."""
        self._session.end(self.id)

    def reset(self, status: ResetStatus = ResetStatus.CANCEL) -> None:
        """Break off both directions."""
        self._session.reset(self.id, status)
        self.finish()

    def discard(self) -> None:
        """Nobody will read: drop what comes, so that it holds nobody up."""
        self._discarding = True
        self._chunks.clear()
        self._take(self._size)

    def feed(self, data: bytes) -> None:
        """For the session: data arrived."""
        self._size += len(data)
        if self._discarding:
            self._take(len(data))
        else:
            self._chunks.append(data)

    def finish(self) -> None:
        """For the session: nothing more will arrive."""
        self._ended = True

    def _take(self, count: int) -> None:
        self._size -= count
        self._session.consumed(self.id, count)


class SpdySession:
    """A SPDY connection of which we are the server. `run` reads until the peer is gone."""

    def __init__(self, connection: ByteStream) -> None:
        self._connection = connection
        self._spdy = SpdyConnection(server=True)
        self._streams: dict[int, SpdyStream] = {}
        self._opened: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self._to_send = Signal()
        self._room = Signal()
        self._taken = Signal()
        self.arrived = Signal()
        self._closed = False

    def __repr__(self) -> str:
        return f"<SpdySession {self._spdy!r}>"

    async def run(self) -> None:
        """Until the peer closes the connection, breaks the protocol, or `close` was called."""
        sender = asyncio.create_task(self._send_loop())
        try:
            while data := await self._connection.read():
                for event in self._spdy.receive(data):
                    self._on_event(event)
                self.arrived.fire()
                self._to_send.fire()
                while any(stream.is_full for stream in self._streams.values()):
                    await self._taken.wait()
        except SpdyError as error:
            log.info("a client broke the SPDY protocol", error=str(error))
            await self._flush_last()
        finally:
            self._lose()
            sender.cancel()

    async def accept(self) -> SpdyStream | None:
        """The next stream the peer opened, already replied to; None when there will be no more."""
        return await self._opened.get()

    async def closed(self) -> None:
        """Returns when the connection is lost."""
        while not self._closed:
            await self.arrived.wait()

    async def close(self) -> None:
        """Say good-bye: everything written goes out, then what the peer still sends is ignored until it closes.

        Closing at once, with its bytes unread, would make the kernel reset the connection and lose our last words.
        """
        for stream in list(self._streams.values()):
            stream.discard()
            stream.end()
        self._spdy.go_away()
        self._to_send.fire()
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self.closed()
        except TimeoutError:
            pass
        await self._connection.close()

    # --- for streams ----------------------------------------------------------------------------------------------

    async def send(self, stream_id: int, data: memoryview) -> int:
        """Queue a part of `data`; answers how much. Raises ConnectionError."""
        while True:
            if self._closed:
                raise ConnectionResetError("the client went away")
            try:
                if self._spdy.pending < WRITE_BUFFER and (count := self._spdy.send(stream_id, data)):
                    self._to_send.fire()
                    return count
            except spdy.StreamClosed as error:
                raise ConnectionResetError(str(error)) from error
            await self._room.wait()

    def end(self, stream_id: int) -> None:
        self._spdy.end(stream_id)
        self._to_send.fire()

    def reset(self, stream_id: int, status: ResetStatus) -> None:
        self._spdy.reset(stream_id, status)
        self._streams.pop(stream_id, None)
        self._wake()

    def consumed(self, stream_id: int, count: int) -> None:
        self._spdy.consumed(stream_id, count)
        self._to_send.fire()
        self._taken.fire()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _on_event(self, event: spdy.Event) -> None:
        match event:
            case spdy.StreamOpened(stream_id, headers):
                stream = self._streams[stream_id] = SpdyStream(self, stream_id, headers)
                self._spdy.reply(stream_id)
                self._opened.put_nowait(stream)
            case spdy.DataReceived(stream_id, data):
                if stream_id in self._streams:
                    self._streams[stream_id].feed(data)
            case spdy.StreamEnded(stream_id):
                if stream_id in self._streams:
                    self._streams[stream_id].finish()
            case spdy.StreamReset(stream_id):
                if stream_id in self._streams:
                    self._streams.pop(stream_id).finish()
                self._room.fire()
            case spdy.WindowOpened():
                self._room.fire()
            case _:
                pass

    async def _send_loop(self) -> None:
        """One task writes for all, so that neither reading nor another stream waits for a slow peer."""
        try:
            while True:
                if data := self._spdy.take():
                    await self._connection.write(data)
                    self._forget_closed()
                    self._room.fire()
                else:
                    await self._to_send.wait()
        except OSError:
            self._lose()

    async def _flush_last(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self._connection.write(self._spdy.take())
        except OSError:
            pass

    def _forget_closed(self) -> None:
        """Streams that both sides have ended and read to the end are not kept."""
        for stream_id in [i for i in self._streams if not self._spdy.knows(i)]:
            del self._streams[stream_id]

    def _lose(self) -> None:
        if self._closed:
            return
        self._closed = True
        for stream in self._streams.values():
            stream.finish()
        self._opened.put_nowait(None)
        self._wake()

    def _wake(self) -> None:
        for signal in (self._to_send, self._room, self._taken, self.arrived):
            signal.fire()
