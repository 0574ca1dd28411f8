"""What was found out, in one shape for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orca.api.objects import Obj


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is in the way: ``says`` what, ``fix`` is the smallest thing that helps ("" when it is time).

    ``waits`` means that it is expected to pass by itself.
    """

    says: str
    fix: str = ""
    details: tuple[str, ...] = ()
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One rule that one node fails: by how much, and what would change that. ``effort`` compares such changes."""

    rule: str
    says: str
    fix: str
    effort: int


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """All rules that a node fails, in the scheduler's order."""

    node: str
    obstacles: tuple[Obstacle, ...]

    @property
    def effort(self) -> int:
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
    events: Sequence[Obj] = ()
    """Of the objects that are explained."""
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    """(pod, container) -> the end of what its last run printed."""
    unread: list[str] = field(default_factory=list)
