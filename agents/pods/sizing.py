"""What is known of a pod's cpu and memory: what this host has allotted, what waits for room, what is being applied.

The allotment outlives the agent: containers carry what they were made with in a label, and what a resize changed since
is in the pod's directory (``checkpoint.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agents.resources.limits import PERIOD
from orca.api.objects import Obj

POD = ""
"""The key under which the ``resources`` of the pod itself are held among those of its containers."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A resize that is not allotted: condition PodResizePending. ``reason`` is Deferred or Infeasible."""

    reason: str
    message: str
    generation: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """A resize that is allotted and being applied: condition PodResizeInProgress; ``error`` says what is in the way."""

    generation: int
    error: str = ""


@dataclass(slots=True)
class Sizing:
    """The state of one pod's resizes."""

    allotted: dict[str, Obj] = field(default_factory=dict)
    """``resources`` by name of container, for those that can be resized, and of the pod itself (``POD``) when it has
    any; one that is missing has what its spec says."""
    requested: dict[str, int] = field(default_factory=dict)
    """Bytes of memory requested, by container id, where an update in place changed them: the engine does not know."""
    pending: Pending | None = None
    progress: Progress | None = None
    unsaved: bool = False
    """The allotment is not on disk yet: nothing may be applied before it is."""
    restarting: set[str] = field(default_factory=set)
    """Ids of containers that were stopped to be made anew with other sizes."""
    replaced: set[str] = field(default_factory=set)
    """Likewise because their definition has changed: another image."""
    cpus: Mapping[str, str] = field(default_factory=dict)
    """Cpus that containers are to run on, by name, where the host hands them out; a missing one may run on all."""
    exclusive: frozenset[str] = frozenset()
    """Names of containers that have those for themselves; no quota cuts their time short."""
    period: int = PERIOD
    """Of quotas, in microseconds; 0 where the host gives none."""
    whole: bool = True
    """The pod's own cgroup has what is allotted, or will be made with it."""
    in_force: Obj | None = None
    """``resources`` of the pod itself that its cgroup was given before those allotted now."""
    judged: int = -1
    """Generation of the object whose wishes were compared with the allotment."""
