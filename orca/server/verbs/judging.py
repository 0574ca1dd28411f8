"""Validation that never keeps the event loop: rules of custom kinds that would take long go on in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orca.api.allowance import TooLong, briefly
from orca.api.errors import FieldError
from orca.api.resources import Resource


async def judged(resource: Resource, validate: Callable[[], list[FieldError]]) -> list[FieldError]:
    """What ``validate`` says. It may be called twice, so it must change nothing."""
    if not resource.custom:
        return validate()
    try:
        with briefly():
            return validate()
    except TooLong:
        return await asyncio.to_thread(validate)
