"""How much is made of long lists before others get their turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

OBJECTS = 16
BYTES = 64 * 1024


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=_Sized)


def portions(entries: Sequence[T], objects: int = OBJECTS) -> Iterator[Sequence[T]]:
    """All entries in order, so many at a time, and fewer where they are large: one alone may be as large as it is."""
    first = held = 0
    for place, entry in enumerate(entries):
        size = entry.size
        if place > first and (place - first == objects or held + size > BYTES):
            yield entries[first:place]
            first, held = place, 0
        held += size
    if first < len(entries):
        yield entries[first:]
