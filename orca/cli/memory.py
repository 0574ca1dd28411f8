"""How this process deals with the C library's heap."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
_ARENAS = 2


def bound_arenas() -> None:
    """Threads that hardly allocate need no heap each; before the first thread starts. Only glibc knows this."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return free memory to the kernel: after start, much of what reading the schema and the store took."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


_libc = ctypes.CDLL(None)
