"""How this process deals with its memory: a small one on a host whose memory is the pods'."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8
_ARENAS = 1
_PACE = (5_000, 5, 3)
"""How many objects may come before the collector looks for cycles among the youngest, how many such looks come before
one at those that outlived one, and of these before one at all. With Python's own (700, 10, 10) it takes a tenth of the
agent's time while fifty pods are started; most objects are gone by then without it. All are looked at as often as with
those: what a pod that went has left waits for that."""
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
    gc.set_threshold(*_PACE)
    give_back()


def give_back() -> None:
    """Return memory that nothing uses to the kernel, also that of cycles among old objects, as pods that went have left
    them; some tens of milliseconds with a hundred pods."""
    gc.collect()
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
