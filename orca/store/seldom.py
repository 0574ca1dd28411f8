"""What would be said again with every try is said now and then: logs are for people."""

from __future__ import annotations

from collections.abc import Callable

SECONDS = 5.0


class Seldom:
    """`due` answers whether to say it now: the first time, and again after `SECONDS`. `monotonic` tells the time."""

    __slots__ = ("_monotonic", "_next")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next: float | None = None

    def due(self) -> bool:
        now = self._monotonic()
        if self._next is not None and now < self._next:
            return False
        self._next = now + SECONDS
        return True
