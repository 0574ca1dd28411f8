"""exec and attach: from an HTTP request to a process in a container, and back to its exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiohttp import web

from agents.runtime.errors import RuntimeFailure
from agents.runtime.streams import EngineStreams
from agents.server import remote, spdy_command, websocket
from agents.server.remote import RemoteCommand, Size, StreamOptions
from agents.server.spdy_command import SpdyCommand
from agents.server.transport import TakenOverResponse
from agents.server.websocket import WebSocketCommand

RESIZE_PAUSES = (0.0, 0.02, 0.05, 0.1, 0.3, 1.0)

log = structlog.get_logger()

Serve = Callable[[RemoteCommand], Awaitable[None]]


class Commands:
    """Runs commands for clients at one engine."""

    def __init__(self, streams: EngineStreams) -> None:
        self._streams = streams

    async def execute(
        self, request: web.Request, options: StreamOptions, container_id: str, argv: Sequence[str]
    ) -> web.StreamResponse:
        """Start `argv` in a running container, connected to the client until it ends."""

        async def serve(command: RemoteCommand) -> None:
            exec_id, process = await self._streams.open_exec(
                container_id,
                argv,
                tty=options.tty,
                stdin=options.stdin,
                stdout=options.stdout,
                stderr=options.stderr,
            )
            async with process:
                resize = _patient(lambda size: self._streams.resize_exec(exec_id, *size))
                ended = await remote.connect(command, process, stdin=options.stdin, resize=resize)
            if ended:
                code = await self._streams.exec_exit_code(exec_id)
                await command.finish(remote.exited(code or 0))
            elif options.tty:
                await self._streams.hang_up(exec_id)

        return await _with_client(request, options, serve)

    async def attach(
        self, request: web.Request, options: StreamOptions, container_id: str, *, tty: bool
    ) -> web.StreamResponse:
        """Connect the client to the container's own process until one of them ends."""

        async def serve(command: RemoteCommand) -> None:
            process = await self._streams.open_attach(
                container_id, tty=tty, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr
            )
            async with process:
                resize = _patient(lambda size: self._streams.resize_container(container_id, *size))
                if await remote.connect(command, process, stdin=options.stdin, resize=resize):
                    await command.finish(remote.success())

        return await _with_client(request, options, serve)


async def _with_client(request: web.Request, options: StreamOptions, serve: Serve) -> web.StreamResponse:
    """Upgrade in the protocol the client asks for, serve, and close whatever happens."""
    match request.headers.get("Upgrade", "").lower():
        case "websocket":
            return await _with_websocket(request, options, serve)
        case "spdy/3.1":
            return await _with_spdy(request, options, serve)
    raise web.HTTPBadRequest(text="unable to upgrade: missing upgrade headers in request")


async def _with_websocket(request: web.Request, options: StreamOptions, serve: Serve) -> web.StreamResponse:
    socket, protocol = await websocket.upgrade(request, websocket.PROTOCOLS)
    command = WebSocketCommand(socket, protocol)
    running = asyncio.create_task(command.run())
    try:
        await command.greet(options)
        await _serve(command, serve)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await socket.close()
    return socket


async def _with_spdy(request: web.Request, options: StreamOptions, serve: Serve) -> web.StreamResponse:
    protocol = spdy_command.negotiate(request, spdy_command.PROTOCOLS)
    session = spdy_command.upgrade(request, protocol)
    running = asyncio.create_task(session.run())
    try:
        command = SpdyCommand(session, protocol)
        await command.open(options)
        await _serve(command, serve)
    except (ConnectionError, TimeoutError) as error:
        log.info("a client went away before its command began", error=str(error))
    finally:
        await session.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return TakenOverResponse()


async def _serve(command: RemoteCommand, serve: Serve) -> None:
    try:
        await serve(command)
    except RuntimeFailure as error:
        await command.finish(remote.failed(str(error)))
    except ConnectionError:
        pass


def _patient(resize: Callable[[Size], Awaitable[None]]) -> Callable[[Size], Awaitable[None]]:
    """A terminal can be resized only once its process runs, and the first size comes before: try for a moment."""

    async def attempt(size: Size) -> None:
        for pause in RESIZE_PAUSES:
            await asyncio.sleep(pause)
            try:
                return await resize(size)
            except RuntimeFailure as error:
                log.debug("cannot resize yet", error=str(error))
        return None

    return attempt
