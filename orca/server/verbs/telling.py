"""A write of our own components together with the event that tells of it: one transaction for both.

The event never keeps the write from happening: where it cannot be told at once, it is left to the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from orca.api.builtin import EVENTS
from orca.api.errors import ApiError
from orca.api.objects import Obj, name
from orca.server.verbs.core import Call, Core
from orca.server.verbs.creating import composed
from orca.store import Also, Raced

_LONGEST_NAME = 253
_NO_ROOM = 403  # within a quota of events


async def told(
    core: Core, call: Call, space: str, event: Obj, write: Callable[[Sequence[Also]], Awaitable[object]]
) -> bool:
    """Have ``write`` write its object and beside it what it is given: ``event``, which becomes ours, and what a quota
    has to record of that. False when nothing was written on the event's account. Raises what ``write`` raises."""
    if len(name(event)) > _LONGEST_NAME:
        return False
    if core.admission.asks_others(core.attributes(call, "CREATE", EVENTS, space, name(event), event, None)):
        return False  # nothing waits for webhooks that have something to say of its event
    try:
        attributes = await composed(core, call, EVENTS, space, event)
    except ApiError:
        return False
    assert attributes.obj is not None
    beside = Also(EVENTS, space, name(attributes.obj), attributes.obj, 0)

    async def both(also: Sequence[Also]) -> None:
        await write((beside, *also))

    try:
        await core.admission.guard(attributes, both)
    except Raced:
        return False
    except ApiError as error:
        if error.code != _NO_ROOM:
            raise
        return False
    return True
