"""A configuration file that is used anew when its content changes.

Looked at from time to time: files are often exchanged by way of symbolic links (ConfigMaps), or lie on file systems
that tell of nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from orca.client.clock import Clock

POLL_SECONDS = 5.0
"""How often the file is looked at."""

Take = Callable[[bytes | None], Awaitable[bool]]
"""What to do with a new content, None when the file cannot be read. False: the same content is to be offered again."""


async def follow(path: Path, seen: bytes, take: Take, clock: Clock) -> None:
    """Until cancelled; ``seen`` is the content in use."""
    unreadable = False
    while True:
        await clock.sleep(POLL_SECONDS)
        content = await asyncio.to_thread(_read, path)
        if content is None:
            if not unreadable:
                await take(None)
            unreadable = True
            continue
        unreadable = False
        if content != seen and await take(content):
            seen = content


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
