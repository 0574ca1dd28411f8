"""A remote command over one WebSocket: the first byte of every message names the stream.

Channels: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize; v5 adds 255, whose second byte names a channel that the client
closes. The base64 variants send the channel as a digit and the rest encoded, for browsers without binary messages.
"""

from __future__ import annotations

import asyncio
import base64
import binascii

import orjson
from aiohttp import WSMsgType, web

from agents.runtime.streams import STDERR, STDIN, STDOUT
from agents.server.remote import Size, StreamOptions
from agents.server.spdy_command import parse_size
from orca.api.objects import Obj

ERROR, RESIZE, CLOSE = 3, 4, 255
STRUCTURED = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io")
PLAIN = ("channel.k8s.io", "base64.channel.k8s.io")
PROTOCOLS = STRUCTURED + PLAIN
MAX_MESSAGE = 1 << 24
QUEUED_MESSAGES = 32


def offered_protocols(request: web.Request) -> list[str]:
    """What the client can speak, in its order."""
    return [part.strip() for value in request.headers.getall("Sec-WebSocket-Protocol", []) for part in value.split(",")]


async def upgrade(request: web.Request, known: tuple[str, ...]) -> tuple[web.WebSocketResponse, str]:
    """Accept the WebSocket; answers it and the protocol ("" when the client named none). 400 when none is known."""
    offered = offered_protocols(request)
    protocol = next((name for name in offered if name in known), "")
    if offered and not protocol:
        raise web.HTTPBadRequest(
            text=f"unable to upgrade: the client offers the protocols {offered}, known are {list(known)}"
        )
    socket = web.WebSocketResponse(
        protocols=(protocol,) if protocol else (), compress=False, max_msg_size=MAX_MESSAGE, timeout=5.0
    )
    await socket.prepare(request)
    return socket, protocol


class WebSocketCommand:
    """RemoteCommand over a WebSocket; `run` must be running."""

    def __init__(self, socket: web.WebSocketResponse, protocol: str) -> None:
        self._socket = socket
        self._structured = protocol in STRUCTURED
        self._base64 = "base64" in protocol
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue(QUEUED_MESSAGES)
        self._stdin_ended = False
        self._sizes: asyncio.Queue[Size | None] = asyncio.Queue()
        self._closed = asyncio.Event()

    async def greet(self, options: StreamOptions) -> None:
        """An empty message on the first channel we write: clients take it as the sign that all is set up."""
        await self._send(STDOUT if options.stdout else STDERR if options.stderr and not options.tty else ERROR, b"")

    async def run(self) -> None:
        """Take in what the client sends, until it goes."""
        try:
            async for message in self._socket:
                if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                    await self._receive(message.data)
        finally:
            self._closed.set()
            self._sizes.put_nowait(None)
            while self._stdin.full():
                # A reader that lags behind gets what it can; the client is gone.
                self._stdin.get_nowait()
            self._stdin.put_nowait(b"")

    async def _receive(self, data: bytes | str) -> None:
        raw = data.encode() if isinstance(data, str) else data
        if not raw:
            return
        channel, content = raw[0], bytes(raw[1:])
        if self._base64:
            channel -= ord("0")
            try:
                content = base64.b64decode(content, validate=True)
            except binascii.Error:
                return
        if channel == CLOSE and content[:1] == bytes([STDIN]):
            await self._stdin.put(b"")
        elif channel == STDIN and content:
            await self._stdin.put(content)
        elif channel == RESIZE and (size := parse_size(content)):
            self._sizes.put_nowait(size)

    async def read_stdin(self) -> bytes:
        if self._stdin_ended:
            return b""
        data = await self._stdin.get()
        self._stdin_ended = not data
        return data

    async def read_size(self) -> Size | None:
        return await self._sizes.get()

    async def write(self, stream: int, data: bytes) -> None:
        await self._send(stream, data)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def finish(self, status: Obj) -> None:
        try:
            if self._structured:
                await self._send(ERROR, orjson.dumps(status))
            elif status["status"] != "Success":
                await self._send(ERROR, status["message"].encode())
        except ConnectionError:
            return

    async def _send(self, channel: int, data: bytes) -> None:
        if self._base64:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes([channel]) + data)
