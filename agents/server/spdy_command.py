"""A remote command over SPDY/3.1: one SPDY stream for each of error, stdin, stdout, stderr and resize."""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web

from agents.runtime.streams import STDERR, STDOUT
from agents.server.remote import Size, StreamOptions
from agents.server.spdy_session import SpdySession, SpdyStream
from agents.server.transport import take_over
from orca.api.objects import Obj

PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io")
STREAMS_SECONDS = 30.0


def negotiate(request: web.Request, known: tuple[str, ...]) -> str:
    """The first protocol the client offers that is known; 403 as kubelet answers when there is none."""
    offered = [
        part.strip() for value in request.headers.getall("X-Stream-Protocol-Version", []) for part in value.split(",")
    ]
    for protocol in offered:
        if protocol in known:
            return protocol
    raise web.HTTPForbidden(
        text=f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server accepts {list(known)}"
    )


def upgrade(request: web.Request, protocol: str) -> SpdySession:
    """Answer 101 and speak SPDY from here on."""
    headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol}
    return SpdySession(take_over(request, headers))


class SpdyCommand:
    """RemoteCommand over the streams of a session; `session.run` must be running."""

    def __init__(self, session: SpdySession, protocol: str) -> None:
        self._session = session
        self._structured = protocol == PROTOCOLS[0]
        self._streams: dict[str, SpdyStream] = {}
        self._size_text = b""

    async def open(self, options: StreamOptions) -> None:
        """Wait until the client has opened the streams it asked for. Raises TimeoutError, ConnectionError."""
        expected = {"error"}
        expected |= {name for name in ("stdin", "stdout", "stderr") if getattr(options, name)}
        if options.tty:
            expected.discard("stderr")
        async with asyncio.timeout(STREAMS_SECONDS):
            while not expected <= self._streams.keys():
                await self._accept()
        for name, stream in self._streams.items():
            if name not in ("stdin", "resize"):
                stream.discard()

    async def _accept(self) -> None:
        stream = await self._session.accept()
        if stream is None:
            raise ConnectionResetError("the client went away before its streams were there")
        self._streams[stream.headers.get("streamtype", "")] = stream

    async def read_stdin(self) -> bytes:
        return await self._streams["stdin"].read()

    async def read_size(self) -> Size | None:
        # Clients open the resize stream last, or (protocol v2, no terminal) not at all.
        while "resize" not in self._streams:
            try:
                await self._accept()
            except ConnectionError:
                return None
        while data := await self._streams["resize"].read():
            self._size_text += data
            # JSON documents without separator but the encoder's line ends; only the newest matters.
            *complete, self._size_text = self._size_text.split(b"\n")
            for text in reversed(complete):
                if size := parse_size(text):
                    return size
        return None

    async def write(self, stream: int, data: bytes) -> None:
        target = self._streams.get({STDOUT: "stdout", STDERR: "stderr"}[stream])
        if target is not None:
            await target.write(data)

    async def wait_closed(self) -> None:
        await self._session.closed()

    async def finish(self, status: Obj) -> None:
        error = self._streams["error"]
        try:
            if self._structured:
                await error.write(orjson.dumps(status))
            elif status["status"] != "Success":
                await error.write(status["message"].encode())
        except ConnectionError:
            return


def parse_size(text: bytes) -> Size | None:
    """`{"Width":80,"Height":24}`; None for anything else."""
    try:
        document = orjson.loads(text)
        width, height = int(document["Width"]), int(document["Height"])
    except (ValueError, KeyError, TypeError):
        return None
    return (width, height) if 0 < width < 65536 and 0 < height < 65536 else None
