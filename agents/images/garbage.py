"""Which images go when space gets short: pure. Rules and order are those of the kubelet's image garbage collector."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agents.runtime.model import ImageInfo


@dataclass(frozen=True, slots=True)
class Policy:
    """Percentages are of the disk's use; ages are seconds, ``maximum_age`` 0 for none."""

    high: int = 85
    low: int = 80
    minimum_age: float = 120.0
    maximum_age: float = 0.0


@dataclass(frozen=True, slots=True)
class Use:
    """An image on this host: since when, when a container last had it, and its size in bytes."""

    detected: datetime
    used: datetime | None
    size: int

    @property
    def turn(self) -> tuple[datetime, datetime]:
        """What was used longest ago goes first, what never was before all others."""
        return (self.used or datetime.min.replace(tzinfo=self.detected.tzinfo), self.detected)


def observe(
    known: Mapping[str, Use], images: Iterable[ImageInfo], in_use: Collection[str], now: datetime
) -> dict[str, Use]:
    """By image id, as seen now; what is gone is left out."""
    found = {}
    for image in images:
        use = known.get(image.id) or Use(now, None, image.size)
        found[image.id] = replace(use, size=image.size, used=now if image.id in in_use else use.used)
    return found


def candidates(uses: Mapping[str, Use], in_use: Collection[str], pinned: Collection[str]) -> list[str]:
    """Ids of what could go, in the order in which it would."""
    free = [image for image in uses if image not in in_use and image not in pinned]
    return sorted(free, key=lambda image: (uses[image].turn, image))


def outdated(uses: Mapping[str, Use], among: Iterable[str], policy: Policy, now: datetime) -> list[str]:
    """Those that nothing used for longer than the maximum age. What was never used counts from when it came."""
    if policy.maximum_age <= 0:
        return []
    limit = now - timedelta(seconds=policy.maximum_age)
    return [image for image in among if max(uses[image].used or uses[image].detected, uses[image].detected) < limit]


def bytes_to_free(capacity: int, available: int, policy: Policy) -> int:
    """0 below the high threshold, otherwise what leads down to the low one."""
    available = min(available, capacity)
    if 100 - available * 100 // capacity < policy.high:
        return 0
    return capacity * (100 - policy.low) // 100 - available


def old_enough(use: Use, policy: Policy, now: datetime) -> bool:
    """Whether it may go at all: what came a moment ago is likely to be wanted at once."""
    return now - use.detected >= timedelta(seconds=policy.minimum_age)
