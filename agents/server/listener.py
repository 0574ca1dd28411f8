"""Where the agent's HTTP servers listen, so that strangers cannot use them up.

Anybody who reaches the port can connect. A connection on which nobody was let in is therefore given up after a while,
and of too many of them the oldest: a client that may come in says so with its first bytes. Those that were let in may
be idle as long as a kubelet's. What is no HTTP is answered with 400 and not logged, which would let strangers fill the
disk.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import OrderedDict

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

STRANGER_SECONDS = 30.0
"""From connecting to the first request that is let in; a token may have to be asked for meanwhile."""
MOST_STRANGERS = 200
HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 90
"""As the kubelet's server."""
SHUTDOWN_SECONDS = 2.0


class Listener:
    """One server on one port. `middleware` has to be the application's innermost, behind whoever refuses requests."""

    def __init__(self, *, most: int = MOST_STRANGERS, seconds: float = STRANGER_SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._strangers: OrderedDict[web.RequestHandler, asyncio.TimerHandle] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Listener, {len(self._strangers)} strangers>"

    @property
    def strangers(self) -> int:
        """How many connections there are on which nobody was let in."""
        return len(self._strangers)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Notes that this connection's client was let in."""
        if request.protocol is not None:
            self._forget(request.protocol)
        return await handler(request)

    async def serve(
        self, app: web.Application, address: str | None, port: int, *, tls: ssl.SSLContext | None = None
    ) -> None:
        """Until cancelled. Raises OSError when the port is taken."""
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=SHUTDOWN_SECONDS,
            keepalive_timeout=IDLE_SECONDS,
            logger=_quiet_logger(),
        )
        await runner.setup()
        server: asyncio.Server | None = None
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: self._connected(runner),
                address,
                port,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if tls is not None else None,
                reuse_address=True,
            )
            await asyncio.Event().wait()
        finally:
            if server is not None:
                server.close()
            await runner.cleanup()
            for timer in self._strangers.values():
                timer.cancel()
            self._strangers.clear()

    def _connected(self, runner: web.AppRunner) -> web.RequestHandler:
        assert runner.server is not None
        connection = runner.server()
        timer = asyncio.get_running_loop().call_later(self._seconds, self._give_up, connection)
        self._strangers[connection] = timer
        while len(self._strangers) > self._most:
            self._give_up(next(iter(self._strangers)))
        return connection

    def _forget(self, connection: web.RequestHandler) -> None:
        timer = self._strangers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self, connection: web.RequestHandler) -> None:
        self._forget(connection)
        # Without a transport its handshake goes on, or it is gone already; the former ends by itself.
        if connection.transport is not None:
            connection.transport.abort()


def _quiet_logger() -> logging.Logger:
    logger = logging.getLogger("aiohttp.server.agent")
    if not logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    """False for what a client did wrong."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
