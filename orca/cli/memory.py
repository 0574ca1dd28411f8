"""How this process deals with the C library's heap."""

from __future__ import annotations

import ctypes

from orca.client.clock import Clock

_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1
_ARENAS = 2
_LARGE = 1024 * 1024
"""Bytes. Every read from a connection and every piece of a list takes a buffer of 256 KiB: mapped each time for itself,
page by page, these would cost more than what is done with them."""
_SLACK = 64 * 1024 * 1024
"""Free bytes at the end of the heap that stay there from burst to burst, until ``give_back``."""
TRIM_SECONDS = 10.0


def bound_heap() -> None:
    """Threads that hardly allocate need no heap each; call before the first thread starts. Only glibc knows this."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        # What is larger is mapped for itself, and so leaves no holes.
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _SLACK)


def give_back() -> None:
    """Return free memory to the kernel: after start, much of what reading the schema and the store took."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


async def keep_giving_back(clock: Clock) -> None:
    """After every burst, until cancelled; it costs a tenth of a millisecond."""
    while True:
        await clock.sleep(TRIM_SECONDS)
        give_back()


_libc = ctypes.CDLL(None)
