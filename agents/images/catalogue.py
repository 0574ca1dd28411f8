"""The images of this host as its Node reports them, kept current by the engine's events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from agents.runtime.errors import EngineUnavailable, RuntimeFailure
from agents.runtime.images import Images
from agents.runtime.model import ImageInfo
from orca.client.clock import Clock

SETTLE_SECONDS = 0.5
"""A pull is several events; they are looked at once."""
FIRST_RETRY = 0.5
LAST_RETRY = 10.0

log = structlog.get_logger()


class Catalogue:
    """``run`` until cancelled; ``images`` answers from memory. ``changed`` is called when the list is another one."""

    def __init__(self, engine: Images, *, clock: Clock, changed: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._clock = clock
        self._changed = changed
        self._images: tuple[ImageInfo, ...] | None = None

    def __repr__(self) -> str:
        return f"<Catalogue {len(self._images or ())} images>"

    async def images(self) -> Sequence[ImageInfo]:
        """As of the last look; looks when there was none yet. Raises RuntimeFailure."""
        if self._images is None:
            await self._look()
        return self._images or ()

    async def run(self) -> None:
        delay = FIRST_RETRY
        while True:
            try:
                async with self._engine.events() as events:
                    await self._look()
                    delay = FIRST_RETRY
                    await self._follow(events)
            except EngineUnavailable as error:
                log.debug("no events of images", error=str(error))
            except RuntimeFailure as error:
                log.warning("images cannot be listed", error=str(error))
            await self._clock.sleep(delay)
            delay = min(delay * 2, LAST_RETRY)

    async def _follow(self, events: AsyncIterator[str]) -> None:
        """Look again after events, those of one moment at once; ends as the events do."""
        dirty = asyncio.Event()

        async def read() -> None:
            try:
                async for _ in events:
                    self._engine.forget()
                    dirty.set()
            finally:
                dirty.set()

        reading = asyncio.create_task(read(), name="image events")
        try:
            while not reading.done():
                await dirty.wait()
                await self._clock.sleep(SETTLE_SECONDS)
                dirty.clear()
                await self._look()
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _look(self) -> None:
        found = tuple(sorted(await self._engine.list(), key=lambda image: image.id))
        if found != self._images:
            self._images = found
            self._changed()
