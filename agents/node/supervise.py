"""Runs the parts of the agent side by side: one that fails is started again, and takes nobody with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from orca.client.clock import Clock

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
CALM_SECONDS = 60.0

log = structlog.get_logger()

Part = Callable[[], Awaitable[object]]


class Supervisor:
    """Parts by name, each a task of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Supervisor of {', '.join(self._tasks)}>"

    def add(self, name: str, part: Part) -> None:
        """Run `part` until it returns; after an error run it again, later each time up to 30 s."""
        self._tasks[name] = asyncio.create_task(self._keep(name, part), name=name)

    async def _keep(self, name: str, part: Part) -> None:
        delay = FIRST_DELAY
        while True:
            started = self._clock.monotonic()
            try:
                await part()
                return
            except Exception:
                log.exception("a part of the agent failed; starting it again", part=name, seconds=delay)
            await self._clock.sleep(delay)
            calm = self._clock.monotonic() - started > CALM_SECONDS
            delay = FIRST_DELAY if calm else min(delay * 2, LONGEST_DELAY)

    async def stop(self, seconds: float = 10.0) -> None:
        """End every part; one that does not end in time is left behind with a warning."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=seconds)
        for name, task in self._tasks.items():
            if not task.done():
                log.warning("a part of the agent does not end", part=name)
        self._tasks.clear()
