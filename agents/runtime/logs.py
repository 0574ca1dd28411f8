"""Logs of a container, read through the engine: it knows its log driver, rotated files and half-written lines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import aiohttp

from agents.runtime.engine import Engine
from agents.runtime.errors import EngineUnavailable

READ_BYTES = 1 << 16


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
        yield _limited(chunks if tty else _without_frames(chunks), options.limit_bytes)


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
