"""What held lately: who acts on what it has seen acts a little late."""

from __future__ import annotations

import math
from collections import defaultdict

from tests.api.chaos.world import Obj

LAG = 15.0
"""Seconds: longer than a paused leader keeps its lease, and its caches then need to catch up."""


class Recent:
    """Values of something by uid, and since when each held."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def note(self, uid: str, value: float, at: float) -> None:
        if not self._seen[uid] or self._seen[uid][-1][1] != value:
            self._seen[uid].append((at, value))

    def within(self, uid: str, at: float) -> list[float]:
        """All values that held within the last `LAG` seconds."""
        seen = self._seen[uid]
        return [
            value for number, (_, value) in enumerate(seen) if number + 1 == len(seen) or seen[number + 1][0] > at - LAG
        ]

    def fell(self, uid: str, at: float) -> bool:
        """Whether a larger value held within the last `LAG` seconds."""
        held = self.within(uid, at)
        return bool(held) and max(held) > held[-1]

    def most(self, uid: str, at: float) -> float:
        return max(self.within(uid, at), default=math.inf)

    def least(self, uid: str, at: float) -> float:
        return min(self.within(uid, at), default=-math.inf)


def uid_of(obj: Obj) -> str:
    return str(obj["metadata"]["uid"])
