"""What was found out, in one shape for people and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orca.api.objects import Obj
from orca.api.selectors import Selector
from orca.scheduler.profile import Profile


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is in the way: ``says`` what, ``fix`` is the smallest thing that helps ("" when it is time).

    ``waits`` means that it is expected to pass by itself.
    """

    says: str
    fix: str = ""
    details: tuple[str, ...] = ()
    waits: bool = False
    follows: bool = False
    """It only follows from what is told elsewhere, as that a rollout makes no progress."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One rule that one node fails: by how much, and what would change that. ``effort`` compares such changes."""

    rule: str
    says: str
    fix: str
    effort: float


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """All rules that a node fails, in the scheduler's order."""

    node: str
    obstacles: tuple[Obstacle, ...]

    @property
    def effort(self) -> float:
        return sum(one.effort for one in self.obstacles)


@dataclass(frozen=True, slots=True)
class Placement:
    """``whole`` is what concerns the pod and no node; ``fits`` are the nodes where it could run now."""

    nodes: tuple[NodeVerdict, ...] = ()
    whole: tuple[Finding, ...] = ()
    fits: tuple[str, ...] = ()

    @property
    def smallest_change(self) -> NodeVerdict | None:
        """The node that takes the least to take the pod; None when one does already, or there is no node."""
        return (
            None if self.fits or self.whole else min(self.nodes, key=lambda one: (one.effort, one.node), default=None)
        )

    @property
    def summary(self) -> str:
        """Which rules keep how many nodes away, and what the nearest one lacks; "" when some node takes the pod."""
        best = self.smallest_change
        if best is None:
            return ""
        counts = Counter(rule for node in self.nodes for rule in dict.fromkeys(one.rule for one in node.obstacles))
        rules = ", ".join(
            rule if count == len(self.nodes) else f"{rule} ({count})" for rule, count in counts.most_common()
        )
        lacks = "; ".join(one.says for one in best.obstacles)
        if len(self.nodes) == 1:
            return f"the only node, {best.node}, does not take it: {lacks}"
        return f"none of {len(self.nodes)} nodes takes it ({rules}); the nearest is {best.node}: {lacks}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one object. ``title`` is ``kind/name``, ``state`` one line of how it is."""

    title: str
    state: str
    findings: tuple[Finding, ...] = ()
    placement: Placement | None = None
    below: tuple[Explanation, ...] = ()
    """Of the pods of a workload."""

    @property
    def is_well(self) -> bool:
        return not self.findings and self.placement is None and all(one.is_well for one in self.below)

    @property
    def cause(self) -> str:
        """What it comes down to, in one line; "" when nothing is in the way."""
        if serious := next((one for one in self.findings if not one.waits and not one.follows), None):
            return serious.says
        if self.placement is not None and (short := self.placement.summary):
            return short
        if worst := next((one for one in self.below if one.cause and not one.waits), None):
            return f"{worst.title}: {worst.cause}"
        if self.findings:
            return self.findings[0].says
        return f"{self.below[0].title}: {self.below[0].cause}" if self.below else ""

    @property
    def waits(self) -> bool:
        """Whether all that is in the way is expected to pass by itself."""
        return all(one.waits for one in self.findings) and not (self.placement and not self.placement.fits)


@dataclass(slots=True)
class World:
    """What was read of the cluster. ``unread`` names what was not allowed to be read."""

    nodes: Sequence[Obj] = ()
    pods: Sequence[Obj] = ()
    namespaces: Sequence[Obj] = ()
    claims: Sequence[Obj] = ()
    volumes: Sequence[Obj] = ()
    classes: Sequence[Obj] = ()
    csi_nodes: Sequence[Obj] = ()
    profiles: Mapping[str, Profile] | None = None
    """By schedulerName; None: they could not be read, the default rules are taken for the default scheduler's."""
    siblings: Mapping[str, Selector] = field(default_factory=dict)
    """Pod's uid -> what selects it and its like, where a profile's own spread constraints ask for that."""
    leader_renewed: str | None = None
    """When whoever schedules last renewed its lease; None: unknown."""
    events: Sequence[Obj] = ()
    """Of the objects that are explained."""
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    """(pod, container) -> the end of what its last run printed."""
    unread: list[str] = field(default_factory=list)
