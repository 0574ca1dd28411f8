"""Whether work grows with what is given and not with its square, on any machine, whatever else that does."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMES = 8
TRIES = 5
"""One that a busy machine did not disturb is enough: what grows with the square does so each time."""


def grows_with_its_size(work: Callable[[int], object], size: int) -> bool:
    """Whether ``TIMES`` as much takes ``TIMES`` as long, or thrice that, and not the square of it. Of CPU time."""
    return any(_cpu(work, TIMES * size) < 3 * TIMES * max(_cpu(work, size), 1e-4) for _ in range(TRIES))


def _cpu(work: Callable[[int], object], size: int) -> float:
    began = time.process_time()
    work(size)
    return time.process_time() - began
