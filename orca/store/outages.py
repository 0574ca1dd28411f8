"""What a process does first goes through outages of etcd: one that begins anew, or elects, is no reason to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from structlog import get_logger

from orca.api.errors import ApiError, is_away
from orca.store.seldom import Seldom

log = get_logger(__name__)
T = TypeVar("T")

AWAY_SECONDS = 30.0
RETRY_SECONDS = 0.5


async def persistently(step: Callable[[], Awaitable[T]]) -> T:
    """What ``step`` answers; it is taken again while etcd is away, for ``AWAY_SECONDS``, so it must bear being taken
    twice. Raises ApiError 503 or 504 after that."""
    loop = asyncio.get_running_loop()
    deadline, away = loop.time() + AWAY_SECONDS, Seldom(loop.time)
    while True:
        try:
            return await step()
        except ApiError as error:
            if not is_away(error) or loop.time() > deadline:
                raise
            if away.due():
                log.warning("the store is away", error=str(error))
        await asyncio.sleep(RETRY_SECONDS)
