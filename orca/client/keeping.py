"""Work that has to go on for as long as the process lives, whatever happens to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from orca.api.errors import is_away
from orca.client.clock import Clock

log = structlog.get_logger()

FIRST_RESTART = 1.0
LAST_RESTART = 60.0
"""Seconds before work that crashed begins again: the first time, and at most."""


async def keep_running(name: str, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do ``work`` until it ends by itself or is cancelled; what crashes is told in the log and begun again.

    A bare task would end without a word, and what it kept true would slowly become wrong. Work that an outage has
    interrupted begins again soon, however long that lasts: afterwards nothing is to stand still for a minute.
    """
    pause = FIRST_RESTART
    while True:
        began, interrupted = clock.monotonic(), False
        try:
            await work()
            return
        except Exception as error:
            # Whatever it was: the fault is told, and the rest of the process goes on.
            interrupted = is_away(error)
            if interrupted:
                log.warning("background work interrupted, beginning again", work=name, error=str(error))
            else:
                log.exception("background work crashed, beginning again", work=name)
        if interrupted or clock.monotonic() - began > LAST_RESTART:
            pause = FIRST_RESTART
        await clock.sleep(pause)
        pause = min(pause * 2, LAST_RESTART)
