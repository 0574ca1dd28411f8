"""Raw streams to processes in containers: exec and attach over the engine's socket, hijacked as its API defines.

The engine answers 101 and the connection becomes the process's: what is written is its stdin, what is read its output;
without a tty stdout and stderr come in frames of an 8-byte header (stream, 0, 0, 0, length big-endian).
Spec: Docker Engine API v1.41, "Attach to a container" and "Start an exec instance".

These connections are plain asyncio streams, not the runtime's HTTP client: half-closing stdin and reading with
back-pressure are what matters here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from agents.runtime.engine import Engine, translate
from agents.runtime.errors import EngineUnavailable, RefusedByEngine, RuntimeFailure

STDIN, STDOUT, STDERR = 0, 1, 2
READ_BYTES = 1 << 16
EXIT_POLLS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 2.0)


class RawStream:
    """A process's streams. `multiplexed` is true without a tty."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, multiplexed: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._multiplexed = multiplexed
        self._stream, self._left = STDOUT, 0

    def __repr__(self) -> str:
        return f"<RawStream {'multiplexed' if self._multiplexed else 'tty'}>"

    async def read(self) -> tuple[int, bytes] | None:
        """The next output: (STDOUT or STDERR, at most 64 KiB); None at the end. A lost engine is an end too."""
        try:
            if not self._multiplexed:
                data = await self._reader.read(READ_BYTES)
                return (STDOUT, data) if data else None
            while not self._left:
                header = await self._reader.readexactly(8)
                self._stream, self._left = header[0] or STDOUT, int.from_bytes(header[4:], "big")
            data = await self._reader.read(min(self._left, READ_BYTES))
            self._left -= len(data)
            return (self._stream, data) if data else None
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def write(self, data: bytes) -> None:
        """Write to stdin, waiting while the process does not read; a process that is gone swallows it."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def write_eof(self) -> None:
        """End stdin; output goes on."""
        with contextlib.suppress(ConnectionError, OSError, RuntimeError):
            await self._writer.drain()
            self._writer.write_eof()

    def close(self) -> None:
        """Detach. The process goes on."""
        self._writer.close()

    async def __aenter__(self) -> RawStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class ExecState:
    """An exec as the engine sees it; `exit_code` is None while it runs, `pid` 0 when it never started."""

    running: bool
    exit_code: int | None
    pid: int


class EngineStreams:
    """Opens streams at an engine. Every method raises RuntimeFailure."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"<EngineStreams {self._engine.socket_path}>"

    async def open_exec(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> tuple[str, RawStream]:
        """Start a process in a running container; answers the exec's id and its streams."""
        created = await self._engine.call(
            "POST",
            f"/containers/{container_id}/exec",
            body={
                "Cmd": list(argv),
                "Tty": tty,
                "AttachStdin": stdin,
                "AttachStdout": stdout,
                "AttachStderr": stderr and not tty,
            },
        )
        exec_id: str = created["Id"]
        return exec_id, await self._hijack(f"/exec/{exec_id}/start", {"Detach": False, "Tty": tty}, tty=tty)

    async def open_attach(
        self, container_id: str, *, tty: bool, stdin: bool = False, stdout: bool = True, stderr: bool = True
    ) -> RawStream:
        """Streams of the container's own process from now on; `tty` is what the container was made with."""
        query = {"stream": 1, "stdin": int(stdin), "stdout": int(stdout), "stderr": int(stderr and not tty), "logs": 0}
        stream = await self._hijack(f"/containers/{container_id}/attach?{urlencode(query)}", None, tty=tty)
        # The engine lets clients attach to a container that has ended and then waits for its next start.
        state = (await self._engine.call("GET", f"/containers/{container_id}/json"))["State"]
        if not state.get("Running"):
            stream.close()
            raise RefusedByEngine(f"container {container_id} is not running any more")
        return stream

    async def exec_state(self, exec_id: str) -> ExecState:
        """Looks once."""
        answer = await self._engine.call("GET", f"/exec/{exec_id}/json")
        return ExecState(bool(answer.get("Running")), answer.get("ExitCode"), answer.get("Pid") or 0)

    async def exec_exit_code(self, exec_id: str) -> int | None:
        """Exit code after the output ended; None when the process goes on (it closed its output itself).

        The engine ends the stream a moment before it notes the exit, so the answer may need a few looks.
        """
        for pause in EXIT_POLLS:
            await asyncio.sleep(pause)
            state = await self.exec_state(exec_id)
            if not state.running:
                return state.exit_code
        return None

    async def hang_up(self, exec_id: str) -> None:
        """SIGHUP to a process whose terminal went away; the engine itself never ends an exec."""
        with contextlib.suppress(RuntimeFailure, ProcessLookupError, PermissionError):
            state = await self.exec_state(exec_id)
            if state.running and state.pid > 1:
                os.kill(state.pid, signal.SIGHUP)

    async def resize_exec(self, exec_id: str, width: int, height: int) -> None:
        """Size of the terminal in characters."""
        await self._engine.call("POST", f"/exec/{exec_id}/resize", params=_size(width, height))

    async def resize_container(self, container_id: str, width: int, height: int) -> None:
        """Size of the terminal in characters."""
        await self._engine.call("POST", f"/containers/{container_id}/resize", params=_size(width, height))

    async def _hijack(self, path: str, body: Any, *, tty: bool) -> RawStream:
        """Send one request on a connection of its own, and keep the connection."""
        url = urlsplit(await self._engine.prefix())
        content = b"" if body is None else orjson.dumps(body)
        head = (
            f"POST {url.path}{path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        try:
            reader, writer = await asyncio.open_unix_connection(self._engine.socket_path, limit=READ_BYTES)
        except OSError as error:
            raise EngineUnavailable(f"engine at {self._engine.socket_path}: {error}") from error
        try:
            writer.write(head.encode() + content)
            await writer.drain()
            status, length = await _read_head(reader)
            # An engine may answer 200 and hijack all the same when it does not know the Upgrade header.
            if status not in (101, 200):
                raise translate(status, path, await reader.read(length))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
            writer.close()
            raise EngineUnavailable(f"engine at {self._engine.socket_path} hung up: {error}") from error
        except BaseException:
            writer.close()
            raise
        return RawStream(reader, writer, multiplexed=not tty)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Status and content length (a generous guess when there is none) of an HTTP/1.1 answer."""
    status = int((await reader.readuntil(b"\r\n")).split(None, 2)[1])
    length = READ_BYTES
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return status, length


def _size(width: int, height: int) -> dict[str, str]:
    return {"w": str(width), "h": str(height)}
