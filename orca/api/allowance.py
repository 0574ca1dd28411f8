"""How long pure code may take at once: what validates may be asked to give up and be run again beside the event loop.

Only rules of custom kinds ask; everything else is quick. Pure: it neither measures time nor waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_BRIEF: ContextVar[bool] = ContextVar("orca_brief", default=False)


class TooLong(Exception):
    """Given up within :func:`briefly`; without it the same call would go on to its end."""


@contextmanager
def briefly() -> Iterator[None]:
    """Within, what may take long raises TooLong instead."""
    token = _BRIEF.set(True)
    try:
        yield
    finally:
        _BRIEF.reset(token)


def is_brief() -> bool:
    """Whether :func:`briefly` is in force."""
    return _BRIEF.get()
