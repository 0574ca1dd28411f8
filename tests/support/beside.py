"""Whether a server answers others while it works for somebody for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

SERVED = 100
"""Answers beside one that takes seconds, of a thousand; while its body is on the way there are some in any case."""
TRIES = 8
"""A client that is not given the processor for a while asks nothing meanwhile: one try is enough."""


async def are_served_beside(quick: Callable[[], Awaitable[None]], long: Callable[[], Awaitable[None]]) -> bool:
    """Whether some ``quick`` requests, one after the other, are answered before a ``long`` one that came first."""
    for _ in range(TRIES):
        working = asyncio.ensure_future(long())
        served = 0
        while not working.done():
            await quick()
            served += not working.done()
        await working
        if served >= SERVED:
            return True
    return False
