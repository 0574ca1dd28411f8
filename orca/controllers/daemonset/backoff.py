"""How soon a failed daemon pod is replaced: later each time, for a host may refuse every pod it is given.

Reference: the daemon controller's failedPodsBackoff: a second at first, doubled up to a quarter of an hour, by node and
by observed generation, and forgotten after twice the longest pause. Kept in memory alone: a controller that starts
anew tries at once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from orca.api.objects import Obj, uid

FIRST, LONGEST = timedelta(seconds=1), timedelta(minutes=15)
_Key = tuple[str, int]
"""uid of the DaemonSet and its observed generation."""


@dataclass(frozen=True, slots=True)
class _Pause:
    length: timedelta
    since: datetime


class FailureBackoff:
    """The pauses of all DaemonSets."""

    def __init__(self) -> None:
        self._pauses: dict[_Key, dict[str, _Pause]] = {}

    def __repr__(self) -> str:
        return f"<FailureBackoff of {len(self._pauses)} DaemonSets>"

    def waits(self, daemonset: Obj, now: datetime) -> dict[str, float]:
        """Node name -> seconds until failed pods there may be replaced; only nodes where that is not yet."""
        found = self._pauses.get(_key(daemonset), {})
        left = {node: (one.since + one.length - now).total_seconds() for node, one in found.items()}
        return {node: seconds for node, seconds in left.items() if seconds > 0}

    def note(self, daemonset: Obj, node: str, now: datetime) -> None:
        """A failed pod on that node is replaced now."""
        for other in [other for other in self._pauses if other[0] == uid(daemonset) and other != _key(daemonset)]:
            del self._pauses[other]
        nodes = self._pauses.setdefault(_key(daemonset), {})
        for old in [old for old, one in nodes.items() if now - one.since > 2 * LONGEST]:
            del nodes[old]
        before = nodes.get(node)
        nodes[node] = _Pause(min(2 * before.length, LONGEST) if before else FIRST, now)

    def forget(self, daemonset: Obj) -> None:
        """It is gone."""
        for key in [key for key in self._pauses if key[0] == uid(daemonset)]:
            del self._pauses[key]


def _key(daemonset: Obj) -> _Key:
    return uid(daemonset), (daemonset.get("status") or {}).get("observedGeneration", 0)
