"""One client connection: aiohttp's protocol plus what an API server needs of the transport.

Adds the client's certificate, callbacks when the peer goes away (idle watches must not linger), and a raw mode in
which bytes are handed on unparsed (exec, attach, port-forward after ``101 Switching Protocols``).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, PayloadEncodingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler, _ErrInfo

from orca.server.paths import origin_form

if TYPE_CHECKING:
    from orca.server.shortcut import Shortcut

KEEPALIVE_SECONDS = 120.0  # longer than the 90 s of Go clients, so that they close first
LINGER_SECONDS = 1.0  # how long what is left of a refused body is still read, so that the client sees the answer
LINE_BYTES = 1 << 18  # of a request's first line: the command of an exec of 64 KiB comes in it, perhaps encoded
FIELD_BYTES = 1 << 16  # of a header: a token with the groups of a large company, or a chain of impersonation
HEAD_SECONDS = 30.0  # from the first byte of a request's head to its last
HEAD_BYTES = 1 << 20  # of a head, as upstream's
STUCK_SECONDS = 60.0  # in which a client takes nothing of an answer that is there as a whole, and loses it


_UNKNOWN_METHOD = re.compile(r"\n +b['\"][!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/1\.[01]['\"\\]")
"""A line that would begin a request but for its method, as the parser tells of it."""


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class RawPeer:
    """Where raw bytes of a connection go; every method is called synchronously from the event loop."""

    def feed(self, data: bytes) -> None:
        """Bytes arrived."""

    def closed(self) -> None:
        """The connection is gone."""

    def pause(self) -> None:
        """Our buffer towards the connection is full: stop producing."""

    def resume(self) -> None:
        """The buffer has room again."""


class Connection(RequestHandler):
    """See the module's docstring. ``peer_der`` is the verified client certificate, or None."""

    __slots__ = ("_half", "_half_bytes", "_lost", "_raw", "_shortcut", "_stuck", "peer_der")

    def __init__(self, *args: Any, shortcut: Shortcut | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shortcut = shortcut
        self.peer_der: bytes | None = None
        self._lost: dict[object, Callable[[], object]] = {}
        self._raw: RawPeer | None = None
        self._half: asyncio.TimerHandle | None = None
        self._half_bytes = 0
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = cast("ssl.SSLObject | None", transport.get_extra_info("ssl_object"))
        if tls is not None:
            self.peer_der = tls.getpeercert(binary_form=True)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._half is not None:
            self._half.cancel()
        self._moves()
        for callback in list(self._lost.values()):
            callback()
        if self._raw is not None:
            self._raw.closed()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed(data)
            return
        waiter = self._waiter
        if waiter is None or waiter.done() or self._shortcut is None:
            super().data_received(data)
            if self._messages and self._current_request is not None:
                self._tell_of_nonsense(self._current_request.content)
        elif self._answered_at_once(data, self._shortcut, waiter):
            return
        # Still waiting for a request although bytes came: half a head.
        if self._waiter is not None and not self._waiter.done():
            if self._half is None:
                self._half = self._loop.call_later(HEAD_SECONDS, self.force_close)
                self._half_bytes = 0
            self._half_bytes += len(data)
            if self._half_bytes > HEAD_BYTES:
                self.force_close()
        elif self._half is not None:
            self._half.cancel()
            self._half = None

    def _tell_of_nonsense(self, body: StreamReader) -> None:
        """What came was no part of the body that is being read: who reads it would wait for the rest of it, as the
        library only puts what it will answer behind the request that is under way."""
        last = self._messages[-1][0]
        if isinstance(last, _ErrInfo) and not body.is_eof() and body.exception() is None:
            body.set_exception(PayloadEncodingError(last.message or "the body is malformed"))

    def _answered_at_once(self, data: bytes, shortcut: Shortcut, waiter: asyncio.Future[None]) -> bool:
        """Take bytes while no request is under way. True when they were one whole request and it is answered; else the
        task that handles requests is told of what they hold, if there is any."""
        self._waiter = None  # so that the library wakes nobody before that is known
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        messages = self._messages
        if not messages:
            return False
        transport = self.transport
        parser = self._parser
        if len(messages) == 1 and transport is not None and parser is not None and not self._paused:
            message, payload = messages[0]
            if payload is EMPTY_PAYLOAD and isinstance(message, RawRequestMessage) and _goes_on(message):
                answer = shortcut.answer(message, self.peer_der)
                if answer is not None:
                    messages.popleft()
                    parser.message_consumed()
                    transport.write(answer)
                    self._has_served()
                    return True
        if not waiter.done():
            waiter.set_result(None)
        return False

    def _has_served(self) -> None:
        """What the library does after an answer."""
        assert self._manager is not None
        self._manager.requests_count += 1
        close_time = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = close_time
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)
        if self._half is not None:
            self._half.cancel()
            self._half = None

    async def start(self) -> None:
        """Serve what comes by this connection, one request after another, until it ends.

        As the library does it, but in the connection's own task. One more for each request would cost two turns of the
        event loop; it would only keep context variables apart, which no handler leaves behind.
        """
        loop, manager, factory = self._loop, self._manager, self._request_factory
        assert manager is not None
        assert factory is not None
        while not self._force_close:
            if not self._messages:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = self._messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            handler = self._request_handler
            if isinstance(message, _ErrInfo):
                handler, message = self._make_error_handler(message), ERROR
            assert handler is not None
            task = self._task_handler or asyncio.current_task()
            assert task is not None
            request = factory(message, payload, self, StreamWriter(self, loop), task)
            if not await self._goes_on_after(request, handler, payload) or self._close or self._force_close:
                break
            del request, message, payload  # or they would stay for as long as nobody asks for anything else
            self._has_served()
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _goes_on_after(self, request: web.BaseRequest, handler: Handler, payload: StreamReader) -> bool:
        """Answer one request; whether the connection is to be kept for others."""
        try:
            try:
                answer, reset = await self._handle_request(request, None, handler)
            except ConnectionError:
                return False
            if reset:
                return False
            self._keepalive = bool(answer.keep_alive)
            if not payload.is_eof() and not await self._lingered(payload):
                self.close()
        except Exception as error:
            # As the library does: whatever it is, it is told, and ends this connection only.
            self.log_exception("Unhandled exception", exc_info=error)
            self.force_close()
        except BaseException:
            self.force_close()
            raise
        finally:
            request._task = None  # type: ignore[assignment]  # a cycle else, should there be an exception
        return self._keepalive

    async def _lingered(self, payload: StreamReader) -> bool:
        """Read what is left of a body that nobody wanted, for a moment; whether that was all."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof() and not self._force_close:
                    await payload.readany()
        except TimeoutError:
            return False
        return True

    def resume_reading(self, resume_parser: bool = True) -> None:
        """The library calls this for every body that is read, and then parses the nothing that has come since."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    @property
    def ending(self) -> bool:
        """Whether no further request is taken: the server ends, or this connection does."""
        return self._close or self._force_close

    @property
    def busy(self) -> bool:
        """Whether a request is under way, also one that streams."""
        return self._request_in_progress

    def cut(self) -> None:
        """End what is under way, whatever it is."""
        if self._task_handler is not None:
            self._task_handler.cancel()

    def close(self) -> None:
        """As the library: what is under way is answered first. Where nothing is, though, the client learns at once
        that it has to go elsewhere, and not when it has asked."""
        idle = self._waiter is not None and not self._waiter.done()
        super().close()
        if idle:
            self.force_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._raw is not None:
            self._raw.pause()
        elif self._request_in_progress and self._current_request is None and self._stuck is None:
            # The handler is done, and what it made is all in memory. Streams may be read as slowly as one likes.
            self._hold(-1)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._raw is not None:
            self._raw.resume()
        self._moves()

    def _hold(self, left: int) -> None:
        """Look again in a while whether the client has taken anything; so much was left to be written last."""
        transport = self.transport
        if transport is None:
            return
        now = transport.get_write_buffer_size()
        if now == left:
            self._stuck = None
            transport.abort()
        else:
            self._stuck = self._loop.call_later(STUCK_SECONDS, self._hold, now)

    def _moves(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def send_head(self, response: web.StreamResponse) -> None:
        """Send what the library may still hold back, so that ``write`` comes after it."""
        writer = response._payload_writer
        assert writer is not None
        writer.send_headers()

    def write(self, data: bytes) -> None:
        """Write what is encoded already, past the library, whose way costs more than the rest of an event's delivery;
        check ``writing_paused`` after it. Raises ConnectionResetError."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone away")
        transport.write(data)

    def abort(self) -> None:
        """Close at once: what the peer has not taken is lost."""
        if self.transport is not None:
            self.transport.abort()

    async def drained(self) -> None:
        """Return when the peer has taken enough of what was written. Raises ConnectionResetError."""
        await self._drain_helper()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser refuses is answered with 400; a method it has not heard of is one nobody has: 405."""
        if isinstance(exc, BadHttpMethod) and _UNKNOWN_METHOD.search(str(exc)) is not None:
            status, message = 405, "405: Method Not Allowed"
        return super().handle_error(request, status, exc, message)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Only what is our fault: whoever sends nonsense gets an answer, and may not fill the log; nor may who goes."""
        error = kwargs.get("exc_info")
        gone = isinstance(error, ConnectionError) and self.transport is None
        if not gone and not isinstance(error, HttpProcessingError | PayloadEncodingError):
            super().log_exception(*args, **kwargs)

    def watch_loss(self, key: object, callback: Callable[[], object]) -> None:
        """Call ``callback`` once when the peer goes away; ``forget_loss(key)`` takes it back."""
        self._lost[key] = callback

    def forget_loss(self, key: object) -> None:
        """Undo ``watch_loss``."""
        self._lost.pop(key, None)

    def go_raw(self, peer: RawPeer) -> None:
        """From now on bytes go to ``peer``; what was received behind the request head is handed over at once."""
        self._raw = peer
        tail, self._message_tail = self._message_tail, b""
        if tail:
            peer.feed(tail)
        if self._buffer_paused:
            self._resume_reading_for_buffer()  # so much had come that no more was read


def _goes_on(message: RawRequestMessage) -> bool:
    """Whether the connection serves further requests of the same kind after this one."""
    return not message.should_close and not message.upgrade and message.version == HttpVersion11


TOLD = web.RequestKey("orca.told", dict[str, str])
"""Where a request keeps headers that its answer has, too, should that begin before all of it is known."""


class HttpRequest(web.BaseRequest):
    """A request whose answers do not tell which software made them."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        headers = response.headers
        # The library puts it in just before; no client needs it, and it costs bytes on every answer.
        headers.pop("Server", None)
        for key, value in self.get(TOLD, {}).items():
            headers.setdefault(key, value)


class ConnectionFactory(web.Server):
    """Makes a :class:`Connection` for each accepted socket. ``shortcut`` is asked before the handler."""

    def __init__(self, handler: Handler, *, shortcut: Shortcut | None = None, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._shortcut = shortcut

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if not message.path.startswith("/"):
            message = message._replace(path=origin_form(message.path))
        return HttpRequest(message, payload, protocol, writer, task, self._loop)

    @property
    def busy(self) -> bool:
        """Whether requests are under way."""
        return any(cast(Connection, one).busy for one in self.connections)

    async def shutdown(self, timeout: float | None = None) -> None:
        """End all connections at once. What was asked for should have been answered before."""
        for one in self.connections:
            cast(Connection, one).cut()
        await super().shutdown(timeout)

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, shortcut=self._shortcut, **self._kwargs)


def connection_of(request: web.BaseRequest) -> Connection:
    """The connection a request came by."""
    return cast(Connection, request.protocol)
