"""How this process deals with its memory: a small one on a host whose memory is the pods'."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8
_ARENAS = 1
_YOUNG = 5_000
"""Objects that may come before the collector looks for cycles among them. Python's own 700 has it look while fifty
pods are started at a tenth of the agent's time; most objects are gone by then without it."""
_libc = ctypes.CDLL(None)


def bound() -> None:
    """Threads that hardly allocate need no heap each; call before the first thread starts. Only glibc knows this."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def settle() -> None:
    """What was loaded stays: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    give_back()


def give_back() -> None:
    """Return free memory to the kernel; some tenths of a millisecond."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
