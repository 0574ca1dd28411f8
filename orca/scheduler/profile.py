"""A profile: the rules, weights and arguments that pods of one schedulerName are scheduled by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from orca.scheduler.filters import FILTERS, Filter
from orca.scheduler.scores import SCORES, Score
from orca.scheduler.scores.base import Alone

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


@dataclass(frozen=True, eq=False)
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

    @cached_property
    def alone(self) -> tuple[tuple[Filter, ...], tuple[tuple[int, Alone], ...]]:
        """Filters, and rates with their weights, that look at a node alone."""
        rates = tuple((one.weight, one.rate) for one in self.scores if isinstance(one.rate, Alone))
        return tuple(rule for rule in self.filters if rule.alone), rates

    @cached_property
    def around(self) -> tuple[tuple[Filter, ...], tuple[Score, ...]]:
        """Those that look at more."""
        rules = tuple(rule for rule in self.filters if not rule.alone)
        return rules, tuple(one for one in self.scores if not isinstance(one.rate, Alone))

    def enough(self, nodes: int) -> int:
        """How many possible nodes are compared, of so many nodes (kube-scheduler compares at least 100)."""
        if not self.percentage or nodes < MOST_SMALL:
            return nodes
        return max(nodes * self.percentage // 100, MOST_SMALL)


MOST_SMALL = 100
DEFAULT = Profile()
