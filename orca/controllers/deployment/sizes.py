"""How large each ReplicaSet of a Deployment should be next: the arithmetic of upstream's rollouts, on plain numbers.

Safety, for every step: the wanted sizes never sum to more than `replicas + surge` unless they already did, and old
pods are only given up while `replicas - unavailable` stay available.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orca.api.objects import Obj

Sizes = dict[str, int]
"""uid of a ReplicaSet -> its wanted `spec.replicas`; only those that change."""


@dataclass(frozen=True, slots=True)
class Member:
    """One ReplicaSet. `replicas` is what its spec asks for, `available` and `actual` what its status reports.
    `desired` and `largest` are the Deployment's size and its size with surge when the set was last scaled (annotations;
    None when missing)."""

    uid: str
    created: datetime
    replicas: int
    available: int = 0
    actual: int = 0
    desired: int | None = None
    largest: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The Deployment's size and how far a rollout may stray from it, in pods."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def most(self) -> int:
        """Most pods at a time."""
        return self.replicas + self.surge

    @property
    def fewest(self) -> int:
        """Fewest available pods."""
        return self.replicas - self.unavailable


def limits_of(deployment: Obj) -> Limits:
    """Percentages resolved: surge is rounded up, unavailable down; both zero would block: one may be missing then."""
    spec = deployment["spec"]
    replicas = replicas_of(deployment)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Limits(replicas, 0, 0)
    rolling = strategy.get("rollingUpdate") or {}
    surge = resolve(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = resolve(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(replicas, surge, min(unavailable, replicas))


def resolve(value: int | str | None, total: int, *, up: bool) -> int:
    """A number, or a percentage of `total`, rounded `up` or down. ValueError for anything else."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError(f"{value!r} is neither a number nor a percentage")
    # Whole numbers only: 7 % of 100 must not become 7.000000000000001 and be rounded up.
    product = int(value[:-1]) * total
    return -(-product // 100) if up else product // 100


def replicas_of(deployment: Obj) -> int:
    """`spec.replicas`, 1 when not given."""
    replicas = deployment["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def first_size(limits: Limits, others: Sequence[Member]) -> int:
    """Size at which a new ReplicaSet starts (or grows to) beside `others` in a rolling update."""
    return grow(limits, 0, sum(member.replicas for member in others))


def grow(limits: Limits, current: int, total: int) -> int:
    """The new set's next size when it has `current` of `total` pods."""
    if total >= limits.most:
        return current
    return current + min(limits.most - total, limits.replicas - current)


def rolling(limits: Limits, new: Member, old: Sequence[Member]) -> Sizes:
    """One step of a rolling update: the new set grows as far as the surge allows, then the old ones give way."""
    sizes: Sizes = {}
    total = new.replicas + sum(member.replicas for member in old)
    if new.replicas > limits.replicas:
        target = limits.replicas
    elif new.replicas < limits.replicas:
        target = grow(limits, new.replicas, total)
    else:
        target = new.replicas
    if target != new.replicas:
        sizes[new.uid] = target
    # Growing adds as many pods to the total as to those not yet available: it leaves no more room below.
    sizes.update(shrink_old(limits, replace(new, replicas=target), old))
    return sizes


def shrink_old(limits: Limits, new: Member, old: Sequence[Member]) -> Sizes:
    """Gives up old pods: first those that are not available anyway, then available ones while enough remain."""
    total = new.replicas + sum(member.replicas for member in old)
    room = total - limits.fewest - max(new.replicas - new.available, 0)
    if room <= 0:
        return {}
    members = sorted(old, key=lambda member: (member.created, member.uid))
    members, sizes = _without_unavailable(members, room)
    available = new.available + sum(member.available for member in members)
    spare = available - limits.fewest
    for member in members:
        if spare <= 0:
            break
        cut = min(member.replicas, spare)
        if cut > 0:
            spare -= cut
            sizes[member.uid] = member.replicas - cut
    return sizes


def _without_unavailable(members: list[Member], room: int) -> tuple[list[Member], Sizes]:
    sizes: Sizes = {}
    kept: list[Member] = []
    for member in members:
        cut = min(room, max(member.replicas - member.available, 0))
        if cut:
            room -= cut
            sizes[member.uid] = member.replicas - cut
            member = replace(member, replicas=member.replicas - cut)
        kept.append(member)
    return kept, sizes


def to_zero(members: Sequence[Member]) -> Sizes:
    """Scales all of them away."""
    return {member.uid: 0 for member in members if member.replicas}


def rescaled(limits: Limits, new: Member | None, old: Sequence[Member], *, is_rolling: bool, there: int = 0) -> Sizes:
    """After `spec.replicas` changed, or while paused: one active set takes the new size; in the middle of a rollout the
    change is spread in proportion to the sets' sizes. `there` is how many pods the Deployment had when last seen."""
    members = [*([new] if new else []), *old]
    active = [member for member in members if member.replicas > 0]
    if len(active) <= 1:
        only = active[0] if active else new or max(old, key=lambda m: (m.created, m.uid), default=None)
        if only is None or only.replicas == limits.replicas:
            return {}
        return {only.uid: limits.replicas}
    if new is not None and is_saturated(limits, new):
        return to_zero(old)
    return spread(limits, active, there=there) if is_rolling else {}


def is_saturated(limits: Limits, new: Member) -> bool:
    """The new set alone already is all that is wanted."""
    return new.replicas == new.desired == new.available == limits.replicas


def spread(limits: Limits, active: Sequence[Member], *, there: int = 0) -> Sizes:
    """Proportional scaling of several active sets; what rounding leaves over goes to the largest."""
    allowed = limits.most if limits.replicas > 0 else 0
    to_add = allowed - sum(member.replicas for member in active)
    if to_add > 0:
        ordered = sorted(active, key=lambda m: (-m.replicas, -m.created.timestamp(), m.uid))
    else:
        ordered = sorted(active, key=lambda m: (-m.replicas, m.created.timestamp(), m.uid))
    sizes = {member.uid: member.replicas for member in ordered}
    added = 0
    if to_add:
        for member in ordered:
            part = _share(limits, member, to_add - added, there)
            sizes[member.uid] += part
            added += part
        for member in ordered:
            # The largest takes what rounding left, the next what would make it negative.
            rest = max(to_add - added, -sizes[member.uid])
            sizes[member.uid] += rest
            added += rest
    return sizes


def _share(limits: Limits, member: Member, left: int, there: int) -> int:
    if member.replicas == 0 or left == 0:
        return 0
    if limits.replicas == 0:
        part = -member.replicas
    else:
        before = member.largest or there
        if not before:
            return 0
        # Rounded half away from zero, in whole numbers.
        part = (2 * member.replicas * limits.most + before) // (2 * before) - member.replicas
    return min(part, left) if left > 0 else max(part, left)
