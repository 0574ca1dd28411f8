"""What was worked out of texts that clients write, remembered within bounds: of few and short ones.

``functools.lru_cache`` alone bounds their number. A text may be as long as a request, though, and thousands of those
would fill the memory, whether or not they were refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

LONGEST = 512
"""Characters; more than any name, quantity or image has."""


def remembered(most: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Remember what a pure function makes of the last ``most`` texts.

    Where a call more counts, ask an ``lru_cache`` for texts up to ``LONGEST`` and its ``__wrapped__`` for others.
    """

    def decorated(function: Callable[[str], T]) -> Callable[[str], T]:
        kept = lru_cache(maxsize=most)(function)

        def asked(text: str) -> T:
            return kept(text) if len(text) <= LONGEST else function(text)

        asked.__doc__ = function.__doc__
        return asked

    return decorated
