"""A pod's life on this host as a transition table: every move that is not listed is a bug and is refused.

1. PREPARING: sandbox, volumes and images are being made ready.
2. RUNNING: the sandbox is up; containers are started, restarted and probed as the spec says.
3. STOPPING: containers are being ended, because of a deletion, a deadline, an eviction, or because all work is done and
   only sidecars are left.
4. FINISHED: nothing runs and nothing will; sandbox, addresses and volumes are given back, dead containers stay for
   their logs until the object is deleted.
5. RELEASING: a deletion was asked for and nothing runs; everything on the host is being removed.
6. GONE: nothing is left, here or in the API.

A worker that meets a pod for the first time (new pod, or an agent that was restarted) is nowhere yet and may enter at
any state: what is observed decides.
"""

from __future__ import annotations

from enum import Enum


class Life(Enum):
    """States, in the usual order."""

    PREPARING = "preparing"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    RELEASING = "releasing"
    GONE = "gone"


RISING = (Life.PREPARING, Life.RUNNING)
"""A pod here is to run; nothing more of one that is not is started."""
HOLDS_NOTHING = (Life.FINISHED, Life.RELEASING, Life.GONE)
"""A pod here has given back what it asked of this host."""

TRANSITIONS: dict[Life, frozenset[Life]] = {
    Life.PREPARING: frozenset({Life.RUNNING, Life.STOPPING, Life.FINISHED, Life.RELEASING}),
    # Back to PREPARING when the sandbox dies (somebody removed it, host or engine restarted).
    Life.RUNNING: frozenset({Life.PREPARING, Life.STOPPING, Life.FINISHED, Life.RELEASING}),
    Life.STOPPING: frozenset({Life.FINISHED, Life.RELEASING}),
    Life.FINISHED: frozenset({Life.STOPPING, Life.RELEASING}),
    # Back to STOPPING when a container turns up that nobody knew of (an engine that was away).
    Life.RELEASING: frozenset({Life.GONE, Life.STOPPING}),
    Life.GONE: frozenset(),
}


class IllegalMove(Exception):
    """A decision that the table does not allow."""


def move(old: Life | None, new: Life) -> Life:
    """The new state; raises ``IllegalMove`` when the table does not list the step."""
    if old is not None and old is not new and new not in TRANSITIONS[old]:
        raise IllegalMove(f"{old.value} -> {new.value}")
    return new
