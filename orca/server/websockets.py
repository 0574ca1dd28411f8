"""WebSockets of our own: watches as frames, for clients that cannot read an endless answer.

Reference: k8s.io/apiserver ``endpoints/handlers/watch.go``. Streams into pods are not ended here, see
``orca.server.splice``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiohttp import web

from orca.api.errors import ApiError, bad_request
from orca.server.connection import connection_of
from orca.server.identity import WEBSOCKET_TOKEN
from orca.server.request import Request
from orca.server.verbs.serving import AnyWatch
from orca.store import Event

_HEADER = "Sec-WebSocket-Protocol"
_CLOSING_SECONDS = 5.0
"""For the last events of a watch whose time is over."""


def is_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request wants to become a WebSocket."""
    return headers.get("Upgrade", "").lower() == "websocket" and "upgrade" in headers.get("Connection", "").lower()


def offered(headers: Mapping[str, str]) -> list[str]:
    """The subprotocols a client offers, tokens left out."""
    listed = (one.strip() for one in headers.get(_HEADER, "").split(","))
    return [one for one in listed if one and not one.startswith(WEBSOCKET_TOKEN)]


async def serve_frames(
    request: Request,
    watch: AnyWatch,
    seconds: float | None,
    line: Callable[[Event], bytes],
    error_line: Callable[[ApiError], bytes],
) -> web.StreamResponse:
    """One text frame an event, until the time is over, the peer goes away or the store ends the watch."""
    http = request.http
    socket = web.WebSocketResponse(protocols=offered(http.headers))
    if not socket.can_prepare(http).ok:
        raise bad_request("the WebSocket handshake is malformed")
    await socket.prepare(http)
    if request.begun is not None:
        request.begun()
    task = asyncio.current_task()
    assert task is not None
    reader = asyncio.create_task(_until_closed(socket, task))
    unsent: deque[Event] = deque()

    async def send() -> None:
        while unsent:
            await socket.send_str(line(unsent.popleft()).decode().rstrip("\n"))

    try:
        try:
            async with asyncio.timeout(seconds):
                while True:
                    unsent += await watch.batch()
                    if not unsent:
                        break
                    await send()
        except TimeoutError:
            if watch.bookmarks:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSING_SECONDS):
                        await send()  # no bookmark may come before what it speaks of
                        watch.mark()
                        unsent += await watch.batch()
                        await send()
    except ApiError as error:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await socket.send_str(error_line(error).decode().rstrip("\n"))
    except ConnectionError:
        return socket
    except asyncio.CancelledError:
        if not reader.done():
            raise
        return socket  # the peer closed it; nothing is left to say
    finally:
        reader.cancel()
        await watch.aclose()
    try:
        async with asyncio.timeout(_CLOSING_SECONDS):
            await socket.close()
    except TimeoutError:
        connection_of(http).abort()  # it reads nothing
    return socket


async def _until_closed(socket: web.WebSocketResponse, watcher: asyncio.Task[object]) -> None:
    """Read what the peer sends, which means nothing, until it closes; then end the watch."""
    async for _ in socket:
        pass
    watcher.cancel()
