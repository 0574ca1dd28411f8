"""Logs of a container: straight from the files when the engine writes json-file, else through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import aiohttp

from agents.runtime.engine import Engine
from agents.runtime.errors import EngineUnavailable, NoSuchContainer, RuntimeFailure
from agents.runtime.json_logs import JsonLogReader

READ_BYTES = 1 << 16
FOLLOW_SECONDS = 0.1
"""How often a followed file is looked at once everything was read."""
WAIT_SECONDS = 86400.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LogOptions:
    """As PodLogOptions: None means no limit. `limit_bytes` counts what is handed out, timestamps included."""

    follow: bool = False
    tail_lines: int | None = None
    since: datetime | None = None
    timestamps: bool = False
    limit_bytes: int | None = None
    stdout: bool = True
    stderr: bool = True


@asynccontextmanager
async def open_logs(
    engine: Engine, container_id: str, options: LogOptions, *, tty: bool
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Chunks of output in the order it was written; with `follow` until the container ends.

    `tty` is what the container was made with: then the engine's stream carries no frames. Raises RuntimeFailure, on
    entering when the engine refuses (NoSuchContainer when it was removed).
    """
    found = await engine.call("GET", f"/containers/{container_id}/json")
    driver = ((found.get("HostConfig") or {}).get("LogConfig") or {}).get("Type")
    reader = await asyncio.to_thread(_open_file, found.get("LogPath") or "", options) if driver == "json-file" else None
    if reader is None:
        async with _open_stream(engine, container_id, options, tty=tty) as chunks:
            yield _limited(chunks, options.limit_bytes)
        return
    ended = asyncio.create_task(_wait_stopped(engine, container_id)) if options.follow else None
    try:
        yield _limited(_file_chunks(reader, ended), options.limit_bytes)
    finally:
        if ended is not None:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
        reader.close()


def _open_file(path: str, options: LogOptions) -> JsonLogReader | None:
    """None when there is no file to read: the container never ran, or the engine sees another file system."""
    names = {"stdout": options.stdout, "stderr": options.stderr}
    try:
        return JsonLogReader(
            Path(path),
            tail=options.tail_lines,
            since=options.since,
            timestamps=options.timestamps,
            streams=frozenset(name for name, wanted in names.items() if wanted),
        )
    except OSError:
        return None


async def _file_chunks(reader: JsonLogReader, ended: asyncio.Task[None] | None) -> AsyncIterator[bytes]:
    while True:
        # Asked before reading: what was written up to its end is then read for certain.
        last = ended is None or ended.done()
        while chunk := await asyncio.to_thread(reader.read):
            yield chunk
        if last:
            return
        assert ended is not None
        await asyncio.wait({ended}, timeout=FOLLOW_SECONDS)


async def _wait_stopped(engine: Engine, container_id: str) -> None:
    """Returns when the container does not run any more; an engine that goes away has not stopped it."""
    while True:
        try:
            await engine.call("POST", f"/containers/{container_id}/wait", seconds=WAIT_SECONDS)
            return
        except NoSuchContainer:
            return
        except RuntimeFailure:
            await asyncio.sleep(RETRY_SECONDS)


@asynccontextmanager
async def _open_stream(
    engine: Engine, container_id: str, options: LogOptions, *, tty: bool
) -> AsyncIterator[AsyncIterator[bytes]]:
    params = {
        "stdout": _flag(options.stdout),
        "stderr": _flag(options.stderr),
        "follow": _flag(options.follow),
        "timestamps": _flag(options.timestamps),
        "tail": "all" if options.tail_lines is None else str(options.tail_lines),
    }
    if options.since is not None:
        params["since"] = f"{options.since.timestamp():.9f}"
    async with engine.stream("GET", f"/containers/{container_id}/logs", params=params) as response:
        chunks: AsyncIterator[bytes] = response.content.iter_chunked(READ_BYTES)
        yield chunks if tty else _without_frames(chunks)


async def _limited(chunks: AsyncIterator[bytes], limit: int | None) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            part = chunk if limit is None else chunk[:limit]
            if part:
                yield part
            if limit is not None:
                limit -= len(part)
                if limit <= 0:
                    return
    except aiohttp.ClientError as error:
        raise EngineUnavailable(f"the engine hung up: {error}") from error


async def _without_frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Takes the 8-byte headers (stream, 0, 0, 0, length) out; joins what one read brought."""
    buffer = bytearray()
    left = 0
    async for chunk in chunks:
        buffer += chunk
        output: list[bytes] = []
        position = 0
        while position < len(buffer):
            if not left:
                if len(buffer) - position < 8:
                    break
                left = int.from_bytes(buffer[position + 4 : position + 8], "big")
                position += 8
                continue
            part = bytes(buffer[position : position + left])
            output.append(part)
            position += len(part)
            left -= len(part)
        del buffer[:position]
        if output:
            yield b"".join(output)


def _flag(value: bool) -> str:
    return "1" if value else "0"
