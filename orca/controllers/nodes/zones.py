"""How much of each zone is gone, and how fast its nodes may be given up. Pure.

Reference: k8s.io/kubernetes ``pkg/controller/nodelifecycle`` (handleDisruption): zones are judged apart, each has its
own pace, and when no zone has a ready node left nobody is driven away, for then it is this side that is cut off.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto

from orca.api.objects import Obj, labels, name
from orca.controllers import conditions
from orca.controllers.config import EvictionConfig

Zone = tuple[str, str]
"""(region, zone), "" for those that a node's labels do not tell: what is lost together."""
_REGIONS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
_ZONES = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
EXCLUDED = "node.kubernetes.io/exclude-disruption"
"""Label of nodes that say nothing about their zone."""
STANDSTILL = 5.0
"""Seconds after which a zone at a standstill is looked at again."""


class Disruption(Enum):
    """How much of a zone is gone."""

    NORMAL = auto()
    PARTIAL = auto()
    FULL = auto()


def zone_of(node: Obj) -> Zone:
    """By its labels."""
    found = labels(node)
    region, zone = (next((found[one] for one in names if found.get(one)), "") for names in (_REGIONS, _ZONES))
    return region, zone


def disruption(ready: int, lost: int, threshold: float) -> Disruption:
    """FULL when no node is ready, PARTIAL when more than two and at least the share `threshold` are not."""
    if lost and not ready:
        return Disruption.FULL
    if lost > 2 and lost / (lost + ready) >= threshold:
        return Disruption.PARTIAL
    return Disruption.NORMAL


def rate(state: Disruption, nodes: int, config: EvictionConfig) -> float:
    """Nodes per second that may be given up of a zone of so many, where another one is well: a zone that is gone
    altogether is gone, one that is gone in part may be hard to reach."""
    if state is Disruption.PARTIAL:
        return config.secondary_rate if nodes > config.large_cluster else 0.0
    return config.rate


@dataclass(slots=True)
class Bucket:
    """One node at once, then `rate` nodes a second."""

    tokens: float = 1.0
    filled: float = 0.0

    def take(self, rate: float, now: float) -> float:
        """0 when a node may be given up now, otherwise the seconds to wait. `now` is monotonic."""
        self.tokens = min(1.0, self.tokens + (now - self.filled) * rate)
        self.filled = now
        if rate <= 0:
            return STANDSTILL
        # A wait that was slept through to the microsecond must be enough.
        if self.tokens > 1.0 - 1e-6:
            self.tokens -= 1.0
            return 0.0
        return (1.0 - self.tokens) / rate


class Zones:
    """Counts nodes by zone as they change, so that one node's look costs nothing by the others' number."""

    def __init__(self, config: EvictionConfig) -> None:
        self._config = config
        self._nodes: dict[str, tuple[Zone, bool]] = {}
        self._counts: Counter[tuple[Zone, bool]] = Counter()
        self._buckets: dict[Zone, Bucket] = {}

    def __repr__(self) -> str:
        return f"<Zones {dict(self._counts)}>"

    def put(self, node: Obj) -> None:
        """Take in a node's labels and readiness."""
        self.remove(name(node))
        if EXCLUDED not in labels(node):
            counted = zone_of(node), conditions.status_of(node, "Ready") == "True"
            self._nodes[name(node)] = counted
            self._counts[counted] += 1

    def remove(self, node_name: str) -> None:
        """Forget a node."""
        counted = self._nodes.pop(node_name, None)
        if counted is not None:
            self._counts[counted] -= 1
            if not self._counts[counted]:
                del self._counts[counted]

    @property
    def blind(self) -> bool:
        """There are nodes, and none of any zone is ready."""
        return bool(self._counts) and not any(ready for _, ready in self._counts)

    def take(self, node: Obj, now: float) -> float:
        """0 when the node may be given up now, otherwise the seconds to wait. `now` is monotonic."""
        if self.blind:
            return STANDSTILL
        zone = zone_of(node)
        ready, lost = self._counts[zone, True], self._counts[zone, False]
        state = disruption(ready, lost, self._config.unhealthy_zone_threshold)
        bucket = self._buckets.setdefault(zone, Bucket())
        return bucket.take(rate(state, ready + lost, self._config), now)
