"""A channel of gRPC as generated stubs know it, on connections of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hpack import Encoder

from orca.store.wire.connection import Connection, Stream
from orca.store.wire.errors import NEVER_SENT, Code, RpcError

CONNECT_SECONDS = 5.0
UNIX = "unix:"


class Call:
    """A call whose answer is a stream: iterate over it, and `cancel` it in the end."""

    def __init__(
        self, channel: Channel, path: str, requests: Any, encode: Any, decode: Any, metadata: Any, seconds: float | None
    ) -> None:
        self._channel = channel
        self._path = path
        self._requests = requests
        self._metadata = tuple(metadata or ())
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._encode = encode
        self._decode = decode
        self._connection: Connection | None = None
        self._stream: Stream | None = None
        self._feeding: asyncio.Task[None] | None = None

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> Any:
        if self._stream is None:
            await self._begin()
        stream = self._stream
        assert stream is not None
        while not stream.messages:
            if stream.error is not None:
                raise stream.error
            if stream.ended:
                raise StopAsyncIteration
            await stream.wait()
        return self._decode(stream.messages.popleft())

    async def _begin(self) -> None:
        connection = self._connection = await self._channel.connection(self._seconds or CONNECT_SECONDS)
        stream = self._stream = connection.begin(self._channel.headers(self._path, self._metadata))
        if self._seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, late, stream)
        if hasattr(self._requests, "__aiter__"):
            self._feeding = asyncio.create_task(self._feed(connection, stream))
            return
        for request in self._requests:
            connection.send(stream, self._encode(request), last=False)
        connection.send(stream, None, last=True)

    async def _feed(self, connection: Connection, stream: Stream) -> None:
        async for request in self._requests:
            connection.send(stream, self._encode(request), last=False)
        connection.send(stream, None, last=True)

    def cancel(self) -> None:
        """No answer is wanted any more; again is harmless."""
        if self._timer is not None:
            self._timer.cancel()
        if self._feeding is not None:
            self._feeding.cancel()
        if self._connection is not None and self._stream is not None:
            self._connection.cancel(self._stream)


class Channel:
    """Calls to one plain address ("host:port" or "unix:/path"), over a connection that is made when it is needed and
    anew when it is lost."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False
        self._blocks: dict[tuple[str, Any], bytes] = {}

    def __repr__(self) -> str:
        return f"<Channel to {self._address}>"

    def unary_unary(
        self,
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
    ) -> Callable[..., Any]:
        """As gRPC's: call it with a request and a timeout. Raises RpcError."""

        async def call(request: Any, timeout: float) -> Any:
            answer = await self._ask(path, request_serializer(request), timeout)
            return response_deserializer(answer)

        return call

    def stream_stream(
        self,
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
    ) -> Callable[..., Call]:
        """As gRPC's: call it with an iterator of requests. Iteration raises RpcError."""

        def call(requests: Any, timeout: float | None = None, metadata: Any = None) -> Call:
            return Call(self, path, requests, request_serializer, response_deserializer, metadata, timeout)

        return call

    async def _ask(self, path: str, message: bytes, seconds: float) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self.connection(seconds)
        stream = connection.begin(self.headers(path, ()))
        connection.send(stream, message, last=True)
        timer = loop.call_at(deadline, late, stream)
        try:
            while not stream.ended:
                await stream.wait()
        finally:
            timer.cancel()
            connection.cancel(stream)  # no answer is wanted any more; harmless when it is there
        if stream.error is not None:
            raise stream.error
        if len(stream.messages) != 1:
            raise RpcError(Code.INTERNAL, f"{len(stream.messages)} answers instead of one")
        return stream.messages.popleft()

    def headers(self, path: str, metadata: tuple[tuple[str, str], ...]) -> bytes:
        """The header block of a call, encoded once."""
        found = self._blocks.get((path, metadata))
        if found is None:
            wanted = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "localhost" if self._address.startswith(UNIX) else self._address),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                *metadata,
            ]
            encoder = Encoder()
            # "Sensitive" headers never enter the table of the other side.
            found = self._blocks[path, metadata] = encoder.encode([(name, value, True) for name, value in wanted])
        return found

    async def connection(self, seconds: float = CONNECT_SECONDS) -> Connection:
        """One on which a call may begin. Raises RpcError."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            held = self._connection
            if held is not None and held.usable:
                return held
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise RpcError(Code.DEADLINE_EXCEEDED, f"Deadline Exceeded: {NEVER_SENT} to {self._address}")
            if held is not None and held.open:
                await asyncio.sleep(0.001)  # as many calls are under way as the other side takes
                continue
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
            done, _ = await asyncio.wait({self._connecting}, timeout=left)
            for task in done:
                task.result()

    async def _connect(self) -> None:
        try:
            if self._closed:
                raise RpcError(Code.CANCELLED, "the channel is closed")
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    self._connection = await self._dial()
            except (OSError, ValueError, TimeoutError) as error:
                why = f"{NEVER_SENT} to {self._address}: {error or 'connection attempt timed out'}"
                raise RpcError(Code.UNAVAILABLE, why) from error
        finally:
            self._connecting = None

    async def _dial(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._address.startswith(UNIX):
            return (await loop.create_unix_connection(Connection, self._address.removeprefix(UNIX)))[1]
        host, _, port = self._address.rpartition(":")
        return (await loop.create_connection(Connection, host.strip("[]"), int(port)))[1]

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close("the channel is closed")


def late(stream: Stream) -> None:
    """Its time is over."""
    stream.end(RpcError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded"))
