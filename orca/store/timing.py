"""How long etcd takes, by operation and kind: numbers for whoever shows metrics."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_CORE = b"core"
_GROUP = len(b"/registry/")
"""Where the group begins in /registry/<group>/<kind>/..."""


class Timed:
    """A histogram of seconds, and how many requests failed."""

    __slots__ = ("counts", "failed", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.failed = 0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, how many up to it), as Prometheus' exposition wants them."""
        found: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self.counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found


class Times(dict[tuple[str, str], Timed]):
    """(operation, group resource) -> times."""

    def __init__(self) -> None:
        super().__init__()
        self._by_root: dict[tuple[str, bytes], Timed] = {}

    def of(self, operation: str, key: bytes) -> Timed:
        """The times of an operation on what is stored under an etcd key."""
        end = key.find(b"/", key.find(b"/", _GROUP) + 1)
        if end < _GROUP:
            return self._find(operation, key)
        found = self._by_root.get((operation, key[:end]))
        if found is None:
            found = self._by_root[operation, key[:end]] = self._find(operation, key)
        return found

    def _find(self, operation: str, key: bytes) -> Timed:
        parts = key.split(b"/", 4)
        kind = ""
        if len(parts) > 3:
            kind = parts[3].decode() if parts[2] == _CORE else f"{parts[3].decode()}.{parts[2].decode()}"
        found = self.get((operation, kind))
        if found is None:
            found = self[operation, kind] = Timed()
        return found
