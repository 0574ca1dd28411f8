"""What this host is to announce, and what it does about somebody else who does the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orca.api.objects import Obj, key

ANNOUNCED_BY = "orca.io/announced-by"
"""Annotation of a Service: the node that answers for its addresses; a controller's."""
CLASS = "orca.io/layer2"
FORSAKEN_SECONDS = 7.0
"""Without a renewed lease for so long others may have been given what this host announces: one less than they wait."""
DEFEND_SECONDS = 10.0
"""Between two protests against somebody who uses an address of ours (RFC 5227, 2.4)."""
PATIENCE_SECONDS = 0.3
"""Before a protest: when an address is handed over, the other host often hears of it a moment earlier."""
TOLD_AT = (0.0, 0.3, 1.0, 3.0, 8.0)
"""Seconds after the beginning at which everybody is told where an address is now; one of these frames may get lost."""
TOLD_EVERY = 60.0


def assigned(services: Iterable[Obj], node_name: str) -> dict[str, str]:
    """Address -> "namespace/name" of the Service, for all that this node is to announce."""
    found = {}
    for service in services:
        notes = service["metadata"].get("annotations") or {}
        spec = service.get("spec") or {}
        if (
            notes.get(ANNOUNCED_BY) != node_name
            or spec.get("type") != "LoadBalancer"
            or spec.get("loadBalancerClass") not in (None, CLASS)
        ):
            continue
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        for entry in balancer.get("ingress") or ():
            if entry.get("ip"):
                found[str(entry["ip"])] = key(service)
    return found


@dataclass(slots=True)
class Announced:
    """One address: where, and when everybody was told of it last. Times are monotonic seconds."""

    address: str
    service: str
    interface: str
    since: float
    told: int = 0
    """How many of `TOLD_AT` are done."""
    last_told: float = 0.0
    defended: float = float("-inf")
    protest: float = float("inf")
    """When somebody who uses the address hears of us."""

    def due(self) -> float:
        """When everybody is told next."""
        if self.told < len(TOLD_AT):
            return min(self.protest, self.since + TOLD_AT[self.told])
        return min(self.protest, self.last_told + TOLD_EVERY)

    def contested(self, now: float) -> bool:
        """Somebody else uses the address; whether that is new."""
        if self.protest < float("inf") or now - self.defended < DEFEND_SECONDS:
            return False
        self.protest = now + PATIENCE_SECONDS
        return True

    def tell(self, now: float) -> None:
        """It was just told."""
        if now >= self.protest:
            self.protest, self.defended = float("inf"), now
        else:
            self.told = min(self.told + 1, len(TOLD_AT))
        self.last_told = now


def yields(*, silent: float, api_says_so: bool) -> bool:
    """Whether a host that hears its address claimed by another lets go of it.

    One that is heard of by the API was not replaced: the other is a stranger, and gets a protest. One that is not may
    have been replaced. As long as nobody claims the address it goes on: then the API is away for all, and nobody can
    take over. ``silent``: seconds in which nothing was heard of the API.
    """
    return not api_says_so or silent >= FORSAKEN_SECONDS
