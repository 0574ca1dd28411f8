"""A profile: the rules, weights and arguments that pods of one schedulerName are scheduled by."""

from __future__ import annotations

from dataclasses import dataclass

from orca.scheduler.filters import FILTERS, Filter
from orca.scheduler.scores import SCORES, Score

DEFAULT_NAME = "default-scheduler"
BIND_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class PreemptionArgs:
    """How many nodes preemption looks at: the greater of a share (percent) of all nodes and a number."""

    percentage: int = 10
    absolute: int = 100

    def candidates(self, nodes: int) -> int:
        """At most so many of `nodes`."""
        return min(max(nodes * self.percentage // 100, self.absolute), nodes)


TRIED = PreemptionArgs()


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """`preemption` None: nobody is ended for others. `percentage`: of all nodes, how many possible ones are enough to
    choose from; 0: all are compared. `gates`: whether scheduling gates hold pods back."""

    name: str = DEFAULT_NAME
    filters: tuple[Filter, ...] = FILTERS
    scores: tuple[Score, ...] = SCORES
    preemption: PreemptionArgs | None = TRIED
    bind_seconds: float = BIND_SECONDS
    percentage: int = 0
    gates: bool = True

    def enough(self, nodes: int) -> int:
        """How many possible nodes are compared, of so many nodes (kube-scheduler compares at least 100)."""
        if not self.percentage or nodes < MOST_SMALL:
            return nodes
        return max(nodes * self.percentage // 100, MOST_SMALL)


MOST_SMALL = 100
DEFAULT = Profile()
