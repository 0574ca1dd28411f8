"""WebSockets of our own: watches and logs as frames, for clients that cannot read an endless answer.

Reference: k8s.io/apiserver ``endpoints/handlers/watch.go``, k8s.io/apimachinery's ``httpstream/wsstream/stream.go``.
Streams into pods are not ended here, see ``orca.server.splice``.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from contextlib import suppress

import aiohttp
from aiohttp import web

from orca.api.errors import ApiError, bad_request
from orca.server.connection import connection_of
from orca.server.identity import WEBSOCKET_TOKEN
from orca.server.request import Request
from orca.server.verbs.serving import AnyWatch
from orca.store import Event

_HEADER = "Sec-WebSocket-Protocol"
_BINARY, _BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
_CLOSING_SECONDS = 5.0
"""For the last events of a watch whose time is over."""


def is_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request wants to become a WebSocket."""
    return headers.get("Upgrade", "").lower() == "websocket" and "upgrade" in headers.get("Connection", "").lower()


def offered(headers: Mapping[str, str]) -> list[str]:
    """The subprotocols a client offers, tokens left out."""
    listed = (one.strip() for one in headers.get(_HEADER, "").split(","))
    return [one for one in listed if one and not one.startswith(WEBSOCKET_TOKEN)]


async def serve_bytes(request: Request, chunks: AsyncIterable[bytes]) -> web.StreamResponse:
    """One binary frame a chunk, behind an empty one; text frames in base64 for who can read no others. Raises ApiError
    400 for subprotocols that mean nothing here."""
    http = request.http
    wanted = offered(http.headers)
    protocol = next((one for one in wanted if one in (_BINARY, _BASE64)), "")
    if wanted and not protocol:
        raise bad_request(f"requested protocol(s) are not known: {wanted}; supports {[_BINARY, _BASE64]}")
    socket, reader = await _open(request, (protocol,) if protocol else ())

    async def send(chunk: bytes) -> None:
        await (socket.send_str(b64encode(chunk).decode()) if protocol == _BASE64 else socket.send_bytes(chunk))

    try:
        await send(b"")
        async for chunk in chunks:
            await send(chunk)
    except (ConnectionError, aiohttp.ClientError):
        connection_of(http).abort()  # cut on one of the two sides; the client must notice
        return socket
    except asyncio.CancelledError:
        if not reader.done():
            raise
        return socket  # the peer closed it; nothing is left to say
    finally:
        reader.cancel()
    await _close(socket, request)
    return socket


async def serve_frames(
    request: Request,
    watch: AnyWatch,
    seconds: float | None,
    line: Callable[[Event], bytes],
    error_line: Callable[[ApiError], bytes],
) -> web.StreamResponse:
    """One text frame an event, until the time is over, the peer goes away or the store ends the watch. Raises ApiError
    400."""
    socket, reader = await _open(request, offered(request.http.headers))
    if request.begun is not None:
        request.begun()
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
    await _close(socket, request)
    return socket


async def _open(request: Request, protocols: Sequence[str]) -> tuple[web.WebSocketResponse, asyncio.Task[None]]:
    """A socket, and who reads it: this task is cancelled when the peer closes it. Raises ApiError 400."""
    socket = web.WebSocketResponse(protocols=protocols)
    if not socket.can_prepare(request.http).ok:
        raise bad_request("the WebSocket handshake is malformed")
    await socket.prepare(request.http)
    request.answering(socket.status)
    task = asyncio.current_task()
    assert task is not None
    return socket, asyncio.create_task(_until_closed(socket, task))


async def _close(socket: web.WebSocketResponse, request: Request) -> None:
    try:
        async with asyncio.timeout(_CLOSING_SECONDS):
            await socket.close()
    except TimeoutError:
        connection_of(request.http).abort()  # it reads nothing


async def _until_closed(socket: web.WebSocketResponse, sender: asyncio.Task[object]) -> None:
    """Read what the peer sends, which means nothing, until it closes; then end what is sent to it."""
    async for _ in socket:
        pass
    sender.cancel()
