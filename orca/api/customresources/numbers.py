"""Numbers as Go tells them: ``1.0`` is ``1``, so that a client which decodes integers can read them."""

from __future__ import annotations

from typing import Any

_EXACT = 2.0**53


def settle(value: Any) -> None:
    """Make whole numbers integers, in place, in an object or a list and everything below."""
    for place, one in value.items() if isinstance(value, dict) else enumerate(value):
        if one.__class__ is float:
            if -_EXACT <= one <= _EXACT and one.is_integer():
                value[place] = int(one)
        elif one.__class__ is dict or one.__class__ is list:
            settle(one)
