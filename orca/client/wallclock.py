"""The host's wall clock being set: what waits must wait neither longer nor shorter for it.

Durations are measured on the monotonic clock wherever nothing else sees them. A pod's waits are between stamps of the
wall clock, since the engine's and the API's are such; when the clock is set, what was noted before has to be moved.
What waits for a time of the day (a CronJob's next, a certificate's end) has to be reckoned anew.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from orca.client.clock import Clock

# <sys/timerfd.h>
_REALTIME, _NONBLOCK, _CLOEXEC = 0, os.O_NONBLOCK, os.O_CLOEXEC
_ABSOLUTE, _CANCEL_ON_SET = 1, 2
_NEVER = 1 << 32
SMALLEST_STEP = 1.0
"""Seconds. What an NTP client slews instead of setting is not told of, and adds up slowly."""
SLOW_LOOK_SECONDS = 5.0

log = structlog.get_logger()


class WallClock:
    """Calls ``moved`` with how far the wall clock was set, each time that it was.

    The kernel tells at once. With ``looking`` the clocks are compared every few seconds besides, which also finds what
    moves the clock without the kernel's knowledge.
    """

    def __init__(self, clock: Clock, moved: Callable[[timedelta], None], *, looking: bool = False) -> None:
        self._clock = clock
        self._moved = moved
        self._looking = looking
        self._offset = self._now()

    def __repr__(self) -> str:
        return f"<WallClock {self._offset:.1f}>"

    def _now(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def look(self) -> None:
        """Compare the clocks."""
        offset = self._now()
        by, self._offset = offset - self._offset, offset
        if abs(by) >= SMALLEST_STEP:
            log.warning("the host's clock was set", seconds=round(by, 1))
            self._moved(timedelta(seconds=by))

    async def run(self) -> None:
        """Until cancelled."""
        try:
            timer = _timer()
        except OSError as error:
            log.info("the kernel does not tell when the clock is set; looking now and then", error=str(error))
            await self._keep_looking()
        loop = asyncio.get_running_loop()
        loop.add_reader(timer, self._set, timer)
        try:
            await (self._keep_looking() if self._looking else asyncio.Event().wait())
        finally:
            loop.remove_reader(timer)
            os.close(timer)

    async def _keep_looking(self) -> None:
        while True:
            await self._clock.sleep(SLOW_LOOK_SECONDS)
            self.look()

    def _set(self, timer: int) -> None:
        try:
            os.read(timer, 8)
        except OSError:  # ECANCELED: that is how it tells
            self.look()


class _Spec(ctypes.Structure):
    """struct itimerspec"""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


def _timer() -> int:
    """A descriptor that becomes readable when the wall clock is set. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer: int = libc.timerfd_create(_REALTIME, _NONBLOCK | _CLOEXEC)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    far = _Spec(0, 0, int(time.time()) + _NEVER, 0)
    if libc.timerfd_settime(timer, _ABSOLUTE | _CANCEL_ON_SET, ctypes.byref(far), None) < 0:
        number = ctypes.get_errno()
        os.close(timer)
        raise OSError(number, "timerfd_settime")
    return timer
