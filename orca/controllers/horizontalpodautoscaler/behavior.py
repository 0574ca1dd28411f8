"""How fast a wanted count of replicas may be reached: stabilization windows, policies, bounds. Pure.

Reference: k8s.io/kubernetes ``pkg/controller/podautoscaler/horizontal.go``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orca.api.objects import Obj

DOWNSCALE_STABILIZATION = 300
"""Seconds; ``--horizontal-pod-autoscaler-downscale-stabilization``."""
_BURST_FACTOR, _BURST_LEAST = 2, 4
"""Without ``spec.behavior`` a step up at most doubles, or leads to this many."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """A recommendation, or how many replicas a rescale added or removed."""

    at: datetime
    replicas: int


@dataclass(slots=True)
class History:
    """What one autoscaler recommended and did of late. Lost with the process; a start begins with what runs."""

    recommendations: list[Stamped] = field(default_factory=list)
    ups: list[Stamped] = field(default_factory=list)
    downs: list[Stamped] = field(default_factory=list)

    def rescaled(self, before: int, after: int, now: datetime, behavior: Obj | None) -> None:
        """Remember a rescale as long as a policy asks for it."""
        if after > before:
            self.ups = [*_recent(self.ups, _longest(behavior, "scaleUp"), now), Stamped(now, after - before)]
        elif after < before:
            self.downs = [*_recent(self.downs, _longest(behavior, "scaleDown"), now), Stamped(now, before - after)]

    def recommended(self, replicas: int, now: datetime, window: int) -> None:
        """Remember a recommendation, and none older than ``window`` seconds."""
        self.recommendations = [*_recent(self.recommendations, window, now), Stamped(now, replicas)]


@dataclass(frozen=True, slots=True)
class Step:
    """``replicas`` to go to, and how that came: reasons and messages of AbleToScale and ScalingLimited."""

    replicas: int
    able: tuple[str, str]
    limited: tuple[str, str] | None
    within: tuple[str, str] = ("DesiredWithinRange", "the desired count is within the acceptable range")


_READY = ("ReadyForNewScale", "recommended size matches current size")
_DOWN_STABLE = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_UP_STABLE = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")


def next_step(
    wanted: int, current: int, *, least: int, most: int, behavior: Obj | None, history: History, now: datetime
) -> Step:
    """From the count that metrics ask for to the one to go to; notes the recommendation in ``history``."""
    if behavior is None:
        return _without_behavior(wanted, current, least=least, most=most, history=history, now=now)
    up, down = behavior.get("scaleUp") or {}, behavior.get("scaleDown") or {}
    up_window = int(up.get("stabilizationWindowSeconds") or 0)
    down_window = down.get("stabilizationWindowSeconds")
    down_window = DOWNSCALE_STABILIZATION if down_window is None else int(down_window)
    lowest = min([wanted, *_counts(history.recommendations, up_window, now)])
    highest = max([wanted, *_counts(history.recommendations, down_window, now)])
    stable = min(max(current, lowest), highest)
    history.recommended(wanted, now, max(up_window, down_window))
    able = _READY if stable == wanted else _UP_STABLE if wanted >= current else _DOWN_STABLE
    if stable > current:
        fastest = max(_up_limit(current, up, history, now), current)
        bound, why = (fastest, _UP_LIMIT) if fastest < most else (most, _TOO_MANY)
        return Step(bound, able, why) if stable > bound else Step(stable, able, None)
    if stable < current:
        fastest = min(_down_limit(current, down, history, now), current)
        bound, why = (fastest, _DOWN_LIMIT) if fastest > least else (least, _TOO_FEW)
        return Step(bound, able, why) if stable < bound else Step(stable, able, None)
    return Step(stable, able, None)


def _without_behavior(wanted: int, current: int, *, least: int, most: int, history: History, now: datetime) -> Step:
    stable = max([wanted, *_counts(history.recommendations, DOWNSCALE_STABILIZATION, now)])
    history.recommended(wanted, now, DOWNSCALE_STABILIZATION)
    able = _READY if stable == wanted else _DOWN_STABLE
    fastest = max(_BURST_FACTOR * current, _BURST_LEAST)
    bound, why = (fastest, _UP_LIMIT) if most > fastest else (most, _TOO_MANY)
    if stable < least:
        return Step(least, able, _TOO_FEW)
    return Step(bound, able, why) if stable > bound else Step(stable, able, None)


def _up_limit(current: int, rules: Obj, history: History, now: datetime) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits = []
    for policy in rules.get("policies") or ():
        before = _at_period_start(current, policy, history, now)
        value = int(policy["value"])
        limits.append(before + value if policy["type"] == "Pods" else math.ceil(before * (1 + value / 100)))
    choose = min if rules.get("selectPolicy") == "Min" else max
    return choose(limits, default=current)


def _down_limit(current: int, rules: Obj, history: History, now: datetime) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits = []
    for policy in rules.get("policies") or ():
        before = _at_period_start(current, policy, history, now)
        value = int(policy["value"])
        limits.append(before - value if policy["type"] == "Pods" else int(before * (1 - value / 100)))
    # The policy that changes least leaves the most replicas.
    choose = max if rules.get("selectPolicy") == "Min" else min
    return choose(limits, default=current)


def _at_period_start(current: int, policy: Obj, history: History, now: datetime) -> int:
    period = int(policy["periodSeconds"])
    added = sum(_counts(history.ups, period, now))
    removed = sum(_counts(history.downs, period, now))
    return current - added + removed


def _counts(stamped: Sequence[Stamped], seconds: int, now: datetime) -> list[int]:
    return [one.replicas for one in _recent(stamped, seconds, now)]


def _recent(stamped: Iterable[Stamped], seconds: int, now: datetime) -> list[Stamped]:
    since = now - timedelta(seconds=seconds)
    return [one for one in stamped if one.at > since]


def _longest(behavior: Obj | None, direction: str) -> int:
    policies = ((behavior or {}).get(direction) or {}).get("policies") or ()
    return max((int(policy["periodSeconds"]) for policy in policies), default=0)
