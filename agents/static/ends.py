"""How containers ended, as the statuses of pods told of it first. Pure counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from orca.api.objects import Obj

_KINDS = (
    ("initContainerStatuses", "init_container"),
    ("containerStatuses", "container"),
    ("ephemeralContainerStatuses", "ephemeral_container"),
)


@dataclass(slots=True)
class Ends:
    """``counts``: (kind of container, exit code, reason) -> how many ended so."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def count(self, before: Obj, after: Obj) -> None:
        """The ends that a pod's status tells of now and did not tell of before."""
        for part, kind in _KINDS:
            known = {(one, state.get("containerID")) for one, state in _ends(before, part)}
            for one, state in _ends(after, part):
                if (one, state.get("containerID")) not in known:
                    self.counts[kind, str(state.get("exitCode", 0)), str(state.get("reason") or "")] += 1


def _ends(status: Obj, part: str) -> Iterator[tuple[str, Obj]]:
    """(name of the container, ``terminated``): of the attempt that ended last, and of the one before when told."""
    for one in status.get(part) or ():
        for when in ("state", "lastState"):
            if ended := (one.get(when) or {}).get("terminated"):
                yield one["name"], ended
