"""Port-forward: connections of the client to ports of a pod, in the three ways clients ask for it.

SPDY (kubectl before 1.31): for every connection an error and a data stream with headers `port` and `requestID`.
SPDY inside a WebSocket (`SPDY/3.1+portforward.k8s.io`, kubectl from 1.31): the same, tunnelled in binary messages.
WebSocket channels (`v4.channel.k8s.io`, client libraries): for the n-th port channel 2n is data and 2n+1 errors; each
begins with the port as two bytes, little-endian.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from agents.server import netns, spdy_command, websocket
from agents.server.spdy_session import SpdySession, SpdyStream
from agents.server.transport import TakenOverResponse, WebSocketBytes

PROTOCOL = "portforward.k8s.io"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
READ_BYTES = 1 << 16
QUEUED_MESSAGES = 32


class Forwarding:
    """Forwards to one pod: `pid` is a process in its network namespace."""

    def __init__(self, pod: str, uid: str, pid: int) -> None:
        self._pod = pod
        self._uid = uid
        self._pid = pid

    def __repr__(self) -> str:
        return f"<Forwarding {self._pod}>"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Until the client goes. Answers what the HTTP server should think was the response."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if TUNNEL in websocket.offered_protocols(request):
                socket, _ = await websocket.upgrade(request, (TUNNEL,))
                await self._serve_session(SpdySession(WebSocketBytes(socket)))
                return socket
            return await self._serve_channels(request)
        session = spdy_command.upgrade(request, spdy_command.negotiate(request, (PROTOCOL,)))
        await self._serve_session(session)
        return TakenOverResponse()

    # --- SPDY -----------------------------------------------------------------------------------------------------

    async def _serve_session(self, session: SpdySession) -> None:
        running = asyncio.create_task(session.run())
        errors: dict[str, SpdyStream] = {}
        pairs: set[asyncio.Task[None]] = set()
        try:
            while (stream := await session.accept()) is not None:
                # kubectl opens the error stream first; the data stream of the same request follows.
                request = stream.headers.get("requestid", stream.headers.get("port", ""))
                kind = stream.headers.get("streamtype")
                if kind == "error":
                    stream.discard()
                    errors[request] = stream
                elif kind == "data" and request in errors:
                    pair = asyncio.create_task(self._serve_pair(stream, errors.pop(request)))
                    pairs.add(pair)
                    pair.add_done_callback(pairs.discard)
                else:
                    stream.reset()
        finally:
            for pair in pairs:
                pair.cancel()
            await asyncio.gather(*pairs, return_exceptions=True)
            await session.close()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _serve_pair(self, data: SpdyStream, error: SpdyStream) -> None:
        try:
            port = int(data.headers.get("port", ""))
            await self._forward(port, data.read, data.write, data.end)
        except ValueError:
            await self._tell(error, f"unable to parse port {data.headers.get('port', '')!r}")
            data.reset()
        except ConnectionResetError:
            data.reset()
        except OSError as failure:
            await self._tell(error, self._describe(port, failure))
            data.end()
            data.discard()
        finally:
            error.end()

    async def _tell(self, error: SpdyStream, message: str) -> None:
        try:
            await error.write(message.encode())
        except ConnectionError:
            pass

    # --- WebSocket channels ---------------------------------------------------------------------------------------

    async def _serve_channels(self, request: web.Request) -> web.StreamResponse:
        values = [
            part
            for value in request.query.getall("ports", request.query.getall("port", []))
            for part in value.split(",")
        ]
        try:
            ports = [int(value) for value in values]
        except ValueError:
            raise web.HTTPBadRequest(text=f"unable to parse ports {values}") from None
        if not ports or not all(0 < port < 65536 for port in ports):
            raise web.HTTPBadRequest(text='query parameter "port" is required and must be from 1 to 65535')
        socket, protocol = await websocket.upgrade(request, CHANNELS)
        encoded = "base64" in protocol

        async def send(channel: int, content: bytes) -> None:
            if encoded:
                await socket.send_str(f"{channel}{base64.b64encode(content).decode()}")
            else:
                await socket.send_bytes(bytes([channel]) + content)

        incoming: list[asyncio.Queue[bytes]] = [asyncio.Queue(QUEUED_MESSAGES) for _ in ports]
        for index, port in enumerate(ports):
            for channel in (2 * index, 2 * index + 1):
                await send(channel, port.to_bytes(2, "little"))
        tasks = [
            asyncio.create_task(self._serve_channel(index, port, incoming[index], send))
            for index, port in enumerate(ports)
        ]
        forwarding = asyncio.gather(*tasks, return_exceptions=True)
        reading = asyncio.create_task(_distribute(socket, encoded, tasks, incoming))
        try:
            # These channels cannot be closed one by one: when every port has ended, the WebSocket does.
            ends: set[asyncio.Future[Any]] = {reading, forwarding}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forwarding.cancel()
            reading.cancel()
            await asyncio.gather(reading, forwarding, return_exceptions=True)
            await socket.close()
        return socket

    async def _serve_channel(
        self, index: int, port: int, incoming: asyncio.Queue[bytes], send: Callable[[int, bytes], Awaitable[None]]
    ) -> None:
        try:
            await self._forward(port, incoming.get, lambda content: send(2 * index, content), lambda: None)
        except ConnectionResetError:
            pass
        except OSError as failure:
            await send(2 * index + 1, self._describe(port, failure).encode())

    # --- both -----------------------------------------------------------------------------------------------------

    async def _forward(
        self,
        port: int,
        read: Callable[[], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
        end: Callable[[], None],
    ) -> None:
        """Connect and move bytes both ways until the pod's side has ended. Raises OSError when it cannot connect."""
        reader, writer = await netns.open_connection(self._pid, port)

        async def to_pod() -> None:
            while data := await read():
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(to_pod())
        try:
            while data := await reader.read(READ_BYTES):
                await write(data)
            end()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()

    def _describe(self, port: int, failure: OSError) -> str:
        return f"error forwarding port {port} to pod {self._pod}, uid {self._uid}: {failure.strerror or failure}"


async def _distribute(
    socket: web.WebSocketResponse, encoded: bool, tasks: list[asyncio.Task[None]], incoming: list[asyncio.Queue[bytes]]
) -> None:
    """Hand the client's messages to the ports they are for, until it goes."""
    async for message in socket:
        content = _content(message.data, encoded) if message.type in (WSMsgType.BINARY, WSMsgType.TEXT) else b""
        if len(content) < 2 or content[0] % 2:
            continue
        index = content[0] // 2
        if index < len(tasks) and not tasks[index].done():
            await incoming[index].put(content[1:])


def _content(data: bytes | str, encoded: bool) -> bytes:
    """Channel byte and payload of a message; b"" when it cannot be read."""
    raw = data.encode() if isinstance(data, str) else bytes(data)
    if not encoded or not raw:
        return raw
    try:
        return bytes([raw[0] - ord("0")]) + base64.b64decode(raw[1:], validate=True)
    except (binascii.Error, ValueError):
        return b""
