"""Time in which somebody could be heard: what is missed while this process stands still is held against nobody."""

import structlog

from orca.client.clock import Clock

log = structlog.get_logger()

LOOK_SECONDS = 2.0
LATE_SECONDS = 1.0
"""What a busy event loop is late without having stood still."""


class AwakeTime:
    """Monotonic seconds without those in which this process stood still: it was stopped, its host was suspended or had
    no processor for it. Heartbeats of those seconds come after them, so whoever is given up for silence is judged by
    this time. A standstill is noticed while ``keep`` runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: float | None = None  # when there is to be another look
        self._missed = 0.0

    def seconds(self) -> float:
        """Now."""
        now = self._clock.monotonic()
        if self._due is not None and now - self._due > LATE_SECONDS:
            log.warning("this process stood still", seconds=round(now - self._due, 1))
            self._missed += now - self._due
            self._due = now
        return now - self._missed

    async def keep(self) -> None:
        """Looks again and again, until cancelled."""
        try:
            while True:
                self.seconds()
                self._due = self._clock.monotonic() + LOOK_SECONDS
                await self._clock.sleep(LOOK_SECONDS)
        finally:
            self._due = None
