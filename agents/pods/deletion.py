"""Whether a pod is to go, and how long it has for that. Pure."""

from __future__ import annotations

from agents.pods.containers import spec_of
from agents.pods.memory import Memory
from orca.api.objects import Obj, is_terminating, meta

MINIMUM_GRACE = 1.0
DEFAULT_GRACE = 30.0


def is_deleting(pod: Obj, memory: Memory) -> bool:
    """The object is marked for deletion or already gone."""
    return memory.removed or is_terminating(pod)


def grace_of(pod: Obj, memory: Memory) -> float:
    """Seconds a pod has to end: the deletion's when there is one, otherwise the spec's; those of this host's own
    decision come before the spec's, and only ever shorten a deletion's."""
    seconds = meta(pod).get("deletionGracePeriodSeconds") if is_deleting(pod, memory) else None
    if seconds is None:
        seconds = spec_of(pod).get("terminationGracePeriodSeconds")
        if memory.doom is not None and memory.doom.grace is not None:
            seconds = memory.doom.grace
    elif memory.doom is not None and memory.doom.grace is not None:
        seconds = min(seconds, memory.doom.grace)
    return max(float(DEFAULT_GRACE if seconds is None else seconds), MINIMUM_GRACE)
