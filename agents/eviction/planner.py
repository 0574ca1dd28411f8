"""Which thresholds are met, which conditions the node has, and what is to be reclaimed next: a pure step from one state
to the next.

1. A threshold is met while less is left than it wants; one that eviction acted upon stays met until its minimum reclaim
   is satisfied, too.
2. A condition holds from the first look at which a threshold of its kind is met (whatever its grace) until none has
   been for the transition period.
3. Only thresholds that have been met for their grace period are acted upon, memory first, one signal a round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agents.eviction.observations import Observation, Observations
from agents.eviction.thresholds import CONDITIONS, MEMORY_SIGNALS, RESOURCES, Threshold

CONDITION_ORDER = ("MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(frozen=True, slots=True)
class State:
    """What one look leaves for the next."""

    met: tuple[Threshold, ...] = ()
    """Met for their grace, and not resolved yet."""
    first_met: Mapping[Threshold, datetime] = field(default_factory=dict)
    last_seen: Mapping[str, datetime] = field(default_factory=dict)
    """Condition -> when a threshold of its kind was last met."""
    observed: Observations = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Round:
    """``conditions`` the node has now, ``threshold`` to act upon (None: nothing runs short), ``due`` all that are."""

    conditions: tuple[str, ...]
    threshold: Threshold | None = None
    due: tuple[Threshold, ...] = ()

    @property
    def resource(self) -> str:
        """What is to be reclaimed."""
        return RESOURCES[self.threshold.signal] if self.threshold is not None else ""


def look(
    state: State, thresholds: Sequence[Threshold], observed: Observations, transition: float, now: datetime
) -> tuple[State, Round]:
    """One look. ``transition`` is the pressure transition period in seconds."""
    met = list(met_by(thresholds, observed))
    met += [one for one in met_by(state.met, observed, with_reclaim=True) if one not in met]
    first_met = {one: state.first_met.get(one, now) for one in met}
    last_seen = {**state.last_seen, **{CONDITIONS[one.signal]: now for one in met}}
    conditions = {condition for condition, at in last_seen.items() if (now - at).total_seconds() < transition} | {
        CONDITIONS[one.signal] for one in met
    }
    due = tuple(one for one, at in first_met.items() if (now - at).total_seconds() >= one.grace)
    fresh = [one for one in due if _is_newer(observed.get(one.signal), state.observed.get(one.signal))]
    fresh.sort(key=lambda one: one.signal not in MEMORY_SIGNALS)
    after = State(
        met=due,
        first_met=first_met,
        last_seen={condition: at for condition, at in last_seen.items() if condition in conditions},
        observed=dict(observed),
    )
    ordered = tuple(condition for condition in CONDITION_ORDER if condition in conditions)
    return after, Round(ordered, fresh[0] if fresh else None, tuple(fresh))


def met_by(thresholds: Sequence[Threshold], observed: Observations, *, with_reclaim: bool = False) -> list[Threshold]:
    """Those whose signal has less left than they want."""
    found = []
    for one in thresholds:
        seen = observed.get(one.signal)
        if seen is not None and one.quantity(seen.capacity, with_reclaim=with_reclaim).value > seen.available:
            found.append(one)
    return found


def _is_newer(observation: Observation | None, before: Observation | None) -> bool:
    """Acting twice upon one measurement would evict a second pod for what the first has freed already."""
    return observation is not None and (before is None or observation.at > before.at)
