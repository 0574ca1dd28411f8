"""Where the agent's HTTP servers listen, so that strangers cannot use them up.

Anybody who reaches the port can connect. A connection on which nobody was let in is therefore given up after a while,
and of too many of them the oldest: a client that may come in says so with its first bytes. Those that were let in may
be idle as long as a kubelet's. What is no HTTP is answered with 400 and not logged, which would let strangers fill the
disk.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections import OrderedDict

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from orca.client.sockets import keep_alive

STRANGER_SECONDS = 30.0
"""From connecting to the first request that is let in; a token may have to be asked for meanwhile."""
MOST_STRANGERS = 200
HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 90
"""As the kubelet's server."""
SHUTDOWN_SECONDS = 2.0
LINE_BYTES = 1 << 18
"""Of a request's first line: a command of 64 KiB comes in it, perhaps each byte as three."""
ACCEPT_RETRY_SECONDS = 0.1
BACKLOG = 128

log = structlog.get_logger()


class _Stranger:
    """A connection on which nobody was let in yet: while it says nothing only a socket, then a handshake, then HTTP."""

    def __init__(self, arriving: asyncio.Task[None] | None = None) -> None:
        self.arriving = arriving
        self.connection: web.RequestHandler | None = None

    def turn_out(self) -> None:
        if self.arriving is not None:
            self.arriving.cancel()
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.abort()


class Listener:
    """One server on one port. `middleware` has to be the application's innermost, behind whoever refuses requests."""

    def __init__(self, *, most: int = MOST_STRANGERS, seconds: float = STRANGER_SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._strangers: OrderedDict[_Stranger, asyncio.TimerHandle] = OrderedDict()
        self._by_connection: dict[web.RequestHandler, _Stranger] = {}

    def __repr__(self) -> str:
        return f"<Listener, {len(self._strangers)} strangers>"

    @property
    def strangers(self) -> int:
        """How many connections there are on which nobody was let in."""
        return len(self._strangers)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Notes that this connection's client was let in."""
        stranger = self._by_connection.get(request.protocol)
        if stranger is not None:
            self._forget(stranger)
        return await handler(request)

    async def serve(
        self, app: web.Application, address: str | None, port: int, *, tls: ssl.SSLContext | None = None
    ) -> None:
        """Until cancelled. Raises OSError when the port is taken."""
        sockets = _listen(address, port)
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=SHUTDOWN_SECONDS,
            keepalive_timeout=IDLE_SECONDS,
            max_line_size=LINE_BYTES,
            logger=_quiet_logger(),
        )
        try:
            await runner.setup()
            async with asyncio.TaskGroup() as group:
                for one in sockets:
                    group.create_task(self._accept(one, runner, tls))
        finally:
            for one in sockets:
                one.close()
            while self._strangers:
                self._turn_out(next(iter(self._strangers)))
            await runner.cleanup()

    async def _accept(self, listening: socket.socket, runner: web.AppRunner, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:
                # Out of descriptors, or the client went before it was welcome: neither ends the server.
                log.warning("cannot accept a connection", error=str(error))
                await asyncio.sleep(ACCEPT_RETRY_SECONDS)
                continue
            stranger = _Stranger()
            stranger.arriving = loop.create_task(self._welcome(stranger, client, runner, tls))
            self._strangers[stranger] = loop.call_later(self._seconds, self._turn_out, stranger)
            while len(self._strangers) > self._most:
                self._turn_out(next(iter(self._strangers)))

    async def _welcome(
        self, stranger: _Stranger, client: socket.socket, runner: web.AppRunner, tls: ssl.SSLContext | None
    ) -> None:
        assert runner.server is not None
        try:
            # Nothing but a socket is spent on a client that says nothing.
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await _readable(client)
            connection = stranger.connection = runner.server()
            self._by_connection[connection] = stranger
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                client,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if tls is not None else None,
            )
        except OSError:  # among them TimeoutError and what TLS finds wrong
            client.close()
            self._forget(stranger)
        except asyncio.CancelledError:
            client.close()
            raise
        finally:
            stranger.arriving = None

    def _forget(self, stranger: _Stranger) -> None:
        timer = self._strangers.pop(stranger, None)
        if timer is not None:
            timer.cancel()
        if stranger.connection is not None:
            self._by_connection.pop(stranger.connection, None)

    def _turn_out(self, stranger: _Stranger) -> None:
        self._forget(stranger)
        stranger.turn_out()


def _listen(address: str | None, port: int) -> list[socket.socket]:
    """Sockets on the address, or on all of this host's."""
    if address is not None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        found = [socket.create_server((address, port), family=family, backlog=BACKLOG)]
    else:
        found = [socket.create_server(("0.0.0.0", port), backlog=BACKLOG)]
        try:
            found.append(socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG))
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                found[0].close()
                raise
    for one in found:
        one.setblocking(False)
        keep_alive(one)
    return found


async def _readable(client: socket.socket) -> None:
    """Returns when there is something to read, or the client is gone."""
    loop = asyncio.get_running_loop()
    client.setblocking(False)
    ready = asyncio.Event()
    loop.add_reader(client, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(client)


def _quiet_logger() -> logging.Logger:
    logger = logging.getLogger("aiohttp.server.agent")
    if not logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    """False for what a client did wrong."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
