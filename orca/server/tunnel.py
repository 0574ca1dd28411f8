"""Raw splicing of two connections: after an Upgrade, bytes go through unread in both directions.

Works alike for SPDY/3.1 and WebSocket: the request head is passed on with its Upgrade headers, the peer's answer comes
back as it is. Each side is paused while the other cannot take more.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from aiohttp import web

from orca.api.errors import ApiError
from orca.client.sockets import keep_alive
from orca.server.connection import Connection, RawPeer

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
HEAD_LIMIT = 64 * 1024
REFUSAL_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tunnel leads. ``server_name`` is what the peer's certificate must say; ``tls`` None means plain TCP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Upstream(asyncio.Protocol):
    """Our connection to the peer: first collects the answer's head, then feeds the client."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.client: asyncio.Transport | None = None
        self.changed = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: uvloop's TLS transport is no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        keep_alive(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if self.client is not None:
            self.client.write(data)
            return
        self.buffer += data
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self.changed.set()
        if self.client is not None:
            self.client.close()

    def pause_writing(self) -> None:
        if self.client is not None and not self.client.is_closing():
            self.client.pause_reading()

    def resume_writing(self) -> None:
        if self.client is not None and not self.client.is_closing():
            self.client.resume_reading()


class _Downstream(RawPeer):
    """What the client's connection feeds once it is raw."""

    def __init__(self, upstream: asyncio.Transport) -> None:
        self._upstream = upstream
        self.gone = asyncio.Event()

    def feed(self, data: bytes) -> None:
        self._upstream.write(data)

    def closed(self) -> None:
        self.gone.set()
        self._upstream.close()

    def pause(self) -> None:
        if not self._upstream.is_closing():
            self._upstream.pause_reading()

    def resume(self) -> None:
        if not self._upstream.is_closing():
            self._upstream.resume_reading()


class SplicedResponse(web.StreamResponse):
    """Tells aiohttp that the answer was written by other means."""

    def __init__(self, status: int) -> None:
        super().__init__(status=status)
        self._keep_alive = False

    @property
    def prepared(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


async def splice(
    connection: Connection,
    endpoint: Endpoint,
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]],
    begun: Callable[[], None],
) -> web.StreamResponse:
    """Upgrade towards ``endpoint`` and splice until either side closes; ``begun`` is called when that begins.

    A peer that refuses to upgrade has its answer passed on. Raises ApiError 502/500 when it cannot be reached.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, upstream = await loop.create_connection(
                _Upstream,
                endpoint.host,
                endpoint.port,
                ssl=endpoint.tls,
                server_hostname=(endpoint.server_name or endpoint.host) if endpoint.tls else None,
            )
    except (OSError, ssl.SSLError, TimeoutError) as error:
        raise dial_failed(endpoint, error) from error
    assert upstream.transport is not None
    try:
        upstream.transport.write(_head(method, path, endpoint.authority, headers))
        status, head_size = await _answer_head(upstream)
        if status != 101:
            return await _refusal(upstream, status, head_size)
        client = connection.transport
        if client is None or client.is_closing():
            return SplicedResponse(499)
        downstream = _Downstream(upstream.transport)
        client.write(bytes(upstream.buffer))
        upstream.buffer.clear()
        upstream.client = client
        connection.go_raw(downstream)
        begun()
        lost, gone = asyncio.ensure_future(upstream.lost.wait()), asyncio.ensure_future(downstream.gone.wait())
        try:
            await asyncio.wait((lost, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
            gone.cancel()
        return SplicedResponse(101)
    finally:
        upstream.transport.close()


def dial_failed(endpoint: Endpoint, error: BaseException) -> ApiError:
    """What a client is told when the host does not answer."""
    why = str(error) or type(error).__name__
    return ApiError(500, "InternalError", f"error dialing backend: dial tcp {endpoint.authority}: {why}")


def _head(method: str, path: str, authority: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}", *(f"{key}: {value}" for key, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def _answer_head(upstream: _Upstream) -> tuple[int, int]:
    """(status, length of the head) once the head has arrived completely."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while (end := upstream.buffer.find(b"\r\n\r\n")) < 0:
                if upstream.lost.is_set() or len(upstream.buffer) > HEAD_LIMIT:
                    raise ApiError(502, "", "the peer closed the connection without an answer")
                upstream.changed.clear()
                await upstream.changed.wait()
    except TimeoutError:
        raise ApiError(504, "Timeout", "the peer did not answer in time") from None
    try:
        status = int(upstream.buffer.split(b" ", 2)[1])
    except (IndexError, ValueError):
        raise ApiError(502, "", "the peer's answer is not HTTP") from None
    return status, end + 4


async def _refusal(upstream: _Upstream, status: int, head_size: int) -> web.Response:
    """An answer that is no upgrade, read to its end."""
    head = bytes(upstream.buffer[:head_size]).decode("latin-1").split("\r\n")[1:]
    fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in head if line)}
    length = int(fields["content-length"]) if fields.get("content-length", "").isdigit() else None
    wanted = head_size + min(length if length is not None else REFUSAL_LIMIT, REFUSAL_LIMIT)
    try:
        async with asyncio.timeout(ANSWER_SECONDS if length is not None else 2):
            while len(upstream.buffer) < wanted and not upstream.lost.is_set():
                upstream.changed.clear()
                await upstream.changed.wait()
    except TimeoutError:
        pass  # an answer without length, kept open: what has come is the answer
    body = bytes(upstream.buffer[head_size:wanted])
    if fields.get("transfer-encoding", "").lower() == "chunked":
        body = _unchunked(body)
    media = fields.get("content-type", "text/plain")
    response = web.Response(body=body, status=status, headers={"Content-Type": media})
    response.force_close()
    return response


def _unchunked(body: bytes) -> bytes:
    parts = []
    while body:
        size_text, _, rest = body.partition(b"\r\n")
        try:
            size = int(size_text.split(b";")[0], 16)
        except ValueError:
            break
        if size == 0:
            break
        parts.append(rest[:size])
        body = rest[size + 2 :]
    return b"".join(parts)
